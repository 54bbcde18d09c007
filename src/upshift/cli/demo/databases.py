"""The two databases of the demo: one as the application has it, and a copy for the fixes."""

from __future__ import annotations

import os
import secrets
import shutil
import sqlite3
import tempfile
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from upshift.cli.interruption import finishing
from upshift.errors import DatabaseUnavailableError, SettingsError
from upshift.sql.plans.explain import first_line
from upshift.testing.servers import postgres

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import URL

SERVER_SETTINGS = {"shared_buffers": "256MB"}
"""What the embedded PostgreSQL has otherwise than by default: room for both databases."""


@dataclass(frozen=True, slots=True)
class Databases:
    """Where the demo's data lies.

    Attributes:
        before: URL of the database as it is.
        after: URL of the copy; it exists once `copy` was called.
        copy: copies the one to the other. Nobody may be connected.
        processes: process ids whose CPU time belongs to the database; none where they cannot be seen.
        label: what it is, for the reader.
    """

    before: str
    after: str
    copy: Callable[[], None]
    processes: tuple[int, ...]
    label: str


@contextmanager
def open_databases(*, sqlite: bool) -> Iterator[Databases]:
    """Provide two databases, and remove them at the end.

    They are SQLite files if asked, else databases of the server that `DATABASE_URL` names, else of an
    embedded PostgreSQL.

    Raises:
        SettingsError: `DATABASE_URL` is no URL.
        DatabaseUnavailableError: the server of `DATABASE_URL` refuses, or lets no database be created.
        ServerUnavailableError: no embedded PostgreSQL is to be had.
    """
    with ExitStack() as stack:
        if sqlite:
            yield _sqlite(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="upshift-demo-"))))
        elif os.environ.get("DATABASE_URL"):
            yield stack.enter_context(_on_server(_given(os.environ["DATABASE_URL"]), (), "DATABASE_URL"))
        else:
            server = stack.enter_context(postgres(settings=SERVER_SETTINGS))
            yield stack.enter_context(
                _on_server(make_url(server.url()), (server.pid,), "embedded PostgreSQL")
            )


def _sqlite(folder: Path) -> Databases:
    before, after = folder / "before.db", folder / "after.db"

    def copy() -> None:
        shutil.copyfile(before, after)

    return Databases(
        f"sqlite:///{before}", f"sqlite:///{after}", copy, (), f"SQLite {sqlite3.sqlite_version}"
    )


def _given(url: str) -> URL:
    try:
        return make_url(url)
    except (ArgumentError, ValueError) as error:  # the latter where the port is no number
        raise SettingsError(
            "DATABASE_URL cannot be read; it looks like postgresql://user:password@host/database"
        ) from error


@contextmanager
def _on_server(url: URL, processes: tuple[int, ...], label: str) -> Iterator[Databases]:
    if url.get_backend_name() != "postgresql":
        raise DatabaseUnavailableError(
            f"DATABASE_URL is of {url.get_backend_name()}; the demo wants PostgreSQL, or --sqlite"
        )
    url = url.set(drivername="postgresql+psycopg")
    mark = secrets.token_hex(4)  # nobody has databases of these names, so they can be dropped blindly
    names = (f"upshift_demo_{mark}_before", f"upshift_demo_{mark}_after")
    before, after = (url.set(database=name).render_as_string(hide_password=False) for name in names)
    engine = create_engine(url, isolation_level="AUTOCOMMIT", connect_args={"connect_timeout": 10})

    def run(statement: str) -> Any:  # noqa: ANN401 - a value of the database's
        with engine.connect() as connection:
            result = connection.execute(text(statement))
            return result.scalar() if result.returns_rows else None

    def copy() -> None:
        run(f"CREATE DATABASE {names[1]} TEMPLATE {names[0]} STRATEGY FILE_COPY")

    with _explained(url):
        version = run("SHOW server_version")
    try:
        with _explained(url):
            run(f"CREATE DATABASE {names[0]}")
        yield Databases(before, after, copy, processes, f"{label}, PostgreSQL {version.split()[0]}")
    finally:
        with finishing(f"removing the databases {' and '.join(names)}"):
            for name in names:
                with suppress(
                    SQLAlchemyError
                ):  # the server may be gone by now; an embedded one takes its own
                    run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        engine.dispose()


@contextmanager
def _explained(url: URL) -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        raise DatabaseUnavailableError(
            f"the demo cannot create a database on {url.render_as_string()}: {first_line(error)}"
        ) from error
