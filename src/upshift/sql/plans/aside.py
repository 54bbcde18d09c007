"""Connections beside the application's: to the same database, out of nobody's pool, ended when it hangs."""

from __future__ import annotations

import os
import socket
import sqlite3
from contextlib import contextmanager, suppress
from threading import Event, Timer
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from upshift.errors import MissingExtraError
from upshift.sql.engines import OWN, engine_for
from upshift.sql.plans.explain import ExplainRefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator

_IN_MEMORY = {None, "", ":memory:"}


def aside_engine(engine: sa.Engine) -> sa.Engine:
    """Return a synchronous engine for an engine's database, which takes nothing from that one's pool.

    It connects as a synchronous engine does: with its `connect_args`, its `creator` and its listeners, so
    that a search path or a role that these set is the same. Of an asynchronous engine it has the URL.

    Args:
        engine: the application's; of an `AsyncEngine` the one inside it.

    Raises:
        ExplainRefusedError: no second connection sees that database.
        MissingExtraError: psycopg or pymysql is not installed, which an asynchronous engine needs here.
        IndexAdviceError: an asynchronous engine for a database of another kind.
    """
    if engine.dialect.name == "sqlite" and engine.url.database in _IN_MEMORY:
        raise ExplainRefusedError("only its own connection sees an SQLite database in memory: use a file")
    if engine.dialect.is_async:
        if engine.dialect.name in {"mysql", "mariadb"}:
            return _mysql_engine(engine.url)
        return engine_for(engine.url)
    pool = NullPool(engine.pool._creator, _dispatch=engine.pool.dispatch)
    return sa.create_engine(engine.url, pool=pool, execution_options=OWN)


def _mysql_engine(url: sa.URL) -> sa.Engine:
    try:
        url = url.set(drivername="mysql+pymysql")
        return sa.create_engine(url, poolclass=NullPool, execution_options=OWN)
    except ModuleNotFoundError as error:
        raise MissingExtraError("a synchronous connection to MariaDB or MySQL", "mysql") from error


@contextmanager
def deadline(engine: sa.Engine, seconds: float) -> Iterator[None]:
    """End whatever connections of an engine wait for when a `with` block takes longer.

    A server that hangs answers no timeout of its own. So the sockets are shut from this side, whereupon the
    driver finds its connection broken; also while the connection is still being prepared for use.

    Args:
        engine: one that nobody else uses.
        seconds: how long the block may take.
    """
    drivers: list[Any] = []
    is_over = Event()

    def know(driver: Any, _record: object) -> None:  # noqa: ANN401 - any driver's
        drivers.append(driver)
        if is_over.is_set():
            _end(driver)

    def expire() -> None:
        is_over.set()
        for driver in drivers:
            _end(driver)

    timer = Timer(seconds, expire)
    timer.daemon = True
    timer.start()
    sa.event.listen(engine, "connect", know, insert=True)
    try:
        yield
    finally:
        timer.cancel()
        sa.event.remove(engine, "connect", know)


def _end(driver: Any) -> None:  # noqa: ANN401 - any driver's
    if isinstance(driver, sqlite3.Connection):
        driver.interrupt()
        return
    # Some drivers have no socket to tell of, and this one's may be closed already.
    with suppress(Exception), socket.socket(fileno=os.dup(driver.fileno())) as shared:
        shared.shutdown(socket.SHUT_RDWR)
