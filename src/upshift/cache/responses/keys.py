"""Keys of requests: what an answer depends on beside the data.

That is the address asked for with its scheme and host, also as proxies tell them, since answers contain
links; the query in an order of its own; the request's `Origin`, as CORS headers follow from it, often without
a word in `Vary`; the header fields by which the application's answers are known to vary; and the identity
that the application tells.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote_plus

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

    from starlette.types import Scope

MAX_KEY = 8_192
"""Bytes of a key of an answer that is stored."""


Key = tuple["Hashable", ...]
"""What stands for a request: place, scheme, path, query, identity, and the values of header fields."""

ALWAYS = (b"host", b"origin", b"x-forwarded-host", b"x-forwarded-prefix", b"x-forwarded-proto")
"""Header fields whose values are in every key, before those that answers are known to vary by: an application
may take its own address from any of them, and nobody may put another one into what others are given."""

BEFORE_FIELDS = 5
"""What stands in a key before the values of header fields."""


def key_of(place: int, scope: Scope, identity: Hashable, values: Iterable[bytes | None]) -> Key:
    """Return the key of a request. Two requests of one key are answered alike.

    Args:
        place: tells applications apart that share a cache.
        scope: the request's ASGI scope.
        identity: for whom the answer is.
        values: those of the header fields that count, each in its place.
    """
    query = scope["query_string"]
    return (
        place,
        scope["scheme"],
        scope["path"],
        canonical_query(query) if b"&" in query else query,
        identity,
        *values,
    )


def is_of(key: Key, names: Sequence[bytes]) -> bool:
    """Whether a key has the values of these header fields."""
    return len(key) == BEFORE_FIELDS + len(names)


def length_of(key: Key) -> int:
    """Return about how many bytes a key takes.

    Example:
        >>> length_of((0, "http", "/products", b"page=2", "Mei", b"shop.example", None))
        34
    """
    return sum(len(each) for each in key if isinstance(each, (str, bytes)))


def canonical_query(query: bytes) -> bytes:
    """Return a query string with its parameters in the order of their names.

    Parameters of one name stay in the order in which they came, which means something. Names are compared
    as an application reads them: `a%62` is `ab`. Values are left as they are.

    Example:
        >>> canonical_query(b"page=2&sort=price&&filter=b&filter=a")
        b'filter=b&filter=a&page=2&sort=price'
    """
    if len(query) > MAX_KEY:
        return query
    pairs = [pair for pair in query.split(b"&") if pair]
    pairs.sort(key=_encoded_name if b"%" in query or b"+" in query or not query.isascii() else _name)
    return b"&".join(pairs)


def _name(pair: bytes) -> bytes:
    return pair.partition(b"=")[0]


def _encoded_name(pair: bytes) -> str:
    return unquote_plus(_name(pair).decode("latin-1"))
