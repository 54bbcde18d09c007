"""`Upshift`: one object that wires the rooms to one application. It holds no logic of its own."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from contextlib import suppress
from contextvars import ContextVar
from functools import cached_property
from operator import attrgetter
from typing import TYPE_CHECKING

from upshift.application.caching import Caching
from upshift.application.engines import as_engines, dialect_of, sync_engines_of
from upshift.application.hooks import Hooks
from upshift.diagnose import Observation, diagnose
from upshift.diagnose.recorded import thresholds
from upshift.errors import SettingsError
from upshift.record import (
    Attachment,
    CallSites,
    Closing,
    Keeper,
    Record,
    Recorder,
    RouteTemplates,
    SocketRecorder,
    of_requests,
)
from upshift.record.ongoing import Excerpt, unless_excerpt
from upshift.record.recording import Recordings, RecordingWriter
from upshift.record.recording.writing import MAX_BYTES, RECORDS_PER_SECOND
from upshift.settings import Settings, misspelt_variables
from upshift.sql import AttributeUses, PlanCapture, StatementTable
from upshift.sql.analysis.queries import Queries
from upshift.sql.plans.document import ToldPlans
from upshift.sql.pool.live import encode_pools
from upshift.sql.replicas.middleware import read_your_writes
from upshift.sql.shapes import Shapes
from upshift.telemetry import (
    ClientHooks,
    DatabaseMetrics,
    Endpoints,
    HeadSampling,
    Health,
    HttpMetrics,
    Lifespan,
    Metrics,
    MetricsEndpoint,
    ProcessMetrics,
    Propagation,
    ReplicaMetrics,
    SentryTags,
    SharedMetrics,
    SocketMetrics,
    SpanExport,
    count_dropped,
    count_faults,
    engine_check,
    find_path,
    install_logs,
    probe_endpoints,
    timing_headers,
)
from upshift.telemetry.claims import after_application
from upshift.telemetry.local import LocalEndpoint
from upshift.telemetry.metrics.pools import PoolMetrics
from upshift.traffic import Compression

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path
    from typing import Unpack

    from sqlalchemy.engine import Engine
    from sqlalchemy.ext.asyncio import AsyncEngine
    from starlette.types import ASGIApp, Receive, Scope, Send

    from upshift.cache import Cache
    from upshift.diagnose import Finding
    from upshift.record import PoolState, Socket
    from upshift.settings import Arguments
    from upshift.sql import Difference, FetchPlan, Replicas, StatementPlans
    from upshift.sql.pool.live import PoolView

logger = logging.getLogger("upshift")


class Upshift:
    """Observes one ASGI application and its engines, and applies the fixes that are turned on.

    A Starlette or FastAPI application is observed in place. Any other ASGI application is observed when it is
    served through this object, which is an ASGI application itself.

    Args:
        app: the application.
        engine: its engine or engines, sync or async; none where it has no database.
        replicas: what its sessions read from; a client's requests then see what the ones before wrote.
        cache: keeps what its functions compute; what the engines' statements write is then seen by it.
        settings: all settings; read from the `UPSHIFT_*` variables where not given.
        arguments: single settings, which win over those; `upshift settings` prints all there are.

    Attributes:
        settings: the settings in force.
        metrics: declares metrics of the application's own, which are exposed beside Upshift's.
        health: registers checks of what the application depends on; its engines have theirs.
        lifespan: registers what the application starts and stops, in the order of needs.
        logs: makes formatters for log handlers of the application's own.
        propagation: hands the ids of the open request on to other services, threads and jobs.
        clients: makes hooks that do so for HTTP clients.

    Raises:
        SettingsError: a setting, or an `UPSHIFT_*` variable, has a value that it cannot have.
        MissingExtraError: a setting asks for what an optional dependency does.
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
        replicas: Replicas | None = None,
        cache: Cache | None = None,
        settings: Settings | None = None,
        **arguments: Unpack[Arguments],
    ) -> None:
        engines = as_engines(engine)
        sync_engines = sync_engines_of(engines, replicas)
        self.settings = settings = (settings or Settings.from_environment()).changed(arguments)
        _warn_of_misspelt_variables()
        self._read_your_writes = read_your_writes(replicas, settings.replicas) if replicas else None
        self._bare = app
        self._faults_at_start = 0
        self._current: ContextVar[Record | None] = ContextVar("upshift_record", default=None)
        self._templates = RouteTemplates()
        self._keeper = Keeper(settings.record)
        self._statements = StatementTable(settings.slow_statement_seconds)
        self._uses = AttributeUses(self._current, settings.sql.use_sample_rate)
        self._plans = self._plan_capture(sync_engines) if settings.sql.explain_slow != "off" else None
        self._recorders: list[Recorder] = []
        self._socket_recorders: list[SocketRecorder] = []
        self.metrics = Metrics()
        self._spans = self._span_export(sync_engines) if settings.tracing.tracing else None
        # Whatever may refuse its settings comes before this, which takes logging over.
        self.logs = install_logs(
            settings.logs,
            service=settings.telemetry.service,
            current=self._current,
            slow_request_seconds=settings.slow_request_seconds,
            route_of=self._templates.of,
        )
        is_sampled = HeadSampling(settings.tracing.trace_sample_rate) if self._spans else None
        self.propagation = Propagation(
            self._current, is_sampled, route_of=self._templates.of, hand_on=self._hand_on
        )
        self.clients = ClientHooks(self.propagation)
        self._sentry = SentryTags(self._current, self._templates.of)
        self.lifespan = Lifespan(settings.health, last=self._end)
        self.health = self._checked(engines)

        # Metrics that nobody exposes are counted all the same where others read what they count.
        metrics = self.metrics if settings.telemetry.metrics else Metrics()
        self._database = DatabaseMetrics(metrics, self._pool_states, self._templates.of)
        self._replica_metrics = ReplicaMetrics(metrics, replicas.states) if replicas else None
        self._sockets = SocketMetrics(metrics, self._open_sockets)
        self._process: ProcessMetrics | None = None
        shared_name = settings.telemetry.metrics_file or settings.telemetry.service
        self._shared = SharedMetrics(self.metrics, self._find_file, shared_name)
        http = HttpMetrics(
            metrics,
            self._digest_of,
            self._open_requests,
            self._templates.of,
            settings.slow_request_seconds,
            self._spans.is_traced if self._spans else None,
            slow_statement_seconds=settings.slow_statement_seconds,
        )
        self._recordings = Recordings(self._drain, self._complete_all)
        self._dialects = tuple({dialect_of(each): None for each in sync_engines})
        self._closing = Closing(
            self._keeper,
            counted=http.counted if settings.telemetry.metrics else None,
            takers=(
                self._statements.fold,
                of_requests(http.add),
                http.add_excerpt,
                self._recordings.take,
                *map(unless_excerpt, self._takers()),
            ),
            after=(self._statements.settle, self._database.drain, *self._writers()),
            slow_request_seconds=settings.slow_request_seconds,
            takes_all=self.logs.access is not None,
            completes_all=self._spans is not None,
        )
        self._plans_endpoint = LocalEndpoint(ToldPlans(self._kept_plans).answer)
        self._queries = LocalEndpoint(
            Queries(
                self._statements,
                self._drain,
                service=settings.telemetry.service,
                slow_seconds=settings.slow_statement_seconds,
            ).answer
        )
        self.metrics.before_collecting(self._drain)

        caller = sys._getframe(1).f_globals.get("__name__", "")
        call_sites = CallSites({*settings.record.packages, caller.partition(".")[0]} - {"", "upshift"})
        self._hooks = Hooks(
            sync_engines,
            settings,
            current=self._current,
            call_sites=call_sites,
            route_of=self._templates.of,
            is_sampled=is_sampled or attrgetter("is_sampled"),
            database=self._database,
            plans=self._plans,
            uses=self._uses,
        )
        self._pools_endpoint = LocalEndpoint(lambda _: encode_pools(self.pools()))
        if self._hooks.pool_care.warms:
            self.lifespan.add("upshift-pools", self._hooks.pool_care.warm)
        self._caching = self._cached(cache, sync_engines, replicas)
        if settings.telemetry.metrics:
            PoolMetrics(self.metrics, self._hooks.pool_care.tallies, self._hooks.pools.leaks)
            count_faults(self.metrics, self._faults(replicas))
            count_dropped(self.metrics, self._dropped())
        self._attachment = Attachment(app, self._around, self._begin)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the application, observed."""
        await self._attachment.app(scope, receive, send)

    @property
    def cache(self) -> Cache:
        """The cache that it was given.

        Raises:
            SettingsError: it was given none.
        """
        if self._caching is None:
            raise SettingsError(
                "there is no cache: give one, as in Upshift(app, engine=engine, cache=Cache())"
            )
        return self._caching.cache

    @property
    def request(self) -> Record | None:
        """The open request; None outside of one."""
        return self._current.get()

    def bind(self, **fields: object) -> None:
        """Have fields said in all log lines of the open request from now on; outside of one, nothing.

        Example:
            >>> from starlette.applications import Starlette
            >>> upshift = Upshift(Starlette())
            >>> upshift.bind(user_id=7)
            >>> upshift.close()
        """
        record = self._current.get()
        if record is not None:
            record.bind(**fields)

    @cached_property
    def _shapes(self) -> Shapes:
        return Shapes()

    def observation(self) -> Observation:
        """Return what has been observed since the start: kept records, and statistics of all statements."""
        self._drain()
        return Observation(
            records=self._keeper.records(),
            statements=self._statements.rows(),
            plans=self._kept_plans(),
            tables=self._plans.tables() if self._plans else (),
            leaks=self._hooks.pools.leaks(),
            settings=self.settings,
            shapes=self._shapes,
            uses=self._uses.rows(),
        )

    def pools(self) -> tuple[PoolView, ...]:
        """Tell of each pool who has its connections, who waits, and how many there are.

        Example:
            >>> from sqlalchemy import create_engine
            >>> from starlette.applications import Starlette
            >>> engine = create_engine("sqlite:///shop.db")
            >>> upshift = Upshift(Starlette(), engine=engine)
            >>> with engine.connect():
            ...     [(pool.pool, len(pool.in_use), pool.maximum) for pool in upshift.pools()]
            [('shop.db', 1, 15)]
            >>> upshift.close()
        """
        return self._hooks.pools.views()

    def record_to(
        self,
        path: str | Path,
        *,
        max_bytes: int = MAX_BYTES,
        records_per_second: int = RECORDS_PER_SECOND,
    ) -> RecordingWriter:
        """Write every request that ends from now on, with its statements, into a file for later analysis.

        Nothing of it is on a request's way, and what does not fit is dropped and counted. Parameters of
        statements are in it only with `keep_parameters`.

        Args:
            path: the file, which must not exist; `{pid}` in its name stands for the process, and is needed
                where several of them record.
            max_bytes: the size of the file at most.
            records_per_second: requests written of a second at most.

        Returns:
            The recording; closing it, or leaving its `with` block, ends it.

        Raises:
            RecordingError: the file exists, or cannot be made.

        Example:
            >>> from tempfile import TemporaryDirectory
            >>> from starlette.applications import Starlette
            >>> upshift = Upshift(Starlette())
            >>> with TemporaryDirectory() as folder, upshift.record_to(f"{folder}/a.recording") as recording:
            ...     pass  # requests
            >>> recording.records
            0
            >>> upshift.close()
        """
        recording = RecordingWriter(
            path,
            dialects=self._dialects,
            keep_parameters=self.settings.sql.keep_parameters,
            service=self.settings.telemetry.service,
            settings=thresholds(self.settings),
            max_bytes=max_bytes,
            records_per_second=records_per_second,
        )
        return self._recordings.add(recording)

    def findings(self) -> tuple[Finding, ...]:
        """Return what the rules find in it, the worst first."""
        return diagnose(self.observation())

    def batching_differences(self) -> tuple[Difference, ...]:
        """Return where batching would have given another value; nothing outside of shadow mode."""
        return self._hooks.differences()

    @property
    def fetch_plans(self) -> tuple[FetchPlan, ...]:
        """What was learned to be fetched with the objects of statements, by route and line."""
        fetch_plans = self._hooks.fetch_plans
        return fetch_plans.learned() if fetch_plans else ()

    def close(self) -> None:
        """Take everything out of the application and its engines. Calling it twice does nothing more."""
        self._attachment.detach()
        if self._caching is not None:
            self._caching.cache.close()
        self._hooks.close()
        if self._plans is not None:
            self._plans.close()
        self._write_what_is_left()
        self._recordings.close()
        if self._spans is not None:
            self._spans.close(self.settings.health.shutdown_seconds / 2)
        if self._process is not None:
            self._process.close()
        self._shared.close()
        self._sentry.close()
        self.logs.close()

    def _checked(self, engines: Iterable[Engine | AsyncEngine]) -> Health:
        """What probes are told, with a check of each engine's database."""
        health = Health(self.settings.health, lambda: self.lifespan.phase)
        for number, each in enumerate(engines, 1):
            name = "database" if number == 1 else f"database-{number}"
            health.check(name, engine_check(each), critical=False)
        return health

    def _cached(
        self, cache: Cache | None, engines: Iterable[Engine], replicas: Replicas | None
    ) -> Caching | None:
        if cache is None:
            return None
        caching = Caching(cache, self.settings, self.metrics, lambda: self._shared.totals is not None)
        caching.begin(engines, replicas, self.lifespan, self.health)
        return caching

    def _begin(self) -> None:
        """What waits until the process serves: a server may import the application in another one.

        It is done again whenever the application is started anew.
        """
        for start in (
            self.logs.take_over,
            self._sentry.look,
            self._start_metrics,
            self._hooks.pool_care.start,
        ):
            try:
                start()
            except Exception:
                self._faults_at_start += 1
                if self._faults_at_start == 1:
                    logger.exception("a part of Upshift did not start; later faults are only counted")

    def _start_metrics(self) -> None:
        if self.settings.telemetry.metrics:
            self._shared.join()
            if self._process is None:
                self._process = ProcessMetrics(self.metrics, is_alone=self._shared.totals is None)
            with suppress(RuntimeError):  # an event loop that is not asyncio's
                self._process.watch(asyncio.get_running_loop())

    def _write_what_is_left(self) -> None:
        """What waits for others, or for its turn, is written now: the process may end."""
        self._closing.drain()
        self._database.drain()
        self._recordings.flush()
        if self._shared.totals is not None:
            self._shared.totals.flush()
        if self._spans is not None:
            self._spans.flush(self.settings.health.shutdown_seconds / 2)
        self.logs.flush()

    def _end(self) -> None:
        """At the end of the lifespan the process may end without another word."""
        self._hooks.pool_care.stop()
        self._write_what_is_left()
        self.logs.end()

    def _around(self, app: ASGIApp) -> ASGIApp:
        traffic, telemetry = self.settings.traffic, self.settings.telemetry
        if self._read_your_writes is not None:
            app = self._read_your_writes(app)
        if traffic.compression:
            app = Compression(app, minimum_bytes=traffic.compression_minimum_bytes)
        if self._caching is not None:  # outside of compression: what is stored is what is sent
            app = self._caching.around(app, self._current, self._templates.find)
        sockets = SocketRecorder(
            app, self._close_socket, self._current, self._templates, hand_on=self._hand_on
        )
        self._socket_recorders.append(sockets)
        not_http = self.lifespan.around(sockets)

        async def others(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "lifespan":
                self._begin()  # it may be started a second time
            await not_http(scope, receive, send)

        recorder = Recorder(
            app,
            self._closing.close,
            self._current,
            others=others,
            templates=self._templates,
            headers_of=timing_headers(telemetry.server_timing),
        )
        self._recorders.append(recorder)
        paths = after_application(self._bare, self._paths(), recorded=recorder, unrecorded=app)
        commands: dict[str, ASGIApp] = self._caching.commands if self._caching else {}
        commands = after_application(self._bare, commands, recorded=recorder, unrecorded=app)
        # Methods, as to call an object costs three times as much.
        return Endpoints(recorder.__call__, paths, commands).__call__ if paths else recorder.__call__

    def _paths(self) -> dict[str, ASGIApp]:
        """What answers at paths that are Upshift's own."""
        telemetry = self.settings.telemetry
        paths = probe_endpoints(self.health) if self.settings.health.health else {}
        if telemetry.metrics and telemetry.metrics_path:
            paths[telemetry.metrics_path] = MetricsEndpoint(self.metrics, self._shared.sum)
        if self._dialects and self.settings.sql.queries_path:
            paths[self.settings.sql.queries_path] = self._queries
            if self._plans is not None:
                paths[f"{self.settings.sql.queries_path}/plans"] = self._plans_endpoint
        if self._dialects and self.settings.pool.pools_path:
            paths[self.settings.pool.pools_path] = self._pools_endpoint
        return paths | (self._caching.paths if self._caching else {})

    def _drain(self) -> None:
        for socket in self._open_sockets():
            socket.hand_on_known()
        self._closing.drain()

    def _hand_on(self, excerpt: Excerpt) -> None:
        self._closing.hand_over(excerpt)

    def _complete_all(self, is_recording: bool) -> None:  # noqa: FBT001 - what `Recordings` tells
        self._closing.completes_all = is_recording or self._spans is not None

    def _kept_plans(self) -> tuple[StatementPlans, ...]:
        return self._plans.statements() if self._plans else ()

    def _plan_capture(self, engines: tuple[Engine, ...]) -> PlanCapture:
        return PlanCapture(
            engines,
            self._statements.digests,
            slow_seconds=self.settings.slow_statement_seconds,
            analyze=self.settings.sql.explain_slow == "analyze",
        )

    def _takers(self) -> Iterator[Callable[[Record], None]]:
        """Who has use for every closed record."""
        yield self._uses.fold
        if self._plans is not None:
            yield self._plans.take
        if self.logs.access is not None:
            yield self.logs.access.take
        if self._spans is not None:
            yield self._spans.take

    def _writers(self) -> Iterator[Callable[[], None]]:
        """What is called when some closed records have been taken."""
        yield self._sentry.look
        if self.logs.access is not None:
            yield self.logs.access.flush

    def _close_socket(self, socket: Socket) -> None:
        self._sockets.close(socket)
        self._closing.hand_over(socket)

    def _span_export(self, engines: tuple[Engine, ...]) -> SpanExport:
        systems = {each.dialect.name for each in engines}
        return SpanExport(
            self.settings.tracing,
            service=self.settings.telemetry.service,
            slow_request_seconds=self.settings.slow_request_seconds,
            digest_text=lambda sql: self._statements.digests.of(sql).text,
            database_system=systems.pop() if len(systems) == 1 else "other_sql",
        )

    def _faults(self, replicas: Replicas | None) -> dict[str, Callable[[], int]]:
        recorders = (self._recorders, self._socket_recorders)
        faults: dict[str, Callable[[], int]] = {
            "start": lambda: self._faults_at_start,
            "record": lambda: sum(each.faults for group in recorders for each in group),
            "metrics": lambda: self.metrics.faults,
            "counting": lambda: self._closing.faults,
            "pools_endpoint": lambda: self._pools_endpoint.faults,
            "plans": lambda: self._plans_endpoint.faults + (self._plans.faults if self._plans else 0),
            **self._hooks.faults(),
            "shared_metrics": lambda: self._shared.totals.faults if self._shared.totals else 0,
            "logs": lambda: self.logs.faults,
            "recordings": lambda: self._recordings.faults,
            "queries": lambda: self._queries.faults,
            "lifespan": lambda: self.lifespan.faults,
            "clients": lambda: self.clients.faults,
            "sentry": lambda: self._sentry.faults,
            "replicas": lambda: replicas.faults if replicas else 0,
            **(self._caching.faults() if self._caching else {}),
        }
        spans = self._spans
        return faults if spans is None else faults | {"tracing": lambda: spans.faults}

    def _dropped(self) -> dict[str, Callable[[], int]]:
        dropped: dict[str, Callable[[], int]] = {
            "logs": lambda: self.logs.dropped,
            "plans": lambda: self._plans.dropped if self._plans else 0,
            "recordings": lambda: self._recordings.dropped,
            "shared_metrics": lambda: self._shared.totals.dropped if self._shared.totals else 0,
        }
        spans = self._spans
        return dropped if spans is None else dropped | {"tracing": lambda: spans.dropped}

    def _open_sockets(self) -> Iterator[Socket]:
        for recorder in self._socket_recorders:
            yield from tuple(recorder.open)

    def _pool_states(self) -> tuple[PoolState, ...]:
        return self._hooks.pools.states()

    def _find_file(self) -> Path | None:
        return find_path(self.settings.telemetry.service, self.settings.telemetry.metrics_file)

    def _digest_of(self, sql: str) -> str:
        return self._statements.digests.of(sql).id

    def _open_requests(self) -> list[Record]:
        return [record for recorder in self._recorders for record in tuple(recorder.open)]


def _warn_of_misspelt_variables() -> None:
    for name, near in misspelt_variables(os.environ).items():
        logger.warning("%s is no setting and does nothing; did you mean %s?", name, near)
