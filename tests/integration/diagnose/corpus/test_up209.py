"""UP209: a plan that changed and became worse."""

from __future__ import annotations

import time
from dataclasses import replace

from sqlalchemy import func, insert, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from upshift.sql import Sample, explain_statement
from upshift.sql.plans.history import PlanHistory


class Base(DeclarativeBase):
    pass


class Reading(Base):
    __tablename__ = "reading"
    id: Mapped[int] = mapped_column(primary_key=True)
    sensor: Mapped[int] = mapped_column(index=True)
    kind: Mapped[int] = mapped_column(index=True)


def fill(session):
    # One kind is rare and the other is nearly every row, so their plans differ.
    rows = [{"id": n, "sensor": n % 4000, "kind": int(n % 4000 == 0)} for n in range(20_000)]
    session.execute(insert(Reading), rows)


def explained_around(engine, change, *, again=2):
    """The history of plans that are explained twice, and `again` times after a change."""

    def complete(observation):
        history = PlanHistory()
        for number in range(2 + again):
            if number == 2:
                with engine.begin() as connection:
                    connection.execute(text(change))
                engine.dispose()  # settings of a database reach new sessions only
            for row in observation.statements:
                with engine.connect() as connection:
                    sample = Sample(row.sql, row.parameters)
                    explanation = explain_statement(connection, sample, with_generic=True)
                history.add(row.digest, explanation, at=time.time(), seconds=row.seconds.mean)
        return replace(observation, plans=history.statements())

    return complete


def judge(corpus, work, change, **arguments):
    engine = corpus.postgres(Base, fill)
    complete = explained_around(engine, change, **arguments)
    return corpus.work(engine, work, complete=complete, keep_parameters=True)


def test_an_index_that_was_dropped(corpus):
    def work(session):
        session.scalars(select(Reading).where(Reading.sensor == 7)).all()  # UP209

    (finding,) = judge(corpus, work, "DROP INDEX ix_reading_sensor")
    assert "Seq Scan on reading" in finding.evidence[2]


def test_a_setting_that_forbids_the_better_plan(corpus):
    def work(session):
        session.scalars(select(Reading).where(Reading.sensor == 7)).all()  # UP209

    forbid = """DO $$ BEGIN
        EXECUTE format('ALTER DATABASE %I SET enable_bitmapscan = off', current_database());
        EXECUTE format('ALTER DATABASE %I SET enable_indexscan = off', current_database());
    END $$"""
    (finding,) = judge(corpus, work, forbid)
    assert any("enable_indexscan" in fact for fact in finding.evidence)


def test_a_change_that_was_seen_once(corpus):
    def work(session):
        session.scalars(select(Reading).where(Reading.sensor == 7)).all()

    judge(corpus, work, "DROP INDEX ix_reading_sensor", again=1)


def test_a_change_for_the_better(corpus):
    def work(session):
        session.scalars(select(Reading).where(Reading.id + 0 == 7)).all()

    judge(corpus, work, "CREATE INDEX shifted ON reading ((id + 0))")


def test_another_value_that_has_another_plan(corpus):
    def work(session):
        for kind in (0, 1):
            session.scalar(select(func.max(Reading.sensor)).where(Reading.kind == kind))

    judge(corpus, work, "SELECT 1")
