"""The application that `observe.py` measures, bare, observed by Upshift, and observed by its peers.

Each function builds a new application and puts one observer into it, set up as its documentation advises.
"""

from __future__ import annotations

import logging
import os
import sys
from copy import copy
from time import perf_counter, sleep
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import orjson
import structlog
from asgi_correlation_id import CorrelationIdMiddleware, correlation_id
from fastapi import Depends, FastAPI, Header, Query
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
from prometheus_client import CollectorRegistry
from prometheus_fastapi_instrumentator import Instrumentator
from pydantic import BaseModel
from sqlalchemy import Engine, create_engine, insert, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.pool import StaticPool
from starlette_exporter import PrometheusMiddleware

from upshift import Upshift
from upshift.settings import LogSettings, Settings, TelemetrySettings, TracingSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from opentelemetry.sdk.trace import ReadableSpan
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

NUMBERS = (1, 2, 3)  # as many statements
SPAN_DELAY = 0.005


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Thing(BaseModel):
    id: int
    name: str
    price: float
    tags: list[str]


async def caller(user_agent: Annotated[str, Header()]) -> str:
    return user_agent


class Subject(NamedTuple):
    """An application under measurement.

    Attributes:
        app: answers the requests.
        path: what is asked for.
        settle: finishes what the observer has put off, so that its price is paid while the clock runs.
    """

    app: ASGIApp
    path: str
    settle: Callable[[], object] = lambda: None


def make_app(routes: int, engine: Engine | None = None) -> tuple[FastAPI, str]:
    """An application with so many routes, and what the last of them is asked for.

    The routes are what FastAPI is for: a typed path and query, a dependency, and a page of typed things.
    """
    app = FastAPI()

    async def things(
        shop_id: int,
        who: Annotated[str, Depends(caller)],
        start: int = 0,
        size: Annotated[int, Query(le=100)] = 10,
    ) -> list[Thing]:
        return [Thing(id=shop_id, name=who, price=n, tags=["hot"]) for n in range(start, start + size)]

    async def items(shop_id: int) -> dict[str, Any]:
        # SQLite in memory never waits, so the event loop is not held up, and no thread blurs the figures.
        with Session(engine) as session:
            found = [session.scalars(select(Item).where(Item.id == n)).one() for n in NUMBERS]
            return {"id": shop_id, "names": [item.name for item in found]}

    for number in range(routes):
        app.get(f"/region{number}/shops/{{shop_id}}/things")(items if engine else things)
    return app, f"/region{routes - 1}/shops/7/things"


def twin_of(made: tuple[FastAPI, str]) -> tuple[FastAPI, str]:
    """Another application with the very routes of one that has not served yet."""
    app, path = made
    return copy(app), path


def make_smallest_app() -> tuple[FastAPI, str]:
    app = FastAPI()

    @app.get("/")
    async def index() -> dict[str, str]:
        return {"hello": "world"}

    return app, "/"


def make_engine() -> Engine:
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(Item), [{"id": n, "name": f"item {n}"} for n in NUMBERS])
    return engine


def bare(engine: Engine | None = None) -> Subject:
    return Subject(*make_app(2, engine))


def smallest() -> Subject:
    return Subject(*make_smallest_app())


def ours(made: tuple[FastAPI, str], settings: Settings, engine: Engine | None = None) -> Subject:
    app, path = made
    upshift = Upshift(app, engine=engine or (), settings=settings)

    def settle() -> None:
        upshift.observation()  # which counts the records that still wait for others
        upshift.logs.flush()
        if settings.tracing.tracing:
            sleep(2 * SPAN_DELAY)  # which takes no processor time; the thread that makes spans does

    return Subject(app, path, settle)


def default_settings() -> Settings:
    return Settings()


def access_log_settings(file: Path) -> Settings:
    return Settings(logs=LogSettings(log_format="json", log_file=str(file)))


def everything_on(file: Path) -> Settings:
    return Settings(
        telemetry=TelemetrySettings(server_timing="always"),
        logs=LogSettings(log_format="json", log_file=str(file)),
        tracing=TracingSettings(tracing=True, trace_sample_rate=0.05),
    )


def send_spans_nowhere(folder: Path) -> None:
    """Install `NoExporter` where OpenTelemetry's variables find it, and have spans made soon."""
    package = folder / "nowhere-1.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: nowhere\nVersion: 1\n")
    (package / "entry_points.txt").write_text(
        "[opentelemetry_traces_exporter]\nnowhere = observed_apps:NoExporter\n"
    )
    sys.path.append(str(folder))
    os.environ["OTEL_TRACES_EXPORTER"] = "nowhere"
    os.environ["OTEL_BSP_SCHEDULE_DELAY"] = str(int(SPAN_DELAY * 1e3))


def prometheus_fastapi_instrumentator() -> Subject:
    app, path = make_app(2)
    Instrumentator(registry=CollectorRegistry()).instrument(app)
    return Subject(app, path)


def starlette_exporter() -> Subject:
    app, path = make_app(2)
    app.add_middleware(PrometheusMiddleware)
    return Subject(app, path)


def correlation_id_and_structlog(file: Path) -> Subject:
    app, path = make_app(2)
    logger = structlog.wrap_logger(
        structlog.BytesLogger(file.open("ab")),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(orjson.dumps),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=True,
    )
    app.add_middleware(AccessLog, logger=logger)
    app.add_middleware(CorrelationIdMiddleware)
    return Subject(app, path)


class AccessLog:
    """The access line that whoever uses structlog writes himself."""

    def __init__(self, app: ASGIApp, logger: Any) -> None:  # noqa: ANN401 - structlog's proxy
        self.app = app
        self.logger = logger

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, then write a line."""
        started = perf_counter()
        status = size = 0

        async def watching_send(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body":
                size += len(message.get("body", b""))
            await send(message)

        try:
            await self.app(scope, receive, watching_send)
        finally:
            self.logger.info(
                "request",
                request_id=correlation_id.get(),
                method=scope["method"],
                path=scope["path"],
                route=scope["route"].path,
                status=status,
                bytes=size,
                duration=perf_counter() - started,
            )


class NoExporter(SpanExporter):
    """Takes spans and sends them nowhere: what a collector costs is not the question."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:  # noqa: ARG002 - the interface
        """Say that they have arrived."""
        return SpanExportResult.SUCCESS


def opentelemetry(sample_rate: float, engine: Engine | None = None) -> Subject:
    """OpenTelemetry's instrumentors.

    Raises:
        RuntimeError: its SQLAlchemy instrumentor does not support the version of SQLAlchemy.
    """
    app, path = make_app(2, engine)
    provider = TracerProvider(sampler=ParentBasedTraceIdRatio(sample_rate))
    provider.add_span_processor(BatchSpanProcessor(NoExporter()))
    if engine is not None:
        from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor

        instrumentor = SQLAlchemyInstrumentor()
        if conflict := instrumentor._check_dependency_conflicts():
            raise RuntimeError(str(conflict))
        instrumentor.instrument(engine=engine, tracer_provider=provider)
    FastAPIInstrumentor.instrument_app(app, tracer_provider=provider)
    return Subject(app, path, provider.force_flush)
