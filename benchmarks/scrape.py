"""What a scrape costs with forty workers, beside one.

    python benchmarks/scrape.py

Each worker has 200 series of a histogram with 14 buckets, and a gauge. A scrape adds what the answering
worker counted since the last one, reads the totals of all, and writes the exposition. The two files take
turns; before each scrape every worker counts and flushes, which is not timed, as it happens in the workers'
own time. A worker here is an instance with its own end of the file: what a scrape reads is the same as with
processes.

Writing the exposition takes most of the time. A second line tells of the totals alone, and is not judged.
"""

from __future__ import annotations

import gc
import statistics
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from report import Case, progress, report

from upshift.telemetry import Metrics, SharedMetrics, expose

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WORKERS = 40
SERIES = 200
ROUNDS = 15
WARMUP = 2
BAR = 1.5


class Worker:
    def __init__(self, path: Path) -> None:
        self.metrics = Metrics()
        seconds = self.metrics.histogram("request_duration", "Durations", labels={"route": SERIES})
        self.series = [seconds.labelled(route=f"/route/{number}") for number in range(SERIES)]
        self.metrics.gauge("in_flight", "Requests in flight").set(1)
        # Instances of one name in one process have files of their own; these stand for processes.
        self.shared = SharedMetrics(self.metrics, lambda: path, name=str(id(self)))
        self.shared.join()

    def count(self) -> None:
        """Count one observation of each series."""
        for number, series in enumerate(self.series):
            series.observe(number / 64)

    def scrape(self) -> bytes:
        """Answer as `/metrics` does."""
        return expose(self.metrics, totals=self.shared.sum).body


def milliseconds(work: Callable[[], object]) -> float:
    gc.collect()
    gc.disable()
    started = perf_counter()
    work()
    taken = (perf_counter() - started) * 1e3
    gc.enable()
    return taken


def measure(workers: list[Worker], round_number: int) -> tuple[float, float]:
    """Milliseconds of a scrape, and of flushing and reading the totals alone."""
    for worker in workers:
        worker.count()
        worker.shared.totals.flush()
    answering = workers[round_number % len(workers)]
    answering.count()
    reading = milliseconds(answering.shared.totals.totals)
    answering.count()
    pages: list[bytes] = []
    scrape = milliseconds(lambda: pages.append(answering.scrape()))
    counted = (round_number + 1) * (len(workers) + 2)
    assert f'request_duration_seconds_count{{route="/route/7"}} {float(counted)}'.encode() in pages[0]
    assert f"in_flight {float(len(workers))}".encode() in pages[0]
    return scrape, reading


def cases() -> Iterator[Case]:
    progress(f"{ROUNDS} rounds of {WORKERS} workers, {SERIES} series each")
    rounds = []
    with tempfile.TemporaryDirectory() as directory:
        alone = [Worker(Path(directory, "alone"))]
        many = [Worker(Path(directory, "many")) for _ in range(WORKERS)]
        for round_number in range(WARMUP + ROUNDS):
            order = (alone, many) if round_number % 2 else (many, alone)
            times = {len(workers): measure(workers, round_number) for workers in order}
            rounds.append((times[WORKERS], times[1]))
        for worker in (*alone, *many):
            worker.shared.close()
            assert worker.shared.totals.faults == worker.shared.totals.dropped == 0
    for index, (part, bar) in enumerate((("", BAR), (", the totals alone", None))):
        pairs = [(ours[index], peers[index]) for ours, peers in rounds[WARMUP:]]
        ours, peer = map(statistics.median, zip(*pairs, strict=True))
        ratio = statistics.median(ours / peer for ours, peer in pairs)
        name = f"{WORKERS} workers, {SERIES} histograms{part}"
        yield Case(name, ours, peer, "one process", bar, "ms", ratio)


def main() -> int:
    return report("scrape", list(cases()), ("prometheus-client",))


if __name__ == "__main__":
    sys.exit(main())
