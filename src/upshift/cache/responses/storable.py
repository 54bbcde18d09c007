"""Whether an answer may be stored, and what is added to one that is (RFC 9111 §3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from upshift.cache.responses.stored import listed
from upshift.cache.responses.validators import OK, entity_tag

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import Message

    from upshift.cache.responses.asked import Asked

_FORBIDDING_ALWAYS = frozenset({"no-store", "no-cache"})
_FORBIDDING = _FORBIDDING_ALWAYS | {"private"}
_EVENTS = b"text/event-stream"
_MOST_DIGITS = 20
WITHOUT_BODY = frozenset({204, 205})


def refusal_of(start: Message, fields: Mapping[bytes, bytes], said: Mapping[str, str], asked: Asked) -> str:
    """Return why an answer that has begun is not stored; empty where nothing speaks against it.

    Args:
        start: its first message.
        fields: its header fields by lower-case name.
        said: its Cache-Control.
        asked: the request.
    """
    rule = asked.rule
    forbidding = _FORBIDDING if asked.identity is None else _FORBIDDING_ALWAYS
    length = fields.get(b"content-length", b"0")
    varying = listed(fields.get(b"vary", b""))
    reasons = (
        (start["status"] not in rule.statuses, "its status"),
        (not forbidding.isdisjoint(said), "its Cache-Control"),
        (b"set-cookie" in fields and not rule.cookies, "it sets a cookie"),
        (b"content-range" in fields, "it is a part"),
        (fields.get(b"content-type", b"").lower().startswith(_EVENTS), "it is a stream"),
        (b"transfer-encoding" in fields, "it is a stream"),
        (start.get("trailers", False), "it has trailers"),
        (not length.isdigit() or int(length[:_MOST_DIGITS]) > rule.max_bytes, "it is too large"),
        (b"*" in varying or not rule.learn(varying), "it varies by more than can be told"),
        (not asked.named_by.isdisjoint(rule.credentials) and not is_public(said), "who asked named himself"),
    )
    return next((reason for is_so, reason in reasons if is_so), "")


def is_public(said: Mapping[str, str]) -> bool:
    """Whether an answer says that it is for everybody, whoever asks.

    Example:
        >>> is_public({"public": "", "max-age": "60"}), is_public({"max-age": "60"})
        (True, False)
    """
    return "public" in said or "s-maxage" in said


def additions(
    status: int, fields: Mapping[bytes, bytes], body: bytes, asked: Asked
) -> list[tuple[bytes, bytes]]:
    """Return the header fields that an answer lacks.

    Clients that were told nothing may keep what they get, and have to ask whether it is still right: that
    costs a 304, and nobody is ever shown what is no more.
    """
    added = []
    if b"etag" not in fields and status == OK:
        added.append((b"etag", entity_tag(body)))
    if b"cache-control" not in fields and b"expires" not in fields:
        added.append((b"cache-control", b"private, no-cache" if asked.identity is not None else b"no-cache"))
    if b"content-length" not in fields and status not in WITHOUT_BODY:
        added.append((b"content-length", b"%d" % len(body)))
    missing = asked.rule.told - listed(fields.get(b"vary", b""))
    added += [(b"vary", name.title()) for name in sorted(missing)]
    return added
