"""Boots the application that a command names, and finds its engines."""

from __future__ import annotations

import gc
import importlib
import sys
import traceback
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, cast

from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import create_async_engine

from upshift.errors import ApplicationLoadError, DatabaseUnavailableError
from upshift.sql.engines import is_own
from upshift.sql.plans.explain import first_line

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.types import ASGIApp

CONNECT_SECONDS = 10.0
"""How long a database may take to accept a connection."""


def load_application(target: str, app_dir: str = ".") -> ASGIApp:
    """Import an ASGI application.

    Args:
        target: `module:attribute`, such as `shop.main:app`.
        app_dir: the folder put first on the import path.

    Raises:
        ApplicationLoadError: the target is malformed, does not import, or is no ASGI application.
    """
    module_name, separator, attribute = target.partition(":")
    if not (module_name and separator and attribute):
        raise ApplicationLoadError(
            f"{target!r} names no application; write module:app, such as shop.main:app"
        )
    folder = str(Path(app_dir).resolve())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {error}".removesuffix(": ")
        raise ApplicationLoadError(
            f"{module_name} did not import: {reason}{_place_of(error)};"
            f" modules are looked for in {folder} first (--app-dir)"
        ) from error
    app: object = module
    for name in attribute.split("."):
        if not hasattr(app, name):
            raise ApplicationLoadError(f"{module_name} has no {attribute!r}")
        app = getattr(app, name)
    if not callable(app):
        raise ApplicationLoadError(f"{target} is a {type(app).__name__}, not an ASGI application")
    return cast("ASGIApp", app)


def _place_of(error: BaseException) -> str:
    """Where an import failed: the last line that is no import machinery's; "" where it came to none."""
    if isinstance(error, SyntaxError):
        return f" ({error.filename}:{error.lineno})"
    _ours, _importlib, *imported = traceback.extract_tb(error.__traceback__)
    frames = [each for each in imported if not each.filename.startswith("<frozen importlib.")]
    return f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""


def find_engines() -> tuple[Engine, ...]:
    """Return the application's engines in this process; an async one's is the sync one inside it."""
    engines = (each for each in gc.get_objects() if issubclass(type(each), Engine))
    return tuple(each for each in engines if not is_own(each))


def check_databases(engines: Iterable[Engine]) -> None:
    """Connect to each once.

    Raises:
        DatabaseUnavailableError: a database refused, or did not answer within `CONNECT_SECONDS`.
    """
    for engine in engines:
        _check(engine)


def _check(engine: Engine) -> None:
    url = engine.url.render_as_string(hide_password=True)
    answer: SimpleQueue[Exception | None] = SimpleQueue()

    def connect() -> None:
        try:
            _connect(engine)
        except Exception as error:  # noqa: BLE001 - told to whoever waits
            answer.put(error)
        else:
            answer.put(None)

    # A driver's connect may hang for minutes and cannot be interrupted. A daemon thread is left behind.
    Thread(target=connect, name="upshift-connect", daemon=True).start()
    try:
        error = answer.get(timeout=CONNECT_SECONDS)
    except Empty:
        raise DatabaseUnavailableError(f"{url} did not answer within {CONNECT_SECONDS:.0f} s") from None
    if isinstance(error, SQLAlchemyError | OSError):
        raise DatabaseUnavailableError(f"cannot connect to {url}: {first_line(error)}") from error
    if error is not None:
        raise error


def _connect(engine: Engine) -> None:
    if engine.dialect.is_async:
        import asyncio

        async def connect() -> None:
            # An engine of our own: the application's pool belongs to the event loop that serves it.
            own = create_async_engine(engine.url)
            try:
                async with own.connect():
                    pass
            finally:
                await own.dispose()

        asyncio.run(connect())
    else:
        with engine.connect():
            pass
