"""A cache that is never stale: what it serves is as new as the last commit.

Flows in: statements of hooked engines, by which it knows what was read and written.
Flows out: values of cached functions, each checked against the tokens of what it was computed from.
"""

from upshift.cache.aio import AsyncCache
from upshift.cache.cache import Cache
from upshift.cache.entities import Entities, with_cached_get
from upshift.cache.functions import MISSING, CachedAsyncFunction, CachedFunction
from upshift.cache.statistics import Statistics
from upshift.cache.writes import DeadLetter, WriteBehind, Writes, WriteStatistics

__all__ = [
    "MISSING",
    "AsyncCache",
    "Cache",
    "CachedAsyncFunction",
    "CachedFunction",
    "DeadLetter",
    "Entities",
    "Statistics",
    "WriteBehind",
    "WriteStatistics",
    "Writes",
    "with_cached_get",
]
