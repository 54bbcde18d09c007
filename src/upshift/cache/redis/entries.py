"""What stands in Redis under the key of an entry: the stamp that it was loaded with, and its value as bytes.

Whatever cannot be read is taken for nothing. Who can write there can forge values, but has nothing run.
"""

from __future__ import annotations

import struct
from hashlib import blake2b
from itertools import repeat
from typing import TYPE_CHECKING, Any

import msgspec

from upshift.cache.values import name_of
from upshift.errors import CacheKeyError

if TYPE_CHECKING:
    from upshift.cache.memory import Key
    from upshift.cache.redis.tokens import Stamp

_MARK = b"UC1"
_HEAD = struct.Struct(">3sI")
_HEAD_BYTES = _HEAD.size

MAX_NAME = 200
"""Characters of a key that are to be read in Redis."""

_BUILTINS = frozenset({
    "bool", "bytes", "complex", "float", "int", "NoneType", "Decimal", "UUID",
    "date", "datetime", "time", "timedelta",
})  # fmt: skip


class Header(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What is known of an entry beside its value.

    Attributes:
        fence: the fence that it was stamped under.
        tags: what it depends on.
        tokens: their tokens.
        made: when it was loaded, in seconds since 1970 by the clock of who did.
        seconds: how long it may be served from then on; None for no limit.
    """

    fence: bytes
    tags: tuple[str, ...]
    tokens: list[bytes]
    made: float
    seconds: float | None

    def stamp(self) -> Stamp:
        """Return the stamp, as `RedisTokens` compares it."""
        return tuple(zip(self.tags, repeat(self.fence), self.tokens))

    def seconds_left(self, now: float) -> float | None:
        """Return how long it may be served yet; a clock that went back makes it no longer."""
        return None if self.seconds is None else self.seconds - max(now - self.made, 0.0)


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Header).decode


def packed(header: Header, payload: bytes) -> bytes:
    """Return an entry as bytes."""
    head = _encode(header)
    return b"".join((_HEAD.pack(_MARK, len(head)), head, payload))


def unpacked(data: object) -> tuple[Header, bytes] | None:
    """Return an entry's header and its value's bytes; None where these are none.

    Example:
        >>> header = Header(b"fence", ("table:dish",), [b"token"], 1_764_500_000.0, 60.0)
        >>> unpacked(packed(header, b"value")) == (header, b"value")
        True
        >>> unpacked(packed(header, b"")[:-3]) is None
        True
    """
    if not isinstance(data, bytes) or len(data) < _HEAD_BYTES:
        return None
    mark, size = _HEAD.unpack_from(data)
    end = _HEAD_BYTES + size
    if mark != _MARK or len(data) < end:
        return None
    try:
        header = _decode(data[_HEAD_BYTES:end])
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    if len(header.tags) != len(header.tokens):
        return None
    return header, data[end:]


def name_of_key(key: Key) -> bytes:
    """Return the name of a key in Redis: as people write it, for patterns, and what tells it from others.

    Raises:
        CacheKeyError: a part of it means nothing in another process.

    Example:
        >>> name_of_key(("shop.menu", 7)), name_of_key(("values", "rate"))
        (b'shop.menu:7|', b'rate|877735ee220232a6')
    """
    namespace, within = key
    if type(within) is int:
        return f"{namespace}:{within}|".encode("utf-8", "surrogatepass")
    exact = _text((namespace, within), namespace).encode("utf-8", "surrogatepass")
    name = name_of(key).replace("|", ":")[:MAX_NAME].encode("utf-8", "surrogatepass")
    return b"%b|%b" % (name, blake2b(exact, digest_size=8).hexdigest().encode())


def pattern_of(pattern: str) -> bytes:
    """Return what Redis matches the names of keys with, of a pattern of `Cache.delete_matching`.

    Example:
        >>> pattern_of("orders:[!7]*")
        b'orders:[^7]*|*'
    """
    glob = pattern.replace("\\", "\\\\").replace("[!", "[^").replace("|", ":")
    return glob.encode("utf-8", "surrogatepass") + b"|*"


def _text(part: Any, namespace: str) -> str:
    if isinstance(part, str):
        return repr(str(part))
    if isinstance(part, tuple):
        return f"({','.join([_text(each, namespace) for each in part])})"
    if isinstance(part, frozenset):
        return f"{{{','.join(sorted([_text(each, namespace) for each in part]))}}}"
    if type(part).__name__ in _BUILTINS:
        return repr(part)
    raise CacheKeyError(
        f"a key of {namespace} has a part of the type {type(part).__qualname__}, which means nothing in "
        "another process: have key= return texts, numbers, or tuples of these"
    )
