"""The corpus of findings: tiny applications, each of which tells on which of its lines what must be found.

A case is a test. It builds an application, or just some work that a request does, on a real database, and
hands it to the fixture `corpus`. There it is served through an `Upshift` as any application is, asked, and
judged by all rules. What is found, code and line, must be what the case's own comments say, no more, no less:

    def test_a_lazy_load_for_each_object(corpus):
        def work(session):
            for book in session.scalars(select(Book)):
                assert book.author.name  # UP101

        corpus.work(corpus.sqlite(Base, fill), work)

A line that two rules tell of has both codes in its comment: `# UP101 UP103`. A case without such a comment is
a near miss: it does what is fine, and looks like what is not. `test_corpus.py` counts both kinds.

How to add cases for a rule:

1. Make `test_up<code>.py` here, with small models of its own and a function that fills their tables; many
   rows only where the rule needs them.
2. Write cases: `corpus.work(engine, work)` runs `work(session)` in one request, a plain function in a thread
   with a `Session`, a coroutine with an `AsyncSession` (`corpus.async_sqlite`, `corpus.async_postgres`).
   `corpus.app(app, "/path", …, engine=engine)` asks an application of your own. Both take settings
   (`repeated_statements=2`), and `advise=True` seeks indexes. `complete` adds to the observation what is not
   observed in requests, such as plans. What is found of no line (`site=None`) is named
   by `anywhere={"UP211"}`, as no comment can.
3. For each way to be right about a problem there is a near miss: the same code below the threshold, the fixed
   code, the code that only looks alike. Timings decide nothing: a wait that must be found is a sleep longer
   than the threshold, and a near miss has a threshold that no slow machine reaches.
"""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Awaitable, Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Session
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from upshift import Upshift
from upshift.cli.advice import advise_on, indexes_of
from upshift.diagnose import Finding, Observation, diagnose, get
from upshift.record import CallSite

COMMENT = re.compile(r"#[^#\"']*\bUP\d{3}\b[^\"']*$")
CODE = re.compile(r"\bUP\d{3}\b")
TIMES = ("slow_statement_seconds", "idle_connection_seconds", "long_transaction_seconds")
"""Thresholds that a slow machine might reach; a case that is about one sets it."""

AnyEngine = Engine | AsyncEngine
Fill = Callable[[Session], object]


