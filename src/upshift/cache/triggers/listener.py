"""Listens to a database, and announces what others have committed there.

A thread with an event loop and a connection of its own, so that everything it waits for has an end: psycopg
would wait for a server that was stopped. What is lost with a connection is everything that was told
meanwhile. So from before the first connection until it listens, and from the loss of it until it listens
again, an intent for everything that was read from a database is kept up.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import logging
import os
import random
import socket
import threading
from contextlib import suppress
from importlib.util import find_spec
from time import monotonic
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from upshift.cache.dependencies import EVERYTHING, rows_tag, table_tag
from upshift.cache.dependencies.names import bare_name, below_tag
from upshift.cache.dependencies.rows import Kind, key_part, key_tag
from upshift.cache.triggers.definition import CHANNEL, PREFIX
from upshift.errors import MissingExtraError, SettingsError
from upshift.record.fork import after_fork
from upshift.sql.engines import engine_for

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    import psycopg
    from sqlalchemy import URL

    from upshift.cache.dependencies.schema import Schema
    from upshift.cache.tokens import Carrier

logger = logging.getLogger("upshift.cache")

CHECK_SECONDS = 2.0
"""After how much silence the server is asked whether it is there, in seconds."""

ANSWER_SECONDS = 2.0
"""How long it may take to answer that."""

CONNECT_SECONDS = 5.0
"""How long connecting may take."""

NAME = "upshift cache"
"""What the connection is called in `pg_stat_activity`."""

MAX_PAUSE = 5.0
"""The longest pause between two attempts to connect, in seconds. Intents last longer."""

_HAS_TRIGGERS = f"SELECT EXISTS (SELECT FROM pg_trigger WHERE starts_with(tgname, '{PREFIX}'))"  # noqa: S608 - a constant


class Listener:
    """Announces what the triggers of a database tell.

    Args:
        url: the database. Not by way of a pooler that hands connections out by transaction, such as
            PgBouncer's `transaction` mode: notifications come to a session.
        carrier: where tokens live.
        schema: what is known of tables.

    Raises:
        SettingsError: it is no PostgreSQL.
        MissingExtraError: psycopg is not installed.

    Attributes:
        place: the database's URL, without a password.
        is_listening: whether it hears what is committed.
        heard: notifications that were heard.
        faults: times when the connection was lost or could not be had, or a notification not understood.
    """

    def __init__(self, url: str | URL, carrier: Carrier[Any], schema: Schema) -> None:
        self.is_listening = False
        self.heard = 0
        self.faults = 0
        engine = engine_for(url)
        if engine.dialect.name != "postgresql":
            raise SettingsError(f"only PostgreSQL tells of what others write, not {engine.dialect.name}")
        if find_spec("psycopg") is None:
            raise MissingExtraError("hearing of what others write", "postgres")
        self._arguments = engine.dialect.create_connect_args(engine.url)
        self.place = engine.url.render_as_string(hide_password=True)
        self._carrier = carrier
        self._schema = schema
        self._intent = ""
        self._listens = threading.Event()
        self._closing = threading.Event()
        with suppress(Exception):  # its tokens may be far away, and not there: the thread says so again
            self._lose()
        self._start()
        after_fork(self._restart)

    def wait(self, seconds: float) -> bool:
        """Wait until it listens, and return whether it does."""
        return self._listens.wait(seconds)

    def close(self) -> None:
        """End it. Calling it twice does nothing more."""
        self._closing.set()
        with suppress(RuntimeError):  # the loop has ended before
            self._loop.call_soon_threadsafe(self._end)
        self._thread.join(CONNECT_SECONDS)
        with suppress(Exception):  # others may share the tokens, and listen; else the intent ends by itself
            self._regain()
        self.is_listening = False

    def _restart(self) -> None:
        """In a forked child: have a thread and a connection of its own, as those of the parent are not."""
        if not self._closing.is_set():
            self._closing, self._listens = threading.Event(), threading.Event()
            self.is_listening = False
            self._start()

    def _start(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="upshift-cache-listener", daemon=True)
        self._thread.start()

    def _end(self) -> None:
        for task in asyncio.all_tasks(self._loop):
            task.cancel()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner, suppress(asyncio.CancelledError):
            runner.run(self._listen())

    async def _listen(self) -> None:
        """Connect, and follow, again and again."""
        pause = 0.0
        while not self._closing.is_set():
            began = monotonic()
            try:
                await asyncio.to_thread(self._lose)
                await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - no secret
                await self._follow()
            except Exception as error:  # noqa: BLE001 - whatever it is, nothing is heard any more
                self._tell(error)
            finally:
                self._listens.clear()
                self.is_listening = False
            is_short = monotonic() - began < MAX_PAUSE + pause
            pause = min(MAX_PAUSE, max(0.05, 2 * pause)) if is_short else 0.05

    async def _follow(self) -> None:
        """Listen, until the connection is lost."""
        import psycopg

        positional, named = self._arguments
        async with asyncio.timeout(CONNECT_SECONDS):
            connection = await psycopg.AsyncConnection.connect(
                *positional, **{**named, "application_name": NAME, "autocommit": True}
            )
        try:
            await _answered(connection, connection.execute(f"LISTEN {CHANNEL}"))
            await _answered(connection, self._check_triggers(connection))
            await asyncio.to_thread(self._regain)
            while True:
                heard = [
                    each.payload async for each in connection.notifies(timeout=CHECK_SECONDS, stop_after=1)
                ]
                if heard:
                    await asyncio.to_thread(self._hear, heard)
                    continue
                await _answered(connection, connection.execute("SELECT 1"))
        finally:
            try:
                await asyncio.shield(asyncio.to_thread(self._lose))
            finally:
                connection.pgconn.finish()

    async def _check_triggers(self, connection: psycopg.AsyncConnection[Any]) -> None:
        row = await (await connection.execute(_HAS_TRIGGERS)).fetchone()
        if row is None or not row[0]:
            logger.warning(
                "%s has no triggers that tell of what others write: upshift cache install-triggers",
                self.place,
            )

    def _hear(self, payloads: Sequence[str]) -> None:
        tags: set[str] = set()
        for payload in payloads:
            self.heard += 1
            try:
                tags |= tags_of(payload, self._schema)
            except (ValueError, TypeError, LookupError, AttributeError):
                self.faults += 1
                tags.add(EVERYTHING)
        transaction = uuid4().hex
        self._carrier.announce(tags, transaction)
        self._carrier.settle(tags, transaction)

    def _lose(self) -> None:
        """Take away the token of everything, until `_regain`; again, before the intent for it ends."""
        self.is_listening = False
        self._listens.clear()
        before, self._intent = self._intent, uuid4().hex
        self._carrier.announce((EVERYTHING,), self._intent)
        if before:
            self._carrier.settle((EVERYTHING,), before)

    def _regain(self) -> None:
        if self._intent:
            self._carrier.settle((EVERYTHING,), self._intent)
        self._intent = ""
        self.is_listening = True
        self._listens.set()

    def _tell(self, error: Exception) -> None:
        self.faults += 1
        if self.faults == 1:
            logger.warning(
                "what others write to %s is not heard (%s): nothing that was read from a database is cached"
                " until it is again",
                self.place,
                str(error).strip() or type(error).__name__,
            )


async def _answered(connection: psycopg.AsyncConnection[Any], question: Coroutine[Any, Any, Any]) -> None:
    """Wait for an answer, for so long.

    Raises:
        TimeoutError: none came. The connection is cut: psycopg, when it is cancelled, asks the server to
            cancel the query and waits for that, and a server that was stopped never answers.
    """
    task = asyncio.ensure_future(question)
    try:
        await asyncio.wait({task}, timeout=ANSWER_SECONDS)
    finally:
        if not task.done():
            with socket.socket(fileno=os.dup(connection.fileno())) as line:
                line.shutdown(socket.SHUT_RDWR)
            await asyncio.wait({task}, timeout=ANSWER_SECONDS)
            raise TimeoutError("the server is silent")
    task.result()


def tags_of(payload: str, schema: Schema) -> set[str]:
    """Return the tags of what a notification tells.

    Raises:
        ValueError, TypeError, LookupError, AttributeError: it is none of the triggers'.

    Example:
        >>> from upshift.cache.dependencies.schema import Schema
        >>> sorted(tags_of('{"tables": ["Product"], "columns": ["id"], "keys": [[7]]}', Schema()))
        ['below:product', 'rows:product', 'table:product']
    """
    told = json.loads(payload)
    columns, keys = [column.lower() for column in told["columns"]], told["keys"]
    tags = {below_tag(told["tables"][0])}  # by whose name it was written; the others are above it
    for name in map(bare_name, told["tables"]):
        tags.add(table_tag(name))
        tags |= _rows(name, columns, keys, schema) or {rows_tag(name)}
    return tags


def _rows(name: str, columns: list[str], keys: list[list[Any]] | None, schema: Schema) -> set[str]:
    """Return the tags of rows; none where they are not known as the mapping knows them."""
    known = schema.key(name)
    if not keys or not known or {each.name for each in known} != set(columns):
        return set()
    tags = set()
    for key in keys:
        values = dict(zip(columns, key, strict=True))
        parts = [_part(each.kind, values[each.name]) for each in known]
        if None in parts:
            return set()
        tags.add(key_tag(name, [part for part in parts if part is not None]))
    return tags


def _part(kind: Kind | None, value: object) -> str | None:
    if kind is Kind.DATE and isinstance(value, str):
        return key_part(kind, dt.date.fromisoformat(value))
    return None if kind is None else key_part(kind, value)
