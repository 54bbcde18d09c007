"""Tells what is known of an application's statements, to whoever asks it while it runs."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import msgspec

from upshift.record.fork import after_fork
from upshift.sql.analysis.document import Choice, Document, Source, document, encode, select

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from upshift.sql.analysis.statistics import StatementTable


class Queries:
    """Tells of the statements of this process.

    Args:
        table: their statistics.
        drain: hands on the records that wait to be counted.
        service: the application's name.
        slow_seconds: what counts as a slow statement.

    Example:
        >>> from upshift.sql.analysis.statistics import StatementTable
        >>> queries = Queries(StatementTable(), lambda: None, service="shop", slow_seconds=0.1)
        >>> queries.answer({"top": "5"})[:40]
        b'{"version":1,"source":{"service":"shop",'
    """

    def __init__(
        self, table: StatementTable, drain: Callable[[], None], *, service: str, slow_seconds: float
    ) -> None:
        self._table = table
        self._drain = drain
        self._service = service
        self._slow_seconds = slow_seconds
        self._begin()
        after_fork(self._begin)

    def _begin(self) -> None:
        self._since = datetime.now(UTC)
        self._clock = perf_counter()

    def document(self) -> Document:
        """Return all that is known."""
        self._drain()
        source = Source(
            service=self._service,
            kind="process",
            pid=os.getpid(),
            since=self._since.isoformat(timespec="seconds"),
            seconds=perf_counter() - self._clock,
        )
        return document(self._table, source, self._slow_seconds, _folder())

    def answer(self, query: Mapping[str, str]) -> bytes:
        """Return as JSON what a query chooses, by the names of `Choice`.

        Raises:
            msgspec.ValidationError: a parameter has a value that it cannot have.
        """
        choice = msgspec.convert(query, Choice, strict=False)
        return encode(select(self.document(), choice))


def _folder() -> str:
    try:
        return str(Path.cwd())
    except OSError:  # it was removed
        return ""