class Corpus:
    """What a case needs, and what it is judged by."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._request = request
        self._engines: list[Engine] = []

    def sqlite(self, base: type[DeclarativeBase], fill: Fill = lambda _: None) -> Engine:
        """An engine of an SQLite file with the tables of `base`, filled by `fill(session)`."""
        return self._filled(f"sqlite:///{self._file()}", base, fill)

    def async_sqlite(self, base: type[DeclarativeBase], fill: Fill = lambda _: None) -> AsyncEngine:
        """An asynchronous engine of such a file."""
        return create_async_engine(self.sqlite(base, fill).url.set(drivername="sqlite+aiosqlite"))

    def postgres(self, base: type[DeclarativeBase], fill: Fill = lambda _: None) -> Engine:
        """An engine of a database on a real PostgreSQL, likewise, with current statistics."""
        engine = self._filled(self._request.getfixturevalue("postgres_database"), base, fill)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            # Else what was filled in may be counted after ANALYZE, as changes since then.
            connection.exec_driver_sql("SELECT pg_stat_force_next_flush()")
            connection.exec_driver_sql("ANALYZE")
        return engine

    def async_postgres(self, base: type[DeclarativeBase], fill: Fill = lambda _: None) -> AsyncEngine:
        """An asynchronous engine of such a database."""
        return create_async_engine(self.postgres(base, fill).url)

    def work(
        self, engine: AnyEngine, *works: Callable[[Any], object], times: int = 1, **arguments: Any
    ) -> tuple[Finding, ...]:
        """Judge work that a request does, each work in `times` requests of its own."""
        routes = [Route(f"/work/{number}", _endpoint(engine, work)) for number, work in enumerate(works)]
        paths = [route.path for route in routes for _ in range(times)]
        return self.app(Starlette(routes=routes), *paths, engine=engine, **arguments)

    def app(
        self,
        app: Starlette,
        *paths: str,
        engine: AnyEngine,
        advise: bool = False,
        catalog: bool = False,
        anywhere: Collection[str] = (),
        complete: Callable[[Observation], Observation] = lambda observation: observation,
        **settings: Any,
    ) -> tuple[Finding, ...]:
        """Judge an application by its answers to some paths."""
        never = dict.fromkeys(TIMES, 60.0)
        defaults = {"sample_rate": 1.0, "ring_size": 10_000, **never}
        upshift = Upshift(app, engine=engine, **{**defaults, **settings})
        try:
            asyncio.run(_ask(upshift, paths, engine))
            observation = upshift.observation()
            faults = _faults(upshift)
        finally:
            upshift.close()
        assert faults == {}
        observed = [engine.sync_engine if isinstance(engine, AsyncEngine) else engine]
        if advise:
            advice, _ = advise_on(observation.statements, observed)
            observation = replace(observation, advice=advice)
        if catalog:
            observation = replace(observation, indexes=indexes_of(observed))
        findings = diagnose(complete(observation))
        told = "\n".join(f"{each.code} {each.site} {each.title}" for each in findings)
        assert self._places(findings) == self._expected() | {(code, None) for code in anywhere}, told
        return findings

    def close(self) -> None:
        for engine in self._engines:
            engine.dispose()

    def _file(self) -> Path:
        return Path(self._request.getfixturevalue("tmp_path")) / f"{len(self._engines)}.db"

    def _filled(self, url: str, base: type[DeclarativeBase], fill: Fill) -> Engine:
        engine = create_engine(url)
        self._engines.append(engine)
        base.metadata.create_all(engine)
        with Session(engine) as session:
            fill(session)
            session.commit()
        return engine

    def _places(self, findings: tuple[Finding, ...]) -> set[tuple[str, int | None]]:
        """Where something was found; the line is the case's own, or tells its file."""
        return {(each.code, self._line(each.site)) for each in findings}

    def _line(self, site: CallSite | None) -> Any:
        is_own = site is not None and Path(site.file) == self._request.path
        return site.line if is_own and site is not None else site

    def _expected(self) -> set[tuple[str, int | None]]:
        lines, first = inspect.getsourcelines(self._request.function)
        return {(code, first + number) for number, line in enumerate(lines) for code in marks(line)}


def marks(line: str) -> list[str]:
    """The codes that must be found of a line."""
    comment = COMMENT.search(line)
    return CODE.findall(comment[0]) if comment else []


def _faults(upshift: Upshift) -> dict[tuple[str, ...], float]:
    upshift.metrics.refresh()
    counted = {each.labels: each.values[0] for each in upshift.metrics.series() if "faults" in each.family}
    assert counted
    return {part: count for part, count in counted.items() if count}


async def _ask(upshift: Upshift, paths: tuple[str, ...], engine: AnyEngine) -> None:
    try:
        for path in paths:
            response = await get(upshift, path, {"accept-encoding": "gzip"})
            assert (response.status, response.error) == (200, None)
    finally:
        if isinstance(engine, AsyncEngine):
            await engine.dispose()


def _endpoint(engine: AnyEngine, work: Callable[[Any], object]) -> Callable[[Any], Any]:
    async def endpoint(_: Any) -> PlainTextResponse:
        if isinstance(engine, AsyncEngine):
            async with AsyncSession(engine) as session:
                await cast("Awaitable[object]", work(session))
        else:
            await run_in_threadpool(_in_session, engine, work)
        return PlainTextResponse("done")

    return endpoint


def _in_session(engine: Engine, work: Callable[[Session], object]) -> None:
    with Session(engine) as session:
        work(session)


@pytest.fixture
def corpus(request: pytest.FixtureRequest) -> Iterator[Corpus]:
    corpus = Corpus(request)
    yield corpus
    corpus.close()


@pytest.fixture(scope="session")
def marks_of() -> Callable[[str], list[str]]:
    return marks
