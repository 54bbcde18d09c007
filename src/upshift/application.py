"""`Upshift`: one object that wires the rooms to one application. It holds no logic of its own."""

from __future__ import annotations

import logging
import os
import sys
from contextvars import ContextVar
from typing import TYPE_CHECKING

from sqlalchemy.engine import Engine
from sqlalchemy.ext.asyncio import AsyncEngine

from upshift.diagnose import Observation, diagnose
from upshift.record import Attachment, Backlog, CallSites, Keeper, Record, Recorder, SocketRecorder
from upshift.settings import Settings, misspelt_variables
from upshift.sql import Batching, Capture, StatementTable
from upshift.telemetry import (
    Endpoints,
    HttpMetrics,
    Metrics,
    MetricsEndpoint,
    SharedMetrics,
    SocketMetrics,
    find_path,
    timing_headers,
)
from upshift.traffic import Compression

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from typing import Unpack

    from starlette.types import ASGIApp, Receive, Scope, Send

    from upshift.diagnose import Finding
    from upshift.record import Socket
    from upshift.settings import Arguments

logger = logging.getLogger("upshift")


class Upshift:
    """Observes one ASGI application and its engines, and applies the fixes that are turned on.

    A Starlette or FastAPI application is observed in place. Any other ASGI application is observed when it is
    served through this object, which is an ASGI application itself.

    Args:
        app: the application.
        engine: its engine or engines, sync or async; none where it has no database.
        settings: all settings; read from the `UPSHIFT_*` variables where not given.
        arguments: single settings, which win over those; `upshift settings` prints all there are.

    Attributes:
        settings: the settings in force.
        metrics: declares metrics of the application's own, which are exposed beside Upshift's.

    Raises:
        SettingsError: a setting, or an `UPSHIFT_*` variable, has a value that it cannot have.
        TypeError: an engine is none, or an argument is no setting.

    Example:
        >>> from sqlalchemy import create_engine
        >>> from starlette.applications import Starlette
        >>> upshift = Upshift(Starlette(), engine=create_engine("sqlite://"), batching=True)
        >>> upshift.findings()
        ()
        >>> upshift.close()
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        engine: Engine | AsyncEngine | Iterable[Engine | AsyncEngine] = (),
        settings: Settings | None = None,
        **arguments: Unpack[Arguments],
    ) -> None:
        engines = _sync_engines(engine)
        self.settings = (settings or Settings.from_environment()).changed(arguments)
        for name, near in misspelt_variables(os.environ).items():
            logger.warning("%s is no setting and does nothing; did you mean %s?", name, near)
        telemetry = self.settings.telemetry
        self._current: ContextVar[Record | None] = ContextVar("upshift_record", default=None)
        self._keeper = Keeper(self.settings.record)
        self._statements = StatementTable()
        self.metrics = Metrics()
        self._recorders: list[Recorder] = []
        self._socket_recorders: list[SocketRecorder] = []
        takers = [self._statements.fold, self._keeper.keep]
        if telemetry.metrics:
            takers.append(HttpMetrics(self.metrics, self._digest_of, self._active).add)
        self._backlog = Backlog(takers)
        self.metrics.before_collecting(self._backlog.drain)
        self._sockets = SocketMetrics(self.metrics, self._open_sockets) if telemetry.metrics else None
        self._shared = SharedMetrics(self.metrics, self._find_file)
        self._bare = app
        caller = sys._getframe(1).f_globals.get("__name__", "")
        call_sites = CallSites({*self.settings.record.packages, caller.partition(".")[0]} - {"", "upshift"})
        self._capture = Capture(
            engines, self._current, call_sites, keep_parameters=self.settings.sql.keep_parameters
        )
        self._batching = Batching(engines, call_sites) if self.settings.sql.batching else None
        self._attachment = Attachment(app, self._around, self._begin)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the application, observed."""
        await self._attachment.app(scope, receive, send)

    def observation(self) -> Observation:
        """Return what has been observed since the start: kept records, and statistics of all statements."""
        self._backlog.drain()
        return Observation(
            records=self._keeper.records(),
            statements=self._statements.rows(),
            settings=self.settings,
        )

    def findings(self) -> tuple[Finding, ...]:
        """Return what the rules find in it, the worst first."""
        return diagnose(self.observation())

    def close(self) -> None:
        """Take everything out of the application and its engines. Calling it twice does nothing more."""
        self._attachment.detach()
        self._capture.close()
        if self._batching is not None:
            self._batching.close()
        self._backlog.drain()
        self._shared.close()

    def _begin(self) -> None:
        """What waits until the process serves: a server may import the application in another one."""
        if self.settings.telemetry.metrics:
            self._shared.join()

    def _around(self, app: ASGIApp) -> ASGIApp:
        traffic, telemetry = self.settings.traffic, self.settings.telemetry
        if traffic.compression:
            app = Compression(app, minimum_bytes=traffic.compression_minimum_bytes)
        sockets = SocketRecorder(app, self._close_socket, self._current)
        self._socket_recorders.append(sockets)
        recorder = Recorder(
            app,
            self._backlog.add,
            self._current,
            others=sockets,
            headers_of=timing_headers(telemetry.server_timing),
        )
        self._recorders.append(recorder)
        path = telemetry.metrics_path
        if not telemetry.metrics or not path or _has_route(self._bare, path):
            return recorder
        return Endpoints(recorder, {path: MetricsEndpoint(self.metrics, self._shared.sum)})

    def _close_socket(self, socket: Socket) -> None:
        if self._sockets is not None:
            self._sockets.close(socket)

    def _open_sockets(self) -> Iterator[Socket]:
        for recorder in self._socket_recorders:
            yield from tuple(recorder.open)

    def _find_file(self) -> Path | None:
        return find_path(self.settings.telemetry.service, self.settings.telemetry.metrics_file)

    def _digest_of(self, sql: str) -> str:
        return self._statements.digests.of(sql).id

    def _active(self) -> int:
        return sum(recorder.active for recorder in self._recorders)


def _has_route(app: ASGIApp, path: str) -> bool:
    return any(getattr(route, "path", None) == path for route in getattr(app, "routes", ()))


def _sync_engines(engine: Engine | AsyncEngine | Iterable[Engine | AsyncEngine]) -> tuple[Engine, ...]:
    engines = (engine,) if isinstance(engine, Engine | AsyncEngine) else tuple(engine)
    for each in engines:
        if not isinstance(each, Engine | AsyncEngine):
            raise TypeError(f"engine must be SQLAlchemy engines, sync or async; {each!r} is none")
    return tuple(each.sync_engine if isinstance(each, AsyncEngine) else each for each in engines)
