"""Keys of requests: what an answer depends on beside the data.

That is the address asked for with its scheme and host, since answers contain links; the query in an order of
its own; the request's `Origin`, as CORS headers follow from it, often without a word in `Vary`; the header
fields by which the application's answers are known to vary; and the identity that the application tells.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote_plus

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from starlette.types import Scope

MAX_KEY = 8_192
"""Bytes of a key of an answer that is stored."""


Key = tuple[int, str, bytes | None, str, bytes, bytes | None, "Hashable", tuple[bytes | None, ...]]
"""What stands for a request: place, scheme, host, path, query, origin, identity, and what answers vary by."""


def key_of(
    place: int, scope: Scope, fields: Mapping[bytes, bytes], varies: tuple[bytes, ...], identity: Hashable
) -> Key:
    """Return the key of a request. Two requests of one key are answered alike.

    Args:
        place: tells applications apart that share a cache.
        scope: the request's ASGI scope.
        fields: its header fields by lower-case name; those that count must be among them.
        varies: the names of those that answers vary by.
        identity: for whom the answer is.
    """
    query, field = scope["query_string"], fields.get
    return (
        place,
        scope["scheme"],
        field(b"host"),
        scope["path"],
        canonical_query(query) if b"&" in query else query,
        field(b"origin"),
        identity,
        tuple([field(name) for name in varies]),
    )


def varying_of(key: Key) -> tuple[bytes | None, ...]:
    """Return the values in a key of the fields that answers vary by."""
    *_, varying = key
    return varying


def length_of(key: Key) -> int:
    """Return about how many bytes a key takes.

    Example:
        >>> length_of((0, "http", b"shop.example", "/products", b"page=2", None, "Mei", (b"gzip",)))
        38
    """
    _, scheme, host, path, query, origin, identity, varying = key
    texts = (scheme, host, path, query, origin, identity, *varying)
    return sum(len(each) for each in texts if isinstance(each, (str, bytes)))


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
