"""What a run found: `Report`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from upshift.load.tally import Tally

MAX_LAG = 0.001
"""Seconds; a generator that is later than this in 1 % of its sends measures itself, not the server."""
_FIRST_ERROR_STATUS = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Latencies in seconds. Each percentile is a latency that occurred (nearest rank), none is estimated."""

    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    p999: float
    max: float

    @classmethod
    def of(cls, samples: Iterable[float]) -> Latency | None:
        """Summarise samples; None when there are none.

        Example:
            >>> latency = Latency.of(range(1, 1001))
            >>> latency.p50, latency.p99, latency.p999, latency.max
            (500, 990, 999, 1000)
        """
        ordered = sorted(samples)
        if not ordered:
            return None
        return cls(
            mean=sum(ordered) / len(ordered),
            p50=nearest_rank(ordered, 500),
            p90=nearest_rank(ordered, 900),
            p95=nearest_rank(ordered, 950),
            p99=nearest_rank(ordered, 990),
            p999=nearest_rank(ordered, 999),
            max=ordered[-1],
        )


def nearest_rank(ordered: Sequence[float], per_mille: int) -> float:
    """The smallest sample that `per_mille` thousandths of the samples do not exceed."""
    return ordered[-(-len(ordered) * per_mille // 1000) - 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What became of the requests that came due in the measured time.

    `requests` is the sum of `completed`, `unfinished` and the errors that are no HTTP statuses.

    Attributes:
        requests: how many there were.
        sent: those that were written to a connection.
        completed: those that were answered in full, with any status.
        ok: those that were answered with a status below 400.
        unfinished: those still waiting when the run was interrupted.
        errors: how many failed, by kind: "backlog", "connect", "protocol", "reset", "timeout", or
            "http 404" and so on.
        statuses: answers by HTTP status.
        received_bytes: bytes of the answers on the wire: heads, and bodies as they were encoded.
        latency: from the moment a request was due to its complete answer; those that timed out count with
            the time they waited. None when there were neither.
    """

    requests: int
    sent: int
    completed: int
    ok: int
    unfinished: int
    errors: dict[str, int]
    statuses: dict[int, int]
    received_bytes: int
    latency: Latency | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report(Counts):
    """One run.

    Attributes:
        url: the server.
        model: which plan it followed.
        connections: how many connections it could have at once.
        asked_rate: requests due per second; None in the closed model.
        achieved_rate: complete answers per second of `seconds`.
        seconds: the measured time: as long as was asked for, or until the last answer when that came later.
        lag_p99: by how many seconds the generator itself was late to send, at the 99th percentile; None in
            the closed model, which has no schedule to be late for.
        lagging: whether that is more than a millisecond, which makes the latencies void.
        cpu_seconds: CPU time of the generator's process in the measured time.
        interrupted: whether it was stopped before its end.
        by_request: the same counts for each request name.
    """

    url: str
    model: Literal["open", "closed"]
    connections: int
    asked_rate: float | None
    achieved_rate: float
    seconds: float
    lag_p99: float | None
    lagging: bool
    cpu_seconds: float
    interrupted: bool
    by_request: dict[str, Counts]

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values, ready for JSON; times in seconds."""
        plain: dict[str, Any] = msgspec.to_builtins(self, str_keys=True)
        return plain


def count(tallies: Iterable[Tally]) -> dict[str, Any]:
    """The fields of `Counts`, summed over tallies."""
    tallies = list(tallies)
    statuses: Counter[int] = Counter()
    failures: Counter[str] = Counter()
    for tally in tallies:
        statuses.update(tally.statuses)
        failures.update(tally.failures)
    http_errors = {f"http {status}": n for status, n in statuses.items() if status >= _FIRST_ERROR_STATUS}
    unfinished = sum(tally.unfinished for tally in tallies)
    return {
        "requests": statuses.total() + failures.total() + unfinished,
        "sent": sum(tally.sent for tally in tallies),
        "completed": statuses.total(),
        "ok": statuses.total() - sum(http_errors.values()),
        "unfinished": unfinished,
        "errors": dict(sorted(failures.items())) | dict(sorted(http_errors.items())),
        "statuses": dict(sorted(statuses.items())),
        "received_bytes": sum(tally.received_bytes for tally in tallies),
        "latency": Latency.of(chain.from_iterable(tally.latencies for tally in tallies)),
    }
