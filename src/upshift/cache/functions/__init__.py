"""Cached functions: what `Cache.cached` makes of a function.

Flows in: calls. Flows out: values that hold, each loaded once for all who ask for it.
"""

from upshift.cache.functions.background import Background
from upshift.cache.functions.cached import Cached
from upshift.cache.functions.calls import Call, arguments_of
from upshift.cache.functions.entries import JITTER, entry_of, value_of
from upshift.cache.functions.flights import Flights
from upshift.cache.functions.handles import (
    CachedAsyncFunction,
    CachedFunction,
    Decorator,
    handle,
)
from upshift.cache.functions.kept_errors import KeptError
from upshift.cache.functions.missing import MISSING, Missing
from upshift.cache.functions.options import options_of
from upshift.cache.functions.store import Store, name_tag, namespace_tag

__all__ = [
    "JITTER",
    "MISSING",
    "Background",
    "Cached",
    "CachedAsyncFunction",
    "CachedFunction",
    "Call",
    "Decorator",
    "Flights",
    "KeptError",
    "Missing",
    "Store",
    "arguments_of",
    "entry_of",
    "handle",
    "name_tag",
    "namespace_tag",
    "options_of",
    "value_of",
]
