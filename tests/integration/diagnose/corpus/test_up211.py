"""UP211, UP212, UP213: indexes that the database would be better without. They belong to no line."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest
import sqlalchemy as sa
from sqlalchemy import select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from upshift.sql.indexes.surplus import surplus_indexes


class Base(DeclarativeBase):
    pass


class Parcel(Base):
    __tablename__ = "parcel"
    id: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[int]
    town: Mapped[int]


ROWS = """
    WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 59999)
    INSERT INTO parcel (id, owner, town) SELECT i, i * 7 % 60013, i % 7 FROM n
"""


def fill(session):
    session.execute(sa.text(ROWS))


def work(session):
    session.scalar(select(Parcel.town).where(Parcel.id == 7))


def judge(corpus, engine, *indexes, days=0.0, uses=(), **arguments):
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for sql in indexes:
            with suppress(sa.exc.IntegrityError):  # a unique one that fails is left invalid
                connection.exec_driver_sql(sql)
        for sql in uses:
            connection.exec_driver_sql(sql)
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql("SELECT pg_stat_force_next_flush()")
    return corpus.work(
        engine,
        work,
        complete=lambda seen: replace(seen, surplus=surplus_indexes(engine, days=days)),
        **arguments,
    )


OWNER = "CREATE INDEX parcel_owner ON parcel (owner)"


def test_an_index_that_no_plan_uses(corpus):
    (finding,) = judge(corpus, corpus.postgres(Base, fill), OWNER, anywhere={"UP211"})
    assert finding.fix[0] == 'DROP INDEX CONCURRENTLY "public"."parcel_owner";'
    assert "replica" in finding.fix[1]


def test_the_shorter_of_two_indexes(corpus):
    longer = "CREATE INDEX parcel_owner_town ON parcel (owner, town)"
    uses = ["SELECT * FROM parcel WHERE owner = 5 AND town = 2"]
    (finding,) = judge(corpus, corpus.postgres(Base, fill), OWNER, longer, uses=uses, anywhere={"UP212"})
    assert "parcel_owner_town" in finding.title


def test_the_younger_of_two_equal_indexes_on_sqlite(corpus):
    twin = "CREATE INDEX parcel_owner_2 ON parcel (owner)"
    (finding,) = judge(corpus, corpus.sqlite(Base, fill), OWNER, twin, anywhere={"UP212"})
    assert finding.data["name"] == "parcel_owner_2"


def test_an_index_whose_build_failed(corpus):
    unique = "CREATE UNIQUE INDEX CONCURRENTLY parcel_one_town ON parcel (town)"
    (finding,) = judge(corpus, corpus.postgres(Base, fill), unique, anywhere={"UP213"})
    assert "parcel_one_town" in finding.title


def test_an_index_that_is_used(corpus):
    judge(corpus, corpus.postgres(Base, fill), OWNER, uses=["SELECT * FROM parcel WHERE owner = 5"])


def test_an_index_that_was_counted_for_too_short_a_time(corpus):
    judge(corpus, corpus.postgres(Base, fill), OWNER, days=1.0)


@pytest.mark.parametrize(
    "rule",
    [
        "CREATE UNIQUE INDEX parcel_id_owner ON parcel (id, owner)",
        "ALTER TABLE parcel ADD CONSTRAINT parcel_town_id UNIQUE (town, id)",
        "ALTER TABLE parcel REPLICA IDENTITY USING INDEX parcel_pkey",
    ],
    ids=["unique", "constraint", "replica identity"],
)
def test_an_index_that_holds_a_rule(corpus, rule):
    judge(corpus, corpus.postgres(Base, fill), rule)


@pytest.mark.parametrize(
    "other",
    [
        "CREATE INDEX parcel_other ON parcel (town, owner)",
        "CREATE INDEX parcel_other ON parcel (owner DESC, town)",
        "CREATE INDEX parcel_other ON parcel (owner, town) WHERE town = 2",
        "CREATE INDEX parcel_other ON parcel USING hash (owner)",
    ],
    ids=["another first column", "another direction", "only some rows", "another kind"],
)
def test_two_indexes_that_look_alike(corpus, other):
    judge(corpus, corpus.postgres(Base, fill), OWNER, other, days=1.0)
