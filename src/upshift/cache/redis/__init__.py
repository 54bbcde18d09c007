"""The cache in Redis or Valkey: tokens and values that all processes share, behind those in memory.

Flows in: a URL or a client of redis-py; calls of cached functions, and transactions of hooked engines.
Flows out: values that hold, as of a look at Redis. `tokens` tells what makes that right when it is away.
"""

from upshift.cache.redis.functions import SharedCached
from upshift.cache.redis.heart import Timing
from upshift.cache.redis.opening import InRedis
from upshift.cache.redis.remote import Remote
from upshift.cache.redis.shared import Shared
from upshift.cache.redis.tokens import RedisTokens
from upshift.cache.redis.values import SharedValues

__all__ = ["InRedis", "RedisTokens", "Remote", "Shared", "SharedCached", "SharedValues", "Timing"]
