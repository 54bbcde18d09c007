"""What capturing adds to one statement.

    python benchmarks/capture.py

A query for one row, fetched, through Core and through the ORM, on SQLite in memory: the cheapest statement
there is, so nothing hides the price. Two identical engines take turns, one of them captured into a record; a
round is some hundred statements on each. `ours` is the processor time that capture adds, the median over the
rounds' differences, and `peer` the bar that DESIGN.md sets, so the bar of their ratio is 1. A second line of
each case tells what the statement takes without capture, and is not judged.
"""

from __future__ import annotations

import gc
import statistics
import sys
from contextvars import ContextVar
from time import process_time
from typing import TYPE_CHECKING

from report import Case, progress, report
from sqlalchemy import Engine, create_engine, insert, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.pool import StaticPool

from upshift.record import Record
from upshift.sql import Capture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROUNDS = 80
STATEMENTS = 250
WARMUP = 5
CORE_BAR, ORM_BAR = 8.0, 15.0


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


def core(engine: Engine) -> None:
    with engine.connect() as connection:
        for _ in range(STATEMENTS):
            connection.execute(ROW).all()


def orm(engine: Engine) -> None:
    with Session(engine) as session:
        for _ in range(STATEMENTS):
            session.scalars(OBJECT).all()


def time_of(work: Callable[[Engine], None], engine: Engine) -> float:
    """Microseconds of processor time for each statement."""
    gc.collect()
    gc.disable()
    started = process_time()
    work(engine)
    seconds = process_time() - started
    gc.enable()
    return seconds / STATEMENTS * 1e6


def measure(work: Callable[[Engine], None]) -> tuple[float, float]:
    """Microseconds that capture adds, and those of the bare statement."""
    bare, captured = make_engine(), make_engine()
    current: ContextVar[Record | None] = ContextVar("current", default=None)
    capture = Capture([captured], current)
    added, baseline = [], []
    for round_number in range(WARMUP + ROUNDS):
        record = Record("GET", "/", 0.0)
        current.set(record)
        if round_number % 2:
            without = time_of(work, bare)
            with_capture = time_of(work, captured)
        else:
            with_capture = time_of(work, captured)
            without = time_of(work, bare)
        assert [statement.rows for statement in record.statements] == [1] * STATEMENTS
        if round_number >= WARMUP:
            added.append(with_capture - without)
            baseline.append(without)
    capture.close()
    return statistics.median(added), statistics.median(baseline)


def cases() -> Iterator[Case]:
    for name, work, bar in (("core", core, CORE_BAR), ("orm", orm, ORM_BAR)):
        progress(f"{name}: {ROUNDS} rounds of {STATEMENTS} statements")
        added, baseline = measure(work)
        yield Case(name, added, bar, "bar", 1.0, "µs")
        yield Case(
            f"{name}, of the whole statement", baseline + added, baseline, "without capture", None, "µs"
        )


def main() -> int:
    return report("capture", list(cases()), ("sqlalchemy",))


if __name__ == "__main__":
    sys.exit(main())
