"""UP208: the planner's numbers are far from those of the table."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import func, insert, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from upshift.sql.plans.explaining import explain_statements


class Base(DeclarativeBase):
    pass


class Address(Base):
    __tablename__ = "address"
    id: Mapped[int] = mapped_column(primary_key=True)
    city: Mapped[int]
    country: Mapped[int]
    street: Mapped[int]


def fill(session):
    rows = [{"id": n, "city": n % 30, "country": n % 30, "street": n % 2000} for n in range(40_000)]
    session.execute(insert(Address), rows)


def measured(engine, *before):
    def complete(observation):
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            for statement in before:
                connection.execute(text(statement))
            connection.execute(text("SELECT pg_stat_force_next_flush()"))
        plans = explain_statements(observation.statements, [engine], analyze=True)
        return replace(observation, plans=plans)

    return complete


def judge(corpus, work, *before):
    engine = corpus.postgres(Base, fill)
    return corpus.work(engine, work, complete=measured(engine, *before), keep_parameters=True)


def test_columns_that_depend_on_each_other(corpus):
    def work(session):
        session.scalar(select(func.count()).where(Address.city == 7, Address.country == 7))  # UP208

    (finding,) = judge(corpus, work)
    assert finding.fix[0].startswith("CREATE STATISTICS")


def test_a_table_that_changed_since_it_was_analysed(corpus):
    def work(session):
        session.scalar(select(func.count()).where(Address.street == 7))  # UP208

    grown = "INSERT INTO address SELECT 100000 + i, 1, 1, 7 FROM generate_series(1, 8000) i"
    (finding,) = judge(corpus, work, "ALTER TABLE address SET (autovacuum_enabled = off)", grown)
    assert finding.fix[0].startswith('ANALYZE "public"."address"')


def test_columns_whose_dependence_the_planner_knows(corpus):
    def work(session):
        session.scalar(select(func.count()).where(Address.city == 7, Address.country == 7))

    known = "CREATE STATISTICS both_columns (dependencies, mcv) ON city, country FROM address"
    judge(corpus, work, known, "ANALYZE address")


def test_a_scan_that_a_limit_stops_early(corpus):
    def work(session):
        session.scalars(select(Address.id).where(Address.street < 1000).limit(3)).all()

    judge(corpus, work)


def test_an_estimate_that_is_off_by_a_few_rows(corpus):
    def work(session):
        session.scalar(select(func.count()).where(Address.street == -1))

    judge(corpus, work)
