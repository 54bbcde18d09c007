"""UP207: an implicit cast keeps an index from serving."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from sqlalchemy import Integer, Numeric, String, cast, func, insert, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from upshift.sql.plans.explaining import explain_statements


class Base(DeclarativeBase):
    pass


class Parcel(Base):
    __tablename__ = "parcel"
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[Decimal] = mapped_column(Numeric, index=True)
    zone: Mapped[str] = mapped_column(String(20), index=True)
    shelf: Mapped[Decimal] = mapped_column(Numeric)


def fill(session):
    rows = [{"id": n, "number": n, "zone": f"z{n % 50}", "shelf": n} for n in range(3000)]
    session.execute(insert(Parcel), rows)
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("ALTER TABLE parcel ALTER number TYPE integer, ALTER shelf TYPE integer"))


def explained(engine):
    return lambda observation: replace(
        observation, plans=explain_statements(observation.statements, [engine])
    )


def judge(corpus, work):
    engine = corpus.postgres(Base, fill)
    corpus.work(engine, work, complete=explained(engine), keep_parameters=True)


def test_a_model_whose_type_is_not_the_columns(corpus):
    def work(session):
        session.scalars(select(Parcel).where(Parcel.number == Decimal(7))).all()  # UP207

    judge(corpus, work)


def test_a_join_of_columns_of_different_types(corpus):
    def work(session):
        prices = "(SELECT 7.5::numeric AS n OFFSET 0) w"
        session.execute(text(f"SELECT p.id FROM parcel p JOIN {prices} ON w.n = p.number"))  # UP207

    judge(corpus, work)


def test_a_value_of_the_columns_own_type(corpus):
    def work(session):
        session.scalars(select(Parcel).where(Parcel.number == cast(Decimal(7), Integer))).all()

    judge(corpus, work)


def test_a_varchar_that_is_text_to_the_planner(corpus):
    def work(session):
        session.scalar(select(func.count()).where(Parcel.zone >= "a"))

    judge(corpus, work)


def test_a_column_without_an_index_to_lose(corpus):
    def work(session):
        session.scalars(select(Parcel).where(Parcel.shelf == Decimal(7))).all()

    judge(corpus, work)
