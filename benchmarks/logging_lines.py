"""Access lines per second, beside structlog with orjson.

    python benchmarks/logging_lines.py

Each writes the same fields of the same requests to a file in the same folder. Ours are given closed records,
as many at a time as a backlog hands on, and are written in a thread, whose time is part of the figure: it is
waited for. structlog is given the values as keywords; natively it
writes bytes, one line each, and through the standard library it renders and hands on to a stream handler.
"""

from __future__ import annotations

import gc
import json
import logging
import statistics
import sys
import tempfile
from contextvars import ContextVar
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import orjson
import structlog
from report import Case, progress, report

from upshift.record import Record, Statement
from upshift.settings import LogSettings
from upshift.telemetry.logs import Logs, install

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SIZE = 64  # records that a backlog hands on at a time
LINES = SIZE * 300
ROUNDS = 7
WARMUP = 2


def request(number: int) -> Record:
    record = Record("GET", f"/orders/{number}", perf_counter())
    record.route, record.status, record.seconds = "/orders/{order_id}", 200, 0.0123456
    record.trace_id = record.request_id = f"4bf92f3577b34da6{number:016x}"
    record.span_id = f"{number:016x}"
    record.response_bytes, record.cache_hits = 1_234, 1
    for _ in range(3):
        statement = Statement("SELECT 1", record.started)
        statement.execute_seconds, statement.fetch_seconds = 0.0012, 0.0003
        record.statements.append(statement)
    return record


def ours(records: list[Record], logs: Logs) -> None:
    access = logs.access
    assert access is not None
    for start in range(0, len(records), SIZE):
        for record in records[start : start + SIZE]:
            access.take(record)
        access.flush()
        if not start % (SIZE * 50):
            logs.flush(10)  # a loop as tight as this would outrun the thread
    assert logs.flush(10)
    assert not logs.dropped


def peer(records: list[Record], log: structlog.typing.FilteringBoundLogger) -> None:
    for record in records:
        log.info(
            f"{record.method} {record.path} {record.status}",  # noqa: G004 - ours makes it as well
            logger="access",
            service="shop",
            method=record.method,
            path=record.path,
            status=record.status,
            duration_ms=record.seconds * 1e3,
            statements=len(record.statements),
            database_ms=sum(each.execute_seconds + each.fetch_seconds for each in record.statements) * 1e3,
            cache_hits=record.cache_hits,
            request_bytes=record.request_bytes,
            response_bytes=record.response_bytes,
            request_id=record.request_id,
            trace_id=record.trace_id,
            span_id=record.span_id,
            route=record.route,
        )


PROCESSORS = [
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.EventRenamer("message"),
]


def native(path: str) -> structlog.typing.FilteringBoundLogger:
    """Write with structlog alone, as its documentation has it for speed."""
    logger = structlog.wrap_logger(
        structlog.BytesLogger(Path(path).open("wb")),  # noqa: SIM115 - open as long as the process
        processors=[*PROCESSORS, structlog.processors.JSONRenderer(serializer=orjson.dumps)],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=True,
    )
    return logger.bind()


def through_the_standard_library(path: str) -> structlog.typing.FilteringBoundLogger:
    """Write with structlog in front of a logger of the standard library, with a formatter of structlog's."""
    render = structlog.processors.JSONRenderer(
        serializer=lambda *args, **kw: orjson.dumps(*args, **kw).decode()
    )
    handler = logging.StreamHandler(Path(path).open("w", encoding="utf-8"))  # noqa: SIM115 - likewise
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render]
        )
    )
    logger = logging.getLogger("benchmark")
    logger.handlers[:] = [handler]
    logger.propagate = False
    logger.setLevel(logging.INFO)
    bound = structlog.wrap_logger(
        logger,
        processors=[
            structlog.stdlib.filter_by_level,
            *PROCESSORS,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    return bound.bind()


def our_logs(path: str) -> Logs:
    settings = LogSettings(log_format="json", log_file=path, log_rotate_bytes=0)
    return install(settings, service="shop", current=ContextVar("c", default=None), slow_request_seconds=1.0)


def microseconds(work: Callable[[], None]) -> float:
    gc.collect()
    gc.disable()
    started = perf_counter()
    work()
    taken = perf_counter() - started
    gc.enable()
    return taken / LINES * 1e6


def measure(
    contestants: dict[str, Callable[[list[Record]], None]], records: list[Record], round_number: int
) -> dict[str, float]:
    """Microseconds a line of each, in turn; who begins changes from round to round."""
    names = list(contestants)
    start = round_number % len(names)
    return {
        name: microseconds(lambda name=name: contestants[name](records))
        for name in names[start:] + names[:start]
    }


def assert_equal_fields(files: dict[str, Path]) -> None:
    fields = {name: json.loads(path.read_bytes().splitlines()[-1]).keys() for name, path in files.items()}
    assert all(each == fields["ours"] for each in fields.values()), fields
    lines = {name: path.read_bytes().count(b"\n") for name, path in files.items()}
    assert len(set(lines.values())) == 1, lines


def cases() -> Iterator[Case]:
    progress(f"{ROUNDS} rounds of {LINES} lines each")
    records = [request(number) for number in range(LINES)]
    with tempfile.TemporaryDirectory() as directory:
        files = {name: Path(directory, name) for name in ("ours", "standard", "native")}
        logs = our_logs(str(files["ours"]))
        through, alone = through_the_standard_library(str(files["standard"])), native(str(files["native"]))
        contestants: dict[str, Callable[[list[Record]], None]] = {
            "ours": lambda records: ours(records, logs),
            "standard": lambda records: peer(records, through),
            "native": lambda records: peer(records, alone),
        }
        rounds = [measure(contestants, records, number) for number in range(WARMUP + ROUNDS)][WARMUP:]
        logs.close()
        assert_equal_fields(files)
    our_time = statistics.median(each["ours"] for each in rounds)
    for peer_key, name, bar in (
        ("standard", "structlog with orjson through the standard library", 1 / 3),
        ("native", "structlog native with orjson", 1.0),
    ):
        peer_time = statistics.median(each[peer_key] for each in rounds)
        ratio = statistics.median(each["ours"] / each[peer_key] for each in rounds)
        yield Case("one access line", our_time, peer_time, name, bar, "µs", ratio)


def main() -> int:
    return report("logging", list(cases()), ("msgspec", "orjson", "structlog"))


if __name__ == "__main__":
    sys.exit(main())
