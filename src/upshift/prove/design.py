"""What a comparison asks of each sample: `Scenario` and `Design`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from upshift.errors import ProofError
from upshift.prove.statistics import DEFAULT_CONFIDENCE, DEFAULT_MARGIN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from upshift.load import Request

MAX_PAIRS = 500


@dataclass(frozen=True, slots=True)
class Scenario:
    """Requests that are measured together and get a verdict of their own.

    Attributes:
        name: how reports call it.
        requests: sent in turn, over and over; both variants are sent the same ones in the same order.
    """

    name: str
    requests: Sequence[Request]


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """How the samples are taken and judged.

    Attributes:
        pairs: blocks of samples. Each block has one sample of the head and two of the base, each from a fresh
            server process; the three live side by side.
        requests: how many each sample sends in one scenario, at most.
        min_requests: how many of them it sends even if they take longer than `budget_seconds`.
        budget_seconds: how long one sample of one scenario should take. The slower variant decides how many
            requests fit into it; every sample then sends that many, so that all do the same work.
        rounds: how many rounds a sample's requests are sent in; in each round every server gets its turn.
        warmup: requests sent before each scenario and not counted, at most; bounded like `requests`.
        connections: connections that are kept busy.
        count_cpu_of: processes whose CPU time, with that of their descendants, counts as the servers' own:
            a database's postmaster, for example.
        ready_path: a path that answers GET with a status below 500 once a server is ready; None where
            accepting connections is enough.
        start_seconds: how long a server may take to become ready.
        timeout_seconds: how long one request may take.
        margin: the smallest difference worth a verdict, as a share.
        confidence: probability that all intervals of one metric cover the truth, over all scenarios together.
        seed: of the order within the blocks and of the bootstrap.

    Raises:
        ProofError: a value is out of range.
    """

    pairs: int = 20
    requests: int = 500
    min_requests: int = 20
    budget_seconds: float = 1.0
    rounds: int = 5
    warmup: int = 50
    connections: int = 4
    count_cpu_of: Sequence[int] = ()
    ready_path: str | None = None
    start_seconds: float = 30.0
    timeout_seconds: float = 30.0
    margin: float = DEFAULT_MARGIN
    confidence: float = DEFAULT_CONFIDENCE
    seed: int = 0

    def __post_init__(self) -> None:
        _check("pairs", self.pairs, 1 <= self.pairs <= MAX_PAIRS, f"from 1 to {MAX_PAIRS}")
        _check("requests", self.requests, self.requests >= 1, "at least 1")
        _check("min_requests", self.min_requests, self.min_requests >= 1, "at least 1")
        _check("rounds", self.rounds, self.rounds >= 1, "at least 1")
        _check("warmup", self.warmup, self.warmup >= 0, "at least 0")
        _check("connections", self.connections, self.connections >= 1, "at least 1")
        for name in ("budget_seconds", "start_seconds", "timeout_seconds"):
            seconds = getattr(self, name)
            _check(name, seconds, seconds > 0, "above 0")
        _check("margin", self.margin, 0 <= self.margin < 1, "from 0 to below 1")
        _check("confidence", self.confidence, 0 < self.confidence < 1, "between 0 and 1")


def _check(name: str, value: float, holds: bool, must_be: str) -> None:  # noqa: FBT001 - a fact, no switch
    if not holds:
        raise ProofError(f"{name} is {value:g}; it must be {must_be}")
