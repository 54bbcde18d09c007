"""What capturing adds to one statement.

    python benchmarks/capture.py

A query for one row, fetched, through Core and through the ORM, on SQLite in memory: the cheapest statement
there is, so nothing hides the price. Two identical engines take turns, one of them captured into a record; a
round is some hundred statements on each. `ours` is the processor time that capture adds, the median over the
rounds' differences, and `peer` the bar that DESIGN.md sets, so the bar of their ratio is 1. A second line of
each case tells what the statement takes without capture, and is not judged.

The cases `with every analyzer on` ask an application for the same statements, bare and under an Upshift that
explains slow statements, learns fetch plans, batches lazy loads, watches what is read of objects, counts
metrics and observes pools and transactions; a connection is taken for each ten statements. All of that is in
`ours`: also what the request itself costs, and what is done with its record when it is over.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import sys
from contextvars import ContextVar
from functools import partial
from time import process_time
from typing import TYPE_CHECKING, Protocol

from report import Case, progress, report
from sqlalchemy import Engine, create_engine, insert, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.pool import StaticPool
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from upshift import Upshift
from upshift.record import Record
from upshift.settings import Settings, SqlSettings
from upshift.sql import Capture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starlette.requests import Request
    from starlette.types import Message

ROUNDS = 80
STATEMENTS = 250
PER_CONNECTION = 10
WARMUP = 5
CORE_BAR, ORM_BAR = 8.0, 15.0


class Work(Protocol):
    """Sends so many statements on one connection."""

    def __call__(self, engine: Engine, statements: int = STATEMENTS) -> None:  # noqa: D102 - as above
        ...


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


ROW = select(Item.id, Item.name).where(Item.id == 1)
OBJECT = select(Item).where(Item.id == 1)


def make_engine() -> Engine:
    engine = create_engine("sqlite://", poolclass=StaticPool)
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(Item).values(id=1, name="one"))
    return engine


def core(engine: Engine, statements: int = STATEMENTS) -> None:
    with engine.connect() as connection:
        for _ in range(statements):
            connection.execute(ROW).all()


def orm(engine: Engine, statements: int = STATEMENTS) -> None:
    with Session(engine) as session:
        for _ in range(statements):
            session.scalars(OBJECT).all()


def time_of(work: Callable[[], object]) -> float:
    """Microseconds of processor time for each statement."""
    gc.collect()
    gc.disable()
    started = process_time()
    work()
    seconds = process_time() - started
    gc.enable()
    return seconds / STATEMENTS * 1e6


def take_turns(bare: Callable[[], object], ours: Callable[[], object]) -> tuple[float, float]:
    """Microseconds that ours takes more, and those of the bare statement."""
    added, baseline = [], []
    for round_number in range(WARMUP + ROUNDS):
        if round_number % 2:
            without = time_of(bare)
            with_ours = time_of(ours)
        else:
            with_ours = time_of(ours)
            without = time_of(bare)
        if round_number >= WARMUP:
            added.append(with_ours - without)
            baseline.append(without)
    return statistics.median(added), statistics.median(baseline)


def with_capture(work: Work) -> tuple[float, float]:
    bare, captured = make_engine(), make_engine()
    current: ContextVar[Record | None] = ContextVar("current", default=None)
    capture = Capture([captured], current)

    def into_a_record() -> None:
        record = Record("GET", "/", 0.0)
        current.set(record)
        work(captured)
        assert [statement.rows for statement in record.statements] == [1] * STATEMENTS

    measured = take_turns(partial(work, bare), into_a_record)
    capture.close()
    return measured


def make_app(work: Work, engine: Engine) -> Starlette:
    async def statements(_request: Request) -> Response:
        for _ in range(STATEMENTS // PER_CONNECTION):
            work(engine, PER_CONNECTION)
        return Response()

    return Starlette(routes=[Route("/", statements)])


async def receive() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def send(message: Message) -> None:
    if message["type"] == "http.response.start":
        assert message["status"] == 200, message


def with_every_analyzer(work: Work) -> tuple[float, float]:
    bare_engine, engine = make_engine(), make_engine()
    bare, app = make_app(work, bare_engine), make_app(work, engine)
    every = SqlSettings(explain_slow="plan", fetch_plans="learn", batching=True)
    upshift = Upshift(app, engine=engine, settings=Settings(sql=every))
    requests = 0

    def ask(asked: Starlette) -> None:
        scope = {"type": "http", "http_version": "1.1", "method": "GET", "path": "/", "headers": []}
        runner.run(asked({**scope, "query_string": b"", "state": {}}, receive, send))

    def ask_ours() -> None:
        nonlocal requests
        ask(app)
        requests += 1
        told = upshift.observation().statements  # counts what waits, so that its price is in the time
        assert sum(each.seconds.count for each in told) == requests * STATEMENTS

    with asyncio.Runner() as runner:
        measured = take_turns(partial(ask, bare), ask_ours)
    upshift.close()
    return measured


def cases() -> Iterator[Case]:
    for name, work, bar in (("core", core, CORE_BAR), ("orm", orm, ORM_BAR)):
        for case, measure in ((name, with_capture), (f"{name}, with every analyzer on", with_every_analyzer)):
            progress(f"{case}: {ROUNDS} rounds of {STATEMENTS} statements")
            added, bare = measure(work)
            yield Case(case, added, bar, "bar", 1.0, "µs")
            yield Case(f"{case}, of the whole statement", bare + added, bare, "without capture", None, "µs")


def main() -> int:
    return report("capture", list(cases()), ("sqlalchemy",))


if __name__ == "__main__":
    sys.exit(main())
