"""What Cache-Control says of storing and using answers, in requests and in responses (RFC 9111 §5.2).

Pure functions. What is malformed is read as the stricter of what it may have meant.
"""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime
from math import inf
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_CACHE_CONTROL = 1_000
"""Characters of a Cache-Control header that are read; a longer one forbids everything."""

_DIRECTIVE = re.compile(
    r"""([!#$%&'*+.^_`|~\w-]+)      # its name
        (?:=(?:"((?:[^"\\]|\\.)*)"  # an argument, quoted
             |([^\s,;"]*)))?        # or not""",
    re.ASCII | re.VERBOSE,
)
_MOST_DIGITS = 10


class Wish(NamedTuple):
    """What a request allows caches to do.

    Attributes:
        may_store: whether its answer may be stored.
        may_reuse: whether a stored answer will do.
        only_stored: whether nothing but a stored answer will do.
        max_age: how old a stored answer may be, in seconds.
        min_fresh: how long it has to be good still, in seconds.
    """

    may_store: bool = True
    may_reuse: bool = True
    only_stored: bool = False
    max_age: float = inf
    min_fresh: float = 0


ANYTHING = Wish()
"""What a request without a word on it allows."""


def directives(cache_control: str) -> dict[str, str]:
    """Return the directives with their arguments; of one that is repeated, the first.

    Example:
        >>> directives('Private="set-cookie", max-age=60, no-store')
        {'private': 'set-cookie', 'max-age': '60', 'no-store': ''}
    """
    if len(cache_control) > MAX_CACHE_CONTROL:
        return {"no-store": ""}
    found: dict[str, str] = {}
    for match in _DIRECTIVE.finditer(cache_control):
        found.setdefault(match[1].lower(), match[2] or match[3] or "")
    return found


def wish_of(cache_control: str, pragma: str = "") -> Wish:
    """Read what a request says. `Pragma: no-cache` counts where there is no Cache-Control (§5.4).

    Example:
        >>> wish_of("max-age=60, only-if-cached").max_age, wish_of("", "no-cache").may_reuse
        (60.0, False)
    """
    if not cache_control:
        return ANYTHING._replace(may_reuse="no-cache" not in directives(pragma))
    said = directives(cache_control)
    return Wish(
        may_store="no-store" not in said,
        may_reuse="no-cache" not in said,
        only_stored="only-if-cached" in said,
        max_age=_seconds(said["max-age"]) if "max-age" in said else inf,
        min_fresh=_seconds(said["min-fresh"], malformed=inf) if "min-fresh" in said else 0,
    )


def lifetime_of(
    said: Mapping[str, str], fields: Mapping[bytes, bytes], *, is_shared: bool, now: float
) -> float:
    """Return for how many seconds from now a response says that it is good; infinite where it says nothing.

    Args:
        said: the response's directives.
        fields: its header fields by lower-case name.
        is_shared: whether it is stored for more than one.
        now: the Unix time.

    Example:
        >>> said = directives("max-age=60, s-maxage=300")
        >>> lifetime_of(said, {b"age": b"10"}, is_shared=True, now=0.0)
        290.0
    """
    names = ("s-maxage", "max-age") if is_shared else ("max-age",)
    for name in names:
        if name in said:
            return _seconds(said[name]) - age_of(fields)
    if b"expires" in fields:
        try:
            return parsedate_to_datetime(fields[b"expires"].decode("latin-1")).timestamp() - now
        except (ValueError, OverflowError):
            return 0.0  # "0" is what one says who means the past (RFC 9111 §5.3)
    return inf


def age_of(fields: Mapping[bytes, bytes]) -> float:
    """Return how old a response was when it came, in seconds: it may come from a cache behind."""
    return _seconds(fields.get(b"age", b"0").decode("latin-1"))


def _seconds(argument: str, malformed: float = 0.0) -> float:
    if not (argument.isascii() and argument.isdigit()):
        return malformed
    return float(argument[:_MOST_DIGITS])
