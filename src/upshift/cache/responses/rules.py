"""Which answers are stored, and what of them is known: one rule for each call of `cache.responses`."""

from __future__ import annotations

import inspect
import re
from threading import Lock
from typing import TYPE_CHECKING

from upshift.cache.responses.keys import ALWAYS, BEFORE_FIELDS
from upshift.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable

    from starlette.requests import Request

    from upshift.cache.functions import Store

STORABLE = frozenset(range(200, 600)) - {206, 304}
"""Statuses of what can be stored: whole answers to a request without conditions."""

MAX_VARYING = 16
"""Header fields by which the answers of a rule may vary."""

MAX_EXPECTED = 64
"""Tags of its answers that a rule remembers, to stamp them before the application runs."""

MAX_PATHS = 4_096
"""Paths whose rule is remembered."""

MAX_PATH = 256
"""Characters of such a path, at most."""

_PARTS = re.compile(r"\{(\w+)\}|(\*)")
IDENTIFYING = frozenset({
    b"authorization", b"cookie", b"proxy-authorization",
    # Keys, tokens, and what proxies say of whom they have let in.
    b"api-key", b"apikey", b"x-access-token", b"x-api-key", b"x-api-token", b"x-auth-token",
    b"x-session-token",
    b"x-amz-security-token", b"x-amzn-oidc-data", b"x-goog-iap-jwt-assertion", b"cf-access-jwt-assertion",
    b"x-ms-client-principal", b"x-client-cert", b"x-forwarded-client-cert", b"x-ssl-client-cert",
    b"remote-user", b"x-auth-request-user", b"x-authenticated-user", b"x-forwarded-user", b"x-remote-user",
    b"x-webauth-user",
})  # fmt: skip
"""Fields of requests by which applications tell who asks."""


PASSING = frozenset({
    b"content-length", b"if-match", b"if-range", b"if-unmodified-since", b"range", b"transfer-encoding",
    b"x-http-method", b"x-http-method-override", b"x-method-override", b"x-original-url", b"x-rewrite-url",
})  # fmt: skip
"""Fields of requests that only the application can answer: for a part, on a condition, with a body, or for
something else than the address says."""

UNCOMMON = PASSING | IDENTIFYING | {
    b"cache-control", b"if-modified-since", b"if-none-match", b"pragma",
}  # fmt: skip
"""Fields of requests that have to be looked at; what is in a key alone is not among them."""

TAKEN = 0
"""The place told of a field that has to be looked at: there is something in every key."""


