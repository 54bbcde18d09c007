"""The line that a benchmark prints for each case, in the form that `make bench` collects."""

from __future__ import annotations

import json
import platform
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import version


@dataclass(frozen=True, slots=True)
class Case:
    """One comparison: ours beside a peer, and the most that the ratio may be.

    Attributes:
        case: what was measured.
        ours: our figure.
        peer: the peer's, from the same run.
        peer_name: who the peer is.
        bar: the greatest ratio that is good enough; None where the line compares and does not judge.
        unit: the unit of both figures.
        ratio: ours to the peer's; given where it is the median of the rounds' ratios, else computed.
    """

    case: str
    ours: float
    peer: float
    peer_name: str
    bar: float | None
    unit: str
    ratio: float | None = None


def report(bench: str, cases: list[Case], packages: tuple[str, ...]) -> int:
    """Print each case as one line of JSON on standard output; return 0 if all are good enough, else 1."""
    versions = {name: version(name) for name in packages} | {"python": platform.python_version()}
    status = 0
    for case in cases:
        ratio = case.ours / case.peer if case.ratio is None else case.ratio
        ok = case.bar is None or ratio <= case.bar
        line = {"bench": bench} | asdict(case) | {"ratio": round(ratio, 4), "ok": ok, "versions": versions}
        print(json.dumps(line), flush=True)
        status |= not ok
    return status


def progress(message: str) -> None:
    """Tell on standard error what is going on."""
    print(message, file=sys.stderr, flush=True)
