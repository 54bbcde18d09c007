"""UP102: a slow statement."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import DeclarativeBase


class Base(DeclarativeBase):
    pass


def test_a_statement_that_takes_longer_than_the_threshold(corpus):
    def work(session):
        session.execute(select(func.pg_sleep(0.25))).all()  # UP102

    corpus.work(corpus.postgres(Base), work, slow_statement_seconds=0.2)


def test_a_statement_below_the_threshold(corpus):
    def work(session):
        session.execute(select(func.pg_sleep(0.01))).all()

    corpus.work(corpus.postgres(Base), work, slow_statement_seconds=30)
