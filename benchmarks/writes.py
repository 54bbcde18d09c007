"""Writes per second that are durable when they return: group commit beside one `fdatasync` for each.

Both append records of about one size to a file on the same disk. The peer is a file that one thread syncs
after each write: a journal without group commit. Rounds of both take turns, and the ratio is the median of
theirs, so what else the disk does meets both.
"""

import asyncio
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from report import Case, progress, report

from upshift.cache import Cache

ROUNDS = 7
CALLERS = 64
WRITES = 640
VALUE = {"amount": 12, "place": "Kaohsiung", "note": "x" * 100}


def alone(folder: Path) -> float:
    data = b"x" * 220
    file = os.open(folder / "alone", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    began = time.perf_counter()
    for _ in range(WRITES):
        os.write(file, data)
        os.fdatasync(file)
    seconds = time.perf_counter() - began
    os.close(file)
    return seconds


def by_tasks(folder: Path) -> float:
    stock = Cache().writes.behind("stock", lambda _: None, folder=folder, delay="1h")

    async def work(caller: int) -> None:
        for number in range(WRITES // CALLERS):
            await stock.aio.put(caller * 1_000 + number, VALUE)

    async def run() -> float:
        async with stock.aio:
            began = time.perf_counter()
            await asyncio.gather(*[work(each) for each in range(CALLERS)])
            return time.perf_counter() - began

    return asyncio.run(run())


def by_threads(folder: Path) -> float:
    def work(caller: int) -> None:
        for number in range(WRITES // CALLERS):
            stock.put(caller * 1_000 + number, VALUE)

    with Cache().writes.behind("stock", lambda _: None, folder=folder, delay="1h") as stock:
        threads = [threading.Thread(target=work, args=(each,)) for each in range(CALLERS)]
        began = time.perf_counter()
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        return time.perf_counter() - began


def compare(name: str, ours: Callable[[Path], float], bar: float) -> Case:
    pairs = []
    for number in range(ROUNDS):
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:  # on a disk: /tmp may be in memory
            pairs.append((ours(Path(folder)), alone(Path(folder))))
        progress(f"{name}: round {number + 1} of {ROUNDS}")
    micros = [statistics.median(side) / WRITES * 1e6 for side in zip(*pairs, strict=True)]
    ratio = statistics.median(mine / other for mine, other in pairs)
    return Case(
        name, round(micros[0], 1), round(micros[1], 1), "one fdatasync each", bar, "µs per write", ratio
    )


def main() -> int:
    cases = [
        compare(f"{CALLERS} tasks put durably", by_tasks, 0.5),
        compare(f"{CALLERS} threads put durably", by_threads, 0.5),
    ]
    return report("writes", cases, ("upshift", "msgspec"))


if __name__ == "__main__":
    sys.exit(main())
