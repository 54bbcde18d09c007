"""Entity tags, and whether a client's copy is what it would be sent (RFC 9110 §8.8 and §13)."""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from email.utils import parsedate_to_datetime
from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from upshift.cache.responses.stored import Stored

OK = 200
_TAGS = re.compile(rb'"[^"]*"')
"""The opaque parts of tags in a list; commas may stand within."""


def entity_tag(body: bytes) -> bytes:
    """Return the strong entity tag of a representation: the same for the same bytes, in every process.

    Example:
        >>> entity_tag(b"[]")
        b'"frs8fCqHsaL4p-1ynssEDQ"'
    """
    digest = urlsafe_b64encode(blake2b(body, digest_size=16).digest()).rstrip(b"=")
    return b'"%b"' % digest


def is_current(fields: Mapping[bytes, bytes], stored: Stored) -> bool:
    """Whether a request's conditions say that its client has what is stored, so that a 304 will do.

    Entity tags are compared weakly, as If-None-Match wants it; where there are any, If-Modified-Since is
    not looked at (RFC 9110 §13.2.2).
    """
    if stored.status != OK:
        return False
    known = fields.get(b"if-none-match")
    if known is not None:
        return names(known, stored.etag)
    since = fields.get(b"if-modified-since")
    return since is not None and _is_unchanged(stored.field(b"last-modified"), since)


def names(if_none_match: bytes, etag: bytes) -> bool:
    r"""Whether an If-None-Match header names an entity tag.

    Example:
        >>> names(b'"a", W/"b"', b'"b"'), names(b"*", b'"b"'), names(b'"a"', b'"b"'), names(b"b", b'"b"')
        (True, True, False, False)
    """
    return (
        if_none_match == etag
        or if_none_match.strip() == b"*"
        or _opaque(etag) in _TAGS.findall(if_none_match)
    )


def _opaque(etag: bytes) -> bytes:
    return etag.removeprefix(b"W/")


def _is_unchanged(last_modified: bytes, since: bytes) -> bool:
    try:
        return _date(last_modified) <= _date(since)
    except (ValueError, OverflowError, TypeError):  # no dates, or one without a zone
        return False


def _date(value: bytes) -> float:
    return parsedate_to_datetime(value.decode("latin-1")).timestamp()
