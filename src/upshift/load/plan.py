"""How hard and how long to load: `OpenPlan` and `ClosedPlan`, bounded in time and in number of requests."""

from __future__ import annotations

import resource
from dataclasses import dataclass
from typing import TYPE_CHECKING

from upshift.errors import LoadError

if TYPE_CHECKING:
    from upshift.load.arrivals import Arrivals

MAX_REQUESTS = 5_000_000
"""Requests that one run sends at most; their latencies are all kept, eight bytes each."""
MAX_SECONDS = 86_400.0
"""A day: the longest run."""
_SPARE_FILES = 32
"""File descriptors that the process needs besides its connections."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenPlan:
    """Send on schedule, whatever the answers do: the model of users who do not know of each other.

    Attributes:
        rate: requests due per second.
        seconds: how long requests come due, warm-up not included.
        warmup_seconds: sent at the same rate before that, and left out of the report.
        connections: connections open at once at most; they are opened when a request needs one. A request
            that finds all of them busy waits for one, and its wait counts as latency.
        backlog: requests that wait so at most; further ones are counted as errors of kind "backlog".
        timeout: seconds from the moment a request is due until it is given up.
        arrivals: whether due times are spread evenly or as a Poisson process.
        seed: seed of the Poisson process and of the draw among weighted requests.

    Raises:
        LoadError: a value is out of range.
    """

    rate: float
    seconds: float
    warmup_seconds: float = 0.0
    connections: int = 256
    backlog: int = 10_000
    timeout: float = 10.0
    arrivals: Arrivals = "uniform"
    seed: int = 0

    def __post_init__(self) -> None:
        _check_above_zero("rate", self.rate, most=MAX_REQUESTS)
        _check_above_zero("seconds", self.seconds)
        _check_common(self)
        if self.rate * (self.warmup_seconds + self.seconds) > MAX_REQUESTS:
            raise LoadError(f"{self.rate:g} requests/s for {self.seconds:g} s are more than {MAX_REQUESTS:,}")
        if self.arrivals not in {"uniform", "poisson"}:
            raise LoadError(f"arrivals are uniform or poisson, not {self.arrivals!r}")
        if self.backlog < 1:
            raise LoadError(
                f"the backlog is {self.backlog}; requests wait there for a connection to be opened"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedPlan:
    """Keep connections busy: each sends its next request when the answer to its last one has come.

    Attributes:
        connections: how many.
        seconds: how long, warm-up not included; as long as `count` takes, up to a day, when None.
        count: how many requests, warm-up not included; as many as `seconds` allow, up to `MAX_REQUESTS`,
            when None. Give one or both: what is reached first ends the run.
        warmup_seconds: sent before that, and left out of the report.
        timeout: seconds until a request is given up.
        seed: seed of the draw among weighted requests.

    Raises:
        LoadError: a value is out of range, or neither `seconds` nor `count` is given.
    """

    connections: int = 32
    seconds: float | None = None
    count: int | None = None
    warmup_seconds: float = 0.0
    timeout: float = 10.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.seconds is None and self.count is None:
            raise LoadError("say how long to load: give seconds, count, or both")
        if self.seconds is not None:
            _check_above_zero("seconds", self.seconds)
        if self.count is not None and not 0 < self.count <= MAX_REQUESTS:
            raise LoadError(f"the count is {self.count}; it must be from 1 to {MAX_REQUESTS:,}")
        _check_common(self)


Plan = OpenPlan | ClosedPlan


def _check_common(plan: Plan) -> None:
    _check_above_zero("timeout", plan.timeout)
    if not 0 <= plan.warmup_seconds <= MAX_SECONDS:
        raise LoadError(f"warmup_seconds is {plan.warmup_seconds}; it must be from 0 to {MAX_SECONDS:g}")
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if allowed == resource.RLIM_INFINITY:
        allowed = MAX_REQUESTS
    if not 0 < plan.connections <= allowed - _SPARE_FILES:
        raise LoadError(
            f"{plan.connections} connections: this process may open from 1 to {allowed - _SPARE_FILES}"
            " (`ulimit -n` tells and raises the limit)"
        )


def _check_above_zero(name: str, value: float, most: float = MAX_SECONDS) -> None:
    if not 0 < value <= most:
        raise LoadError(f"{name} is {value}; it must be above 0 and at most {most:g}")