class Rule:
    """How the answers of some paths are stored.

    Args:
        pattern: the paths: `*` stands for anything, `{name}` for one part between slashes.
        seconds: how long an answer is given at most; None for no limit.
        identity: tells for whom an answer is; None where it is for everybody.
        vary: names of request header fields that answers depend on.
        tags: names that they depend on, `{name}` standing for what is in the path.
        statuses: HTTP statuses of what is stored.
        max_bytes: the size of what is stored, at most.
        streams: whether bodies of unknown length that come in pieces are stored.
        cookies: whether answers that set cookies are.
        store: where they are.

    Attributes:
        names: the header fields whose values are in a key: some always, and those that answers are known to
            vary by, told and learned.
        wanted: the header fields of requests that have to be read.
        layout: the end of a key before its fields are read, and the place in a key of each that is wanted, or
            `TAKEN`. In one, as a thread that serves may read them while another learns.
        credentials: fields that tell who asks, without the answers being known to vary by it; they count
            where there is no identity.
        expected: tags that answers have been seen to depend on.

    Raises:
        SettingsError: the pattern is no path, a tag has a name that is not in it, a status is none that can
            be stored, or the identity is awaited.
    """

    def __init__(  # noqa: PLR0913 - one for each thing that can be told
        self,
        pattern: str,
        *,
        seconds: float | None,
        identity: Callable[[Request], Hashable] | None,
        vary: Iterable[str],
        tags: Iterable[str],
        statuses: Iterable[int],
        max_bytes: int,
        streams: bool,
        cookies: bool,
        store: Store,
    ) -> None:
        if not pattern.startswith(("/", "*")):
            raise SettingsError(f"{pattern!r} is no path; it looks like '/products*' or '/products/{{id}}'")
        self.pattern = pattern
        self.seconds = seconds
        self.identity = identity
        self.statuses = frozenset(statuses)
        self.max_bytes = max_bytes
        self.streams = streams
        self.cookies = cookies
        self.store = store
        self.told = frozenset(name.strip().lower().encode("latin-1") for name in vary)
        self.expected: frozenset[str] = frozenset()
        self._tags = tuple(tags)
        self._match = _compiled(pattern).fullmatch
        prefix = pattern.removesuffix("*")
        # Most patterns are a prefix or a path as it is, which the matcher of patterns takes longer for.
        self._prefix = prefix if pattern != prefix and not _PARTS.search(prefix) else None
        self._path = None if _PARTS.search(pattern) else pattern
        self._vary_by(self.told)
        self._check()

    def matches(self, path: str) -> bool:
        """Whether it is about a path."""
        if self._prefix is not None:
            return path.startswith(self._prefix)
        return path == self._path if self._path is not None else self._match(path) is not None

    def tags_of(self, path: str) -> list[str]:
        """Return the names that the answer for a path depends on."""
        match = self._match(path)
        parts = match.groupdict() if match is not None else {}
        return [tag.format_map(parts) if "{" in tag else tag for tag in self._tags]

    def learn(self, varying: frozenset[bytes]) -> bool:
        """Note what an answer varies by; keys are made of that from now on. False if that is too much."""
        varies = varying.union(self._varies)
        if len(varies) > MAX_VARYING:
            return False
        if len(varies) > len(self._varies):
            self._vary_by(varies)
        return True

    def expect(self, tags: frozenset[str]) -> None:
        """Note what an answer depended on."""
        if not tags <= self.expected and len(self.expected | tags) <= MAX_EXPECTED:
            self.expected |= tags

    def _vary_by(self, varies: frozenset[bytes]) -> None:
        self._varies = varies
        self.names = (*ALWAYS, *sorted(varies.difference(ALWAYS)))
        # To vary by Authorization is not enough where the application says so by Vary (RFC 9111 §3.5).
        known = self.told | (varies - {b"authorization"})
        self.credentials = IDENTIFYING - known
        self.wanted = UNCOMMON.union(self.names)
        places = {name: place for place, name in enumerate(self.names, BEFORE_FIELDS)}
        self.layout = (None,) * len(self.names), places | dict.fromkeys(UNCOMMON, TAKEN)

    def _check(self) -> None:
        if inspect.iscoroutinefunction(self.identity):
            raise SettingsError(
                f"the identity of {self.pattern!r} is told before anything is awaited: use def"
            )
        for status in self.statuses - STORABLE:
            raise SettingsError(f"a response with status {status} cannot be stored")
        named = {match[1] for match in _PARTS.finditer(self.pattern)}
        for tag in self._tags:
            for name in re.findall(r"\{(.*?)\}", tag):
                if name not in named:
                    raise SettingsError(f"{self.pattern!r} has no {{{name}}} that the tag {tag!r} could name")


class Rules:
    """The rules of a cache: the first that is about a path counts.

    Attributes:
        known: the rule of each path that has been looked for lately; None where none is about it.
    """

    def __init__(self) -> None:
        self.known: dict[str, Rule | None] = {}
        self._rules: list[Rule] = []
        self._lock = Lock()

    def add(self, rule: Rule) -> None:
        """Add a rule, which is tried after those that there are."""
        with self._lock:
            self._rules.append(rule)
            self.known.clear()

    def find(self, path: str) -> Rule | None:
        """Return the rule of a path, and remember it."""
        with self._lock:
            rule = next((each for each in self._rules if each.matches(path)), None)
            if len(self.known) >= MAX_PATHS:
                self.known.clear()
            if len(path) <= MAX_PATH:
                self.known[path] = rule
        return rule


def _compiled(pattern: str) -> re.Pattern[str]:
    parts, last = [], 0
    for match in _PARTS.finditer(pattern):
        parts += [re.escape(pattern[last : match.start()]), f"(?P<{match[1]}>[^/]+)" if match[1] else ".*"]
        last = match.end()
    try:
        return re.compile("".join(parts) + re.escape(pattern[last:]), re.DOTALL)
    except re.error as error:  # one name twice, or one that is none
        raise SettingsError(f"{pattern!r} is no pattern of paths: {error.msg}") from error
