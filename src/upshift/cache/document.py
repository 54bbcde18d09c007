"""What is told of a cache to whoever asks the running application, as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from upshift.cache.state import CacheState  # noqa: TC001 - msgspec reads the annotations

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from upshift.cache.statistics import Statistics

TOP = 50
"""Namespaces that are told of unless more are asked for."""

Sort = Literal["calls", "misses", "bytes", "seconds", "name"]


@dataclass(frozen=True, slots=True)
class Choice:
    """Which namespaces are to be told.

    Attributes:
        top: how many.
        sort: by what, the largest first; names by the alphabet.
        engines: whether engines are looked for that the cache does not watch.
    """

    top: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = TOP
    sort: Sort = "calls"
    engines: bool = False


@dataclass(frozen=True, slots=True)
class Loads:
    """Durations of loads, in seconds; None where there was none."""

    count: int
    total: float
    mean: float | None
    p95: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Namespace:
    """What has been counted in a namespace: see `Statistics`, whose names these are."""

    name: str
    hits: int
    misses: int
    joined: int
    bypassed: int
    hit_ratio: float
    fills: int
    refused: dict[str, int]
    stale_prevented: int
    expired: int
    evictions: int
    refreshed: int
    errors: int
    stale_served_on_error: int
    audited: int
    stale_served: int
    not_modified: int
    entries: int
    bytes: int
    hit_seconds: float | None
    loads: Loads

    @property
    def calls(self) -> int:
        """Calls, however they were answered."""
        return self.hits + self.misses + self.joined + self.bypassed


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """The whole.

    Attributes:
        version: of the schema.
        service: the application's name.
        pid: the process; each of several workers tells of itself.
        has_workers: whether it is one of several.
        state: what the cache is made of.
        namespaces: those that were chosen.
        known: how many there are.
        unwatched: engines in the process that the cache does not watch, without passwords; None where they
            were not looked for.
    """

    version: Literal[1]
    service: str
    pid: int
    has_workers: bool
    state: CacheState
    namespaces: tuple[Namespace, ...]
    known: int
    unwatched: tuple[str, ...] | None = None


_KEYS: Mapping[Sort, Callable[[Namespace], float]] = {
    "calls": lambda each: -each.calls,
    "misses": lambda each: -each.misses,
    "bytes": lambda each: -each.bytes,
    "seconds": lambda each: -each.loads.total,
}


def namespaces_of(counted: Mapping[str, Statistics], choice: Choice) -> tuple[Namespace, ...]:
    """Return what is told of the namespaces that a choice names.

    Example:
        >>> from upshift.cache import Statistics
        >>> counted = {"menu": Statistics(hits=3, misses=1), "idle": Statistics()}
        >>> [(each.name, each.calls, each.hit_ratio) for each in namespaces_of(counted, Choice(top=1))]
        [('menu', 4, 0.75)]
    """
    told = sorted((_namespace(*each) for each in counted.items()), key=lambda each: each.name)
    if choice.sort != "name":
        told.sort(key=_KEYS[choice.sort])
    return tuple(told[: choice.top])


def _namespace(name: str, counted: Statistics) -> Namespace:
    loads = counted.loads
    return Namespace(
        name=name,
        hits=counted.hits,
        misses=counted.misses,
        joined=counted.joined,
        bypassed=counted.bypassed,
        hit_ratio=counted.hit_ratio,
        fills=counted.fills,
        refused=dict(counted.refused),
        stale_prevented=counted.stale_prevented,
        expired=counted.expired,
        evictions=counted.evictions,
        refreshed=counted.refreshed,
        errors=counted.errors,
        stale_served_on_error=counted.stale_served_on_error,
        audited=counted.audited,
        stale_served=counted.stale_served,
        not_modified=counted.not_modified,
        entries=counted.entries,
        bytes=counted.bytes,
        hit_seconds=_known(counted.hit_seconds),
        loads=Loads(loads.count, loads.sum, _known(loads.mean), _known(loads.quantile(0.95))),
    )


def _known(seconds: float) -> float | None:
    return None if isnan(seconds) else seconds
