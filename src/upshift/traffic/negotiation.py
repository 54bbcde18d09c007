"""What the headers of a request and a response say about content codings (RFC 9110, HTTP Semantics).

Pure functions, without I/O: `upshift.traffic.compression` acts on them, `upshift.diagnose` asks them whether
a response could have been compressed.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TypeAlias

    Headers: TypeAlias = Iterable[tuple[bytes, bytes]]

MAX_ACCEPT_ENCODING = 1_000
"""Characters of Accept-Encoding read. Browsers send 30; a longer one is answered without a coding."""

_CODING = re.compile(
    r"(?P<name>[\w!#$%&'*+.^`|~-]+)(?:\s*;\s*q\s*=\s*(?P<weight>0(?:\.\d{0,3})?|1(?:\.0{0,3})?))?",
    re.ASCII | re.IGNORECASE,
)

_COMPRESSIBLE = frozenset(
    {
        "application/graphql",
        "application/javascript",
        "application/json",
        "application/json-seq",
        "application/jsonl",
        "application/ndjson",
        "application/rtf",
        "application/sql",
        "application/toml",
        "application/vnd.ms-fontobject",
        "application/wasm",
        "application/x-javascript",
        "application/x-ndjson",
        "application/x-yaml",
        "application/xml",
        "application/yaml",
        "font/otf",
        "font/ttf",
        "image/bmp",
        "image/x-icon",
    }
)


class Preference(Enum):
    """How a client wants a response that exists with gzip and without."""

    IDENTITY = auto()
    """Without: gzip is not acceptable, or less welcome."""
    GZIP = auto()
    """With gzip where it pays."""
    GZIP_ONLY = auto()
    """With gzip: the client refuses the plain one."""


def preference(accept_encoding: str) -> Preference:
    """Read an Accept-Encoding header (RFC 9110 §12.5.3).

    A header that is missing or empty asks for no coding. Members that are not as the RFC writes them count
    as absent, so that a client that garbles its wish is sent what every client can read.

    Example:
        >>> preference("gzip, deflate, br").name, preference("gzip;q=0, *").name
        ('GZIP', 'IDENTITY')
        >>> preference("identity;q=0, gzip;q=0.5").name
        'GZIP_ONLY'
    """
    if len(accept_encoding) > MAX_ACCEPT_ENCODING:
        return Preference.IDENTITY
    weights: dict[str, float] = {}
    for member in accept_encoding.split(","):
        match = _CODING.fullmatch(member.strip())
        if match is not None:
            weights[match["name"].lower()] = float(match["weight"] or 1)
    others = weights.get("*")
    # Recipients treat x-gzip as gzip (§8.4.1.3).
    gzip = weights.get("gzip", weights.get("x-gzip", others or 0.0))
    identity = weights.get("identity", others)
    if gzip == 0 or gzip < (identity or 0.0):
        return Preference.IDENTITY
    # Unless it is refused, the plain response is always acceptable.
    return Preference.GZIP_ONLY if identity == 0 else Preference.GZIP


def accepts_gzip(accept_encoding: str) -> bool:
    """Tell whether a client with this Accept-Encoding header would be sent gzip.

    Example:
        >>> accepts_gzip("br;q=1.0, gzip;q=0.8, *;q=0.1"), accepts_gzip("gzip;q=0"), accepts_gzip("")
        (True, False, False)
    """
    return preference(accept_encoding) is not Preference.IDENTITY


def is_compressible(content_type: str) -> bool:
    """Tell whether bodies of this Content-Type become smaller by compression and may wait for it.

    An allow list: what is not known to shrink (images, archives, video) is left alone. `text/event-stream` is
    left alone too, since an event must not wait in a buffer, ours or a proxy's.

    Example:
        >>> is_compressible("application/problem+json; charset=utf-8"), is_compressible("image/png")
        (True, False)
    """
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type.startswith("text/"):
        return media_type != "text/event-stream"
    return media_type in _COMPRESSIBLE or media_type.endswith(("+json", "+xml", "+yaml"))


def with_vary(headers: Headers) -> list[tuple[bytes, bytes]]:
    """Return the headers with `Accept-Encoding` among the fields of `Vary` (RFC 9110 §12.5.5).

    Example:
        >>> with_vary([(b"vary", b"Cookie")])
        [(b'vary', b'Cookie, Accept-Encoding')]
    """
    merged = list(headers)
    place = None
    for index, (name, value) in enumerate(merged):
        if name.lower() == b"vary":
            fields = {field.strip().lower() for field in value.split(b",")}
            if not fields.isdisjoint({b"*", b"accept-encoding"}):
                return merged
            place = index if place is None else place
    if place is None:
        merged.append((b"vary", b"Accept-Encoding"))
    else:
        name, value = merged[place]
        merged[place] = (name, value + b", Accept-Encoding" if value.strip() else b"Accept-Encoding")
    return merged


def gzip_tag(etag: bytes) -> bytes:
    """Return the entity tag of the gzip form of a representation.

    A strong tag promises equal bytes, so each coding needs its own (RFC 9110 §8.8.3.3). Weakening it would be
    right too, but If-Match never matches a weak tag, and an application that compares tags as strings would
    never again answer 304. A weak tag promises only equal meaning, and serves all codings as it is.

    Example:
        >>> gzip_tag(b'"abc"'), gzip_tag(b'W/"abc"')
        (b'"abc-gzip"', b'W/"abc"')
    """
    if len(etag) > 1 and etag.startswith(b'"') and etag.endswith(b'"'):
        return etag[:-1] + b'-gzip"'
    return etag


def plain_tags(tags: bytes) -> bytes:
    """Undo `gzip_tag` in a list of entity tags, as If-None-Match and If-Match have it.

    Example:
        >>> plain_tags(b'"abc-gzip", W/"def"')
        b'"abc", W/"def"'
    """
    return tags.replace(b'-gzip"', b'"')
