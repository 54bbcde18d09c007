"""What a rule saw of one cause, over all requests: where, how often, and the worst of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from upshift.record import CallSite, Record, Statement

Key = TypeVar("Key", bound="Hashable")
Seen = TypeVar("Seen")


@dataclass(slots=True)
class Cause(Generic[Seen]):
    """One cause.

    Attributes:
        worst: what was seen where it was largest.
        size: how large it was there.
        requests: how often it was seen.
        routes: the routes on which it was seen.
        sites: the lines on which it was seen.
    """

    worst: Seen
    size: float
    requests: int = 0
    routes: set[str] = field(default_factory=set)
    sites: set[CallSite] = field(default_factory=set)

    @property
    def times(self) -> str:
        """In how many requests, in words."""
        return "one request" if self.requests == 1 else f"{self.requests} requests"

    def also(self, site: CallSite | None) -> tuple[CallSite, ...]:
        """The other lines."""
        return tuple(sorted(self.sites - {site}))


class Causes(Generic[Key, Seen]):
    """Causes by what they have in common.

    Example:
        >>> from upshift.record import Record
        >>> causes = Causes()
        >>> causes.see("a line", Record("GET", "/", 0.0), 3, "three")
        >>> causes.see("a line", Record("GET", "/", 0.0), 2, "two")
        >>> causes.by_key["a line"].worst, causes.by_key["a line"].times
        ('three', '2 requests')
    """

    def __init__(self) -> None:
        self.by_key: dict[Key, Cause[Seen]] = {}

    def see(
        self, key: Key, record: Record, size: float, what: Seen, sites: Iterable[CallSite | None] = ()
    ) -> None:
        """Note that a request had a cause of this key, of some size.

        Args:
            key: equal for the same cause.
            record: the request.
            size: how large it was there, for the worst to be shown.
            what: what was seen.
            sites: the lines it was seen on.
        """
        cause = self.by_key.setdefault(key, Cause(what, size))
        if size > cause.size:
            cause.worst, cause.size = what, size
        cause.requests += 1
        cause.routes.add(record.operation)
        cause.sites.update(site for site in sites if site is not None)


def seconds_of(statements: Iterable[Statement]) -> float:
    """The time in the driver of some statements together."""
    return sum(statement.seconds for statement in statements)
