"""UP210: a table that is much larger than its rows."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import insert, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from upshift.sql.maintenance.tables import read_tables


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "note"
    id: Mapped[int] = mapped_column(primary_key=True)
    body: Mapped[str]


def fill(session):
    session.execute(insert(Note), [{"id": 0, "body": "x"}])


def work(session):
    session.scalars(select(Note).where(Note.id == 0)).all()


GROW = "INSERT INTO note SELECT i, repeat('x', 150) FROM generate_series(1, 120000) i"
SHRINK = "DELETE FROM note WHERE id % 10 <> 0"
STILL = "ALTER TABLE note SET (autovacuum_enabled = off)"


def after(engine, *statements):
    def complete(observation):
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            for statement in (STILL, *statements):
                connection.execute(text(statement))
                connection.execute(text("SELECT pg_stat_force_next_flush()"))
        with engine.begin() as connection:
            return replace(observation, tables=read_tables(connection))

    return complete


def judge(corpus, *statements, anywhere=()):
    engine = corpus.postgres(Base, fill)
    return corpus.work(engine, work, complete=after(engine, *statements), anywhere=anywhere)


def test_a_table_after_a_large_delete(corpus):
    (finding,) = judge(corpus, GROW, SHRINK, "VACUUM ANALYZE note", anywhere={"UP210"})
    assert "lost space" in finding.title


def test_a_table_that_nobody_vacuums(corpus):
    (finding,) = judge(corpus, GROW, "ANALYZE note", SHRINK, anywhere={"UP210"})
    assert "dead" in finding.title


def test_a_table_that_is_full_of_rows(corpus):
    judge(corpus, GROW, "VACUUM ANALYZE note")


def test_a_table_that_leaves_room_for_updates_on_purpose(corpus):
    judge(corpus, "ALTER TABLE note SET (fillfactor = 40)", GROW, "VACUUM ANALYZE note")


def test_a_small_table_of_which_most_is_lost(corpus):
    small = "INSERT INTO note SELECT i, repeat('x', 150) FROM generate_series(1, 20000) i"
    judge(corpus, small, SHRINK, "VACUUM ANALYZE note")
