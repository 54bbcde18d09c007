"""Mapped objects from the cache: by key and by list, each session with objects of its own.

Flows in: sessions that ask for objects. Flows out: objects that belong to them, as a query would have brought
them; what was kept is bytes (`upshift.cache.codec`), so no two sessions ever share an object.
"""

from upshift.cache.entities.entities import Entities
from upshift.cache.entities.gets import with_cached_get

__all__ = ["Entities", "with_cached_get"]
