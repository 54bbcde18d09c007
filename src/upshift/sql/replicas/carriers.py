"""How a position comes from one request of a client to its next: with the client, signed, or in Redis."""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING, Any, Literal, Protocol

import anyio
from starlette.datastructures import Headers

from upshift.sql.replicas.position import BEYOND, Position

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.datastructures import MutableHeaders
    from starlette.types import Scope

    from upshift.sql.replicas.tokens import Tokens

logger = logging.getLogger("upshift.sql")

HEADER = "x-upshift-position"
COOKIE = "upshift-position"
REDIS_SECONDS = 0.25
"""How long Redis may take; after that the request goes on without it."""

MAX_COOKIE_HEADER = 16_384
"""Characters of a Cookie header that is read."""


class Carrier(Protocol):
    """Carries positions."""

    async def take(self, scope: Scope) -> Position | None:
        """Return what a request must see; None for nothing in particular."""

    async def give(
        self, scope: Scope, headers: MutableHeaders | None, position: Position, seconds: float
    ) -> bool:
        """Have the client's next requests see a position, for so many seconds.

        Args:
            scope: the request.
            headers: those of its response; None where it has begun.
            position: what they must see.
            seconds: how long.

        Returns:
            Whether they will.
        """


class SignedCarrier:
    """Gives the client a signed token, which its next request brings.

    Args:
        tokens: signs and reads them.
        kind: a cookie, for browsers; or the header `X-Upshift-Position`, which API clients send back.
    """

    def __init__(self, tokens: Tokens, kind: Literal["cookie", "header"]) -> None:
        self._tokens = tokens
        self._kind = kind

    async def take(self, scope: Scope) -> Position | None:
        """Return the position in the request's token; None where it has no valid one."""
        headers = Headers(scope=scope)
        if self._kind == "header":
            return self._tokens.read(headers.get(HEADER, ""))
        text = headers.get("cookie", "")
        if COOKIE not in text or len(text) > MAX_COOKIE_HEADER:
            return None
        for part in text.split(";"):
            name, _, value = part.strip().partition("=")
            if name == COOKIE:
                return self._tokens.read(value)
        return None

    async def give(
        self, scope: Scope, headers: MutableHeaders | None, position: Position, seconds: float
    ) -> bool:
        """Put a token into the response, if that has not begun."""
        if headers is None:
            return False
        token = self._tokens.make(position, seconds)
        if self._kind == "header":
            headers[HEADER] = token
        else:
            secure = "; Secure" if scope.get("scheme") == "https" else ""
            attributes = f"Path=/; Max-Age={int(seconds)}; HttpOnly; SameSite=Lax{secure}"
            headers.append("set-cookie", f"{COOKIE}={token}; {attributes}")
        return True


class RedisCarrier:
    """Keeps each client's position in Redis, for clients that the application can tell apart.

    Several requests of one client at a time are no trouble, other than with cookies, and neither is a write
    after the response. It costs a round trip to Redis for each request of a known client.

    Without Redis nobody can tell who has written, so clients that are known read from the primary.

    Args:
        redis: an async client of redis-py's, or one like it.
        client_of: tells who a request is from, such as its session's id; None where nobody knows.
        prefix: begins the keys. What follows is a hash, so that Redis holds nobody's session id.

    Attributes:
        faults: times when Redis did not answer as it should.

    Example:
        >>> from redis.asyncio import Redis
        >>> carrier = RedisCarrier(Redis(), lambda scope: scope.get("session", {}).get("user"))
    """

    # The latest position stays. The primary's own ("beyond") gives way to any: it is read after that.
    _KEEP_LATEST = """
        local before = redis.call('GET', KEYS[1])
        if not before or before == ARGV[3] or before < ARGV[1] then
            redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
        end
    """

    def __init__(
        self,
        redis: Any,  # noqa: ANN401 - redis-py's client, or one like it
        client_of: Callable[[Scope], str | None],
        *,
        prefix: str = "upshift:position:",
    ) -> None:
        self._redis = redis
        self._client_of = client_of
        self._prefix = prefix
        self.faults = 0

    async def take(self, scope: Scope) -> Position | None:
        """Return what is kept of the request's client."""
        client = self._client_of(scope)
        if client is None:
            return None
        try:
            with anyio.fail_after(REDIS_SECONDS):
                kept = await self._redis.get(self._key(client))
            return _read(kept) if kept else None
        except Exception as error:  # noqa: BLE001 - whatever it is, the request goes on
            self._note(error)
            return BEYOND

    async def give(
        self,
        scope: Scope,
        headers: MutableHeaders | None,  # noqa: ARG002 - nothing is told to the client
        position: Position,
        seconds: float,
    ) -> bool:
        """Keep the position, unless a later one is kept."""
        client = self._client_of(scope)
        if client is None:
            return False
        try:
            with anyio.fail_after(REDIS_SECONDS):
                milliseconds = int(seconds * 1000)
                arguments = (self._key(client), _written(position), milliseconds, _written(BEYOND))
                await self._redis.eval(self._KEEP_LATEST, 1, *arguments)
        except Exception as error:  # noqa: BLE001 - likewise
            self._note(error)
            return False
        return True

    def _key(self, client: str) -> str:
        return self._prefix + hashlib.sha256(client.encode()).hexdigest()

    def _note(self, error: Exception) -> None:
        self.faults += 1
        if self.faults == 1:
            logger.warning("Redis does not tell who has written (%s); clients read from the primary", error)


def _written(position: Position) -> str:
    """Text that is in the order of positions.

    Example:
        >>> _written(Position(1, 255))
        '0000000100000000000000ff'
    """
    return f"{position.timeline:08x}{position.lsn:016x}"


def _read(kept: bytes | str) -> Position:
    text = kept.decode() if isinstance(kept, bytes) else kept
    return Position(int(text[:8], 16), int(text[8:], 16))
