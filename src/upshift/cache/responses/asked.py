"""What a request asks for, as far as stored answers are concerned."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from starlette.requests import Request

from upshift.cache.responses.directives import ANYTHING, MAX_CACHE_CONTROL, wish_of
from upshift.cache.responses.keys import is_of, key_of
from upshift.cache.responses.rules import PASSING

if TYPE_CHECKING:
    from collections.abc import Hashable

    from starlette.types import Scope

    from upshift.cache.responses.directives import Wish
    from upshift.cache.responses.keys import Key
    from upshift.cache.responses.rules import Rule

NOBODY: frozenset[bytes] = frozenset()

REMEMBERED = 64
"""Cache-Control values of requests whose meaning is remembered. Clients send a handful."""


class Asked(NamedTuple):
    """A request that a stored answer may serve.

    Attributes:
        rule: what was told for its path.
        path: its path, as the rule's pattern has it.
        fields: those of its header fields that matter, by lower-case name.
        key: what stands for it.
        identity: for whom the answer is; None where it is for everybody.
        wish: what it allows.
        named_by: fields by which its sender names himself, and that its key does not hold.
    """

    rule: Rule
    path: str
    fields: dict[bytes, bytes]
    key: Key
    identity: Hashable = None
    wish: Wish = ANYTHING
    named_by: frozenset[bytes] = NOBODY


class Reader:
    """Reads requests.

    Args:
        place: tells applications apart that share a cache.
    """

    def __init__(self, place: int) -> None:
        self._place = place
        self._wish_of = lru_cache(REMEMBERED)(wish_of)

    def read(self, rule: Rule, path: str, scope: Scope) -> Asked | None:
        """Return what a request asks for; None where only the application can answer it."""
        fields = fields_of(rule, scope)
        if not PASSING.isdisjoint(fields) and not _is_bodiless(fields):
            return None
        said, pragma = fields.get(b"cache-control", b""), fields.get(b"pragma", b"")
        if len(said) + len(pragma) > MAX_CACHE_CONTROL:
            return None
        wish = self._wish_of(said.decode("latin-1"), pragma.decode("latin-1"))
        if not wish.may_store:
            return None
        identity = None if rule.identity is None else rule.identity(Request(scope))
        key = key_of(self._place, scope, identity, map(fields.get, rule.names))
        named_by = rule.credentials.intersection(fields) if identity is None else NOBODY
        return Asked(rule, path, fields, key, identity, wish, named_by)

    def key_now(self, asked: Asked, scope: Scope) -> Key:
        """Return the key of a request by what is known now of what answers vary by."""
        rule = asked.rule
        if is_of(asked.key, rule.names):
            return asked.key
        fields = fields_of(rule, scope)
        return key_of(self._place, scope, asked.identity, map(fields.get, rule.names))


def fields_of(rule: Rule, scope: Scope) -> dict[bytes, bytes]:
    """Return the header fields of a request that matter; those of a repeated one are joined."""
    wanted = rule.wanted
    fields: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        if name in wanted:
            fields[name] = value if name not in fields else fields[name] + b", " + value
    return fields


def _is_bodiless(fields: dict[bytes, bytes]) -> bool:
    """Whether a request says of its body that there is none, and nothing else that is for the application."""
    return fields.get(b"content-length") == b"0" and PASSING.intersection(fields) == {b"content-length"}
