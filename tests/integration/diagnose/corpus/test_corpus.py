"""The corpus is as large as it says, and its cases could fail."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

CASES = 60
"""What the findings' bar asks for; half of them are near misses."""


class Base(DeclarativeBase):
    pass


class Book(Base):
    __tablename__ = "book"
    id: Mapped[int] = mapped_column(primary_key=True)


def cases():
    """The source of each case, by the code of the file that it is in."""
    for path in sorted(Path(__file__).parent.glob("test_up*.py")):
        source = path.read_text("utf-8")
        for node in ast.walk(ast.parse(source)):
            is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            if is_function and node.name.startswith("test_"):
                yield path.stem.removeprefix("test_").upper(), ast.get_source_segment(source, node)


def is_near_miss(source, marks_of):
    return not any(map(marks_of, source.splitlines())) and "anywhere=" not in source


def test_the_corpus_is_large_enough_both_in_true_positives_and_in_near_misses(marks_of):
    near_misses = [is_near_miss(source, marks_of) for _, source in cases()]
    assert near_misses.count(True) >= CASES / 2
    assert near_misses.count(False) >= CASES / 2


def test_each_code_has_true_positives_and_near_misses(marks_of):
    kinds = {}
    for code, source in cases():
        kinds.setdefault(code, set()).add(is_near_miss(source, marks_of))
    assert {code for code, found in kinds.items() if found != {True, False}} == set()


def a_loop(session):
    for number in range(5):
        session.execute(select(Book.id).where(Book.id == number)).all()


def test_what_is_found_and_not_expected_fails_a_case(corpus):
    with pytest.raises(AssertionError, match="UP101"):
        corpus.work(corpus.sqlite(Base), a_loop)


def test_what_is_expected_and_not_found_fails_a_case(corpus):
    def work(session):
        session.scalars(select(Book)).all()  # UP101

    with pytest.raises(AssertionError):
        corpus.work(corpus.sqlite(Base), work)


def test_what_is_found_on_another_line_fails_a_case(corpus):
    def work(session):
        a_loop(session)  # UP101

    with pytest.raises(AssertionError, match="UP101"):
        corpus.work(corpus.sqlite(Base), work)


def test_an_application_that_answers_with_an_error_fails_a_case(corpus):
    def work(session):
        raise ValueError

    with pytest.raises(AssertionError):
        corpus.work(corpus.sqlite(Base), work)
