"""What an application gives as its engines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy.engine import Engine
from sqlalchemy.ext.asyncio import AsyncEngine

from upshift.record.recording import Dialect

if TYPE_CHECKING:
    from collections.abc import Iterable

    from upshift.sql import Replicas


def dialect_of(engine: Engine) -> Dialect:
    """Return what a recording tells of an engine's dialect."""
    return Dialect(engine.dialect.name, engine.dialect.driver, engine.dialect.paramstyle)


def sync_engines_of(engines: Iterable[Engine | AsyncEngine], replicas: Replicas | None) -> tuple[Engine, ...]:
    """Those that are observed, each once."""
    given = (each.sync_engine if isinstance(each, AsyncEngine) else each for each in engines)
    return tuple(dict.fromkeys((*given, *(replicas.engines if replicas else ()))))


def as_engines(
    engine: Engine | AsyncEngine | Iterable[Engine | AsyncEngine],
) -> tuple[Engine | AsyncEngine, ...]:
    """Return the engines as a tuple, one or several of them.

    Raises:
        TypeError: one is none.
    """
    engines = (engine,) if isinstance(engine, Engine | AsyncEngine) else tuple(engine)
    for each in engines:
        if not isinstance(each, Engine | AsyncEngine):
            raise TypeError(f"engine must be SQLAlchemy engines, sync or async; {each!r} is none")
    return engines
