"""Walks over mapped objects, run lazily and batched side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest
from sqlalchemy import Engine, event
from sqlalchemy.orm import Session

from upshift.sql.loading.batching import Batching

Walk = Callable[[Session], Any]


class Ran(NamedTuple):
    seen: Any
    statements: list[str]


class Both(NamedTuple):
    lazy: Ran
    batched: Ran

    @property
    def counts(self) -> tuple[int, int]:
        return len(self.lazy.statements), len(self.batched.statements)


@contextmanager
def statements_of(engine: Engine) -> Iterator[list[str]]:
    statements: list[str] = []

    def note(_connection, _cursor, statement, *_rest):
        statements.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(engine, "before_cursor_execute", note)


def run(engine: Engine, walk: Walk, **session_arguments: Any) -> Ran:
    with statements_of(engine) as statements, Session(engine, **session_arguments) as session:
        return Ran(walk(session), statements)


@pytest.fixture
def statements() -> Callable[[Engine], Any]:
    return statements_of


@pytest.fixture
def batching(engine: Engine) -> Iterator[Batching]:
    batching = Batching([engine])
    yield batching
    batching.close()
    assert batching.faults == 0


@pytest.fixture
def both(engine: Engine) -> Callable[..., Both]:
    """Run a walk lazily, then batched by a `Batching` that has learned nothing, or from `times - 1` walks."""

    def run_both(walk: Walk, *, times: int = 1, **session_arguments: Any) -> Both:
        lazy = run(engine, walk, **session_arguments)
        batching = Batching([engine])
        try:
            for _ in range(times):
                batched = run(engine, walk, **session_arguments)
                assert batched.seen == lazy.seen
        finally:
            batching.close()
        assert batching.faults == 0
        return Both(lazy, batched)

    return run_both
