"""The cache in Redis or Valkey: tokens that all processes share, and values behind those in memory.

Flows in: keys, stamps and encoded values; a URL or a client of redis-py.
Flows out: tokens by `RedisTokens`, whose module tells what makes them right when Redis is away.
"""

from upshift.cache.redis.heart import Timing
from upshift.cache.redis.remote import Remote
from upshift.cache.redis.tokens import RedisTokens

__all__ = ["RedisTokens", "Remote", "Timing"]
