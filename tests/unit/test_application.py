"""The wiring: what `Upshift(app, engine=…)` puts in, and that `close()` takes it out."""

import gzip
import json
import logging
from contextlib import suppress
from pathlib import Path

import pytest
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from httpx import ASGITransport, AsyncClient
from sqlalchemy import ForeignKey, create_engine, event, select, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship
from sqlalchemy.pool import StaticPool
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from upshift import Settings, Upshift
from upshift.diagnose import Severity
from upshift.errors import SettingsError
from upshift.settings import RecordSettings


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)
    books: Mapped[list["Book"]] = relationship(order_by="Book.id")


class Book(Base):
    __tablename__ = "book"
    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))


AUTHORS = 20
EVERYTHING = Settings(record=RecordSettings(sample_rate=1.0))


@pytest.fixture
def engine():
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all(Author(id=i, books=[Book(), Book()]) for i in range(1, AUTHORS + 1))
        session.commit()
    yield engine
    engine.dispose()


@pytest.fixture
def app(engine):
    app = FastAPI()

    @app.get("/authors/{shelf}")
    def authors(shelf: str):
        with Session(engine) as session:
            return [[book.id for book in author.books] for author in session.scalars(select(Author))]

    return app


def client(app):
    return AsyncClient(transport=ASGITransport(app), base_url="http://test")


def count_statements(engine):
    sent = []
    event.listen(engine, "before_cursor_execute", lambda *args: sent.append(args[2]))
    return sent


async def test_an_application_is_observed_in_place(app, engine):
    upshift = Upshift(app, engine=engine, settings=EVERYTHING)

    async with client(app) as http:
        await http.get("/authors/top")

    (record,) = upshift.observation().records
    assert record.operation == "GET /authors/{shelf}"
    assert len(record.statements) == 1 + AUTHORS
    upshift.close()


async def test_an_application_that_serves_already_is_observed_from_the_next_request_on(app, engine):
    async with client(app) as http:
        await http.get("/authors/top")
        upshift = Upshift(app, engine=engine, settings=EVERYTHING)
        await http.get("/authors/top")

    assert len(upshift.observation().records) == 1
    upshift.close()


async def test_any_other_asgi_application_is_observed_when_served_through_upshift(engine):
    async def bare(scope, receive, send):
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
        await JSONResponse({})(scope, receive, send)

    upshift = Upshift(bare, engine=engine, settings=EVERYTHING)

    async with client(upshift) as http:
        await http.get("/")

    assert len(upshift.observation().records[0].statements) == 1
    upshift.close()


async def test_an_async_engine_and_a_sync_one_are_observed_together(engine, tmp_path):
    other = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'other.db'}")

    async def both(request):
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
        async with other.connect() as connection:
            await connection.execute(text("SELECT 2"))
        return JSONResponse({})

    app = Starlette(routes=[Route("/", both)])
    upshift = Upshift(app, engine=[engine, other], settings=EVERYTHING)

    async with client(app) as http:
        await http.get("/")

    assert [each.sql for each in upshift.observation().records[0].statements] == ["SELECT 1", "SELECT 2"]
    upshift.close()
    await other.dispose()


async def test_an_n_plus_one_is_found_at_its_line(app, engine):
    upshift = Upshift(app, engine=engine, settings=EVERYTHING)

    async with client(app) as http:
        await http.get("/authors/top")

    (finding,) = upshift.findings()
    assert (finding.code, finding.severity) == ("UP101", Severity.ERROR)
    assert finding.site.file == __file__
    assert "author.books" in source_line(finding.site)
    assert "selectinload(Author.books)" in finding.fix[0]
    upshift.close()


async def test_batching_answers_with_fewer_statements_and_the_same_json(app, engine):
    async with client(app) as http:
        plain = await http.get("/authors/top")
        upshift = Upshift(app, engine=engine, batching=True)
        await http.get("/authors/top")
        sent = count_statements(engine)
        batched = await http.get("/authors/top")

    assert batched.json() == plain.json()
    assert len(sent) == 2
    upshift.close()


async def test_compression_answers_with_the_same_json(app, engine):
    upshift = Upshift(app, engine=engine, compression=True)

    async with client(app) as http:
        small = await http.get("/authors/top", headers={"accept-encoding": "gzip"})

    assert "content-encoding" not in small.headers  # below the minimum
    upshift.close()


async def test_a_large_answer_is_compressed():
    async def large(request):
        return JSONResponse(["x" * 100] * 100)

    app = Starlette(routes=[Route("/", large)])
    upshift = Upshift(app, compression=True)

    async with client(app) as http, http.stream("GET", "/", headers={"accept-encoding": "gzip"}) as answer:
        body = b"".join([chunk async for chunk in answer.aiter_raw()])

    assert answer.headers["content-encoding"] == "gzip"
    assert len(body) < len(gzip.decompress(body)) / 10
    upshift.close()


async def test_close_takes_everything_out_again(app, engine):
    pristine = dict(vars(engine.dialect))
    async with client(app) as http:
        await http.get("/authors/top")
        stack = app.middleware_stack
        upshift = Upshift(app, engine=engine, batching=True, compression=True, settings=EVERYTHING)
        await http.get("/authors/top")

        upshift.close()
        sent = count_statements(engine)
        await http.get("/authors/top")

    assert len(sent) == 1 + AUTHORS
    assert len(upshift.observation().records) == 1
    assert app.middleware_stack is stack
    assert "build_middleware_stack" not in vars(app)
    assert dict(vars(engine.dialect)) == pristine


async def test_closing_twice_does_nothing_more(app, engine):
    upshift = Upshift(app, engine=engine, batching=True)
    upshift.close()

    upshift.close()


async def test_two_instances_observe_two_applications_apart(engine):
    async def ask(request):
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
        return JSONResponse({})

    apps = [Starlette(routes=[Route(f"/{name}", ask)]) for name in "ab"]
    both = [Upshift(app, engine=engine, settings=EVERYTHING) for app in apps]

    for app, name in zip(apps, "ab", strict=True):
        async with client(app) as http:
            await http.get(f"/{name}")
    seen = [[(r.route, len(r.statements)) for r in each.observation().records] for each in both]

    assert seen == [[("/a", 1)], [("/b", 1)]]
    for each in both:
        each.close()


async def test_of_two_instances_on_one_application_the_first_can_be_closed_first(app, engine):
    first = Upshift(app, engine=engine, settings=EVERYTHING)
    second = Upshift(app, engine=engine, settings=EVERYTHING)
    async with client(app) as http:
        await http.get("/authors/top")
        first.close()
        await http.get("/authors/top")
        second.close()
        await http.get("/authors/top")

    assert len(first.observation().records) == 1
    assert [len(record.statements) for record in second.observation().records] == [1 + AUTHORS] * 2


def test_an_engine_that_is_none_is_refused():
    with pytest.raises(TypeError, match="SQLAlchemy engines"):
        Upshift(Starlette(), engine="sqlite://")


def test_variables_turn_fixes_on_and_arguments_win_over_them(monkeypatch):
    monkeypatch.setenv("UPSHIFT_BATCHING", "true")
    monkeypatch.setenv("UPSHIFT_COMPRESSION", "true")

    upshift = Upshift(Starlette(), compression=False)

    assert upshift.settings.sql.batching is True
    assert upshift.settings.traffic.compression is False
    upshift.close()


def source_line(site):
    return Path(site.file).read_text().splitlines()[site.line - 1]


async def test_each_setting_can_be_an_argument(app, engine):
    upshift = Upshift(app, engine=engine, settings=EVERYTHING, service="shop", compression=True)
    settings = upshift.settings
    upshift.close()
    assert (settings.telemetry.service, settings.traffic.compression) == ("shop", True)
    assert settings.record.sample_rate == 1.0


def test_an_argument_that_is_no_setting_is_refused(app):
    with pytest.raises(TypeError, match="did you mean 'service'"):
        Upshift(app, servise="shop")


def test_a_misspelt_variable_is_logged_by_name(app, monkeypatch, caplog):
    monkeypatch.setenv("UPSHIFT_BATCHNG", "true")
    Upshift(app).close()
    assert "UPSHIFT_BATCHNG is no setting" in caplog.text


async def test_the_times_of_an_answer_are_told_to_who_asks(app, engine):
    upshift = Upshift(app, engine=engine, server_timing="asked")
    async with AsyncClient(transport=ASGITransport(app), base_url="http://shop") as client:
        asked = await client.get("/authors/a", headers={"x-server-timing": "1"})
        other = await client.get("/authors/a")
    upshift.close()
    assert f'desc="{AUTHORS + 1} statements"' in asked.headers["server-timing"]
    assert "server-timing" not in other.headers


def test_connections_are_told_while_they_are_open(app):
    @app.websocket("/rooms/{room}")
    async def room(websocket: WebSocket, room: str):
        await websocket.accept()
        await websocket.send_text(await websocket.receive_text())
        with suppress(WebSocketDisconnect):
            await websocket.receive_text()

    upshift = Upshift(app)
    with TestClient(app) as client:
        with client.websocket_connect("/rooms/7") as connection:
            connection.send_text("a")
            connection.receive_text()
            page = client.get("/metrics").text
        after = client.get("/metrics").text
    upshift.close()
    assert 'websocket_server_active_connections{http_route="/rooms/{room}"} 1.0' in page
    assert 'websocket_server_messages_total{direction="sent",http_route="/rooms/{room}"} 1.0' in page
    assert 'websocket_server_active_connections{http_route="/rooms/{room}"} 0.0' in after
    assert 'websocket_server_connection_duration_seconds_count{close_code="1000"' in after


async def test_the_lines_of_a_request_carry_its_route_while_it_is_open(app, tmp_path):
    @app.get("/orders/{order_id}")
    def order(order_id: int):
        upshift.bind(order=order_id)
        logging.getLogger("shop").info("asked")

    upshift = Upshift(app, log_format="json", log_file=str(tmp_path / "shop.log"))
    async with AsyncClient(transport=ASGITransport(app), base_url="http://shop") as client:
        answer = await client.get("/orders/7")
    upshift.close()
    lines = map(json.loads, (tmp_path / "shop.log").read_text().splitlines())
    asked, access = (line for line in lines if line["logger"] in {"shop", "upshift.access"})
    assert (asked["message"], access["message"]) == ("asked", "GET /orders/7 200")
    for line in (asked, access):
        assert (line["route"], line["order"]) == ("/orders/{order_id}", 7)
        assert line["request_id"] == answer.headers["x-request-id"]


async def test_the_exception_that_a_server_logs_carries_the_request_id(app, tmp_path):
    @app.get("/fail")
    def fail():
        raise ZeroDivisionError

    upshift = Upshift(app, log_format="json", log_file=str(tmp_path / "shop.log"))
    async with AsyncClient(transport=ASGITransport(app), base_url="http://shop") as client:
        with pytest.raises(ZeroDivisionError) as raised:
            await client.get("/fail", headers={"x-request-id": "mine"})
    logging.getLogger("uvicorn.error").error("Exception in ASGI application", exc_info=raised.value)
    upshift.close()
    lines = [json.loads(line) for line in (tmp_path / "shop.log").read_text().splitlines()]
    (line,) = [line for line in lines if line["logger"] == "uvicorn.error"]
    assert (line["request_id"], line["error"]) == ("mine", "ZeroDivisionError")


async def test_probes_are_answered_and_tell_of_the_engine(app, engine):
    upshift = Upshift(app, engine=engine)
    async with AsyncClient(transport=ASGITransport(app), base_url="http://shop") as client:
        probes = {path: (await client.get(path)).status_code for path in ("/livez", "/health")}
        report = (await client.get("/health")).json()
    upshift.close()
    assert probes == {"/livez": 200, "/health": 200}
    assert "database:responseTime" in report["checks"]


async def test_the_application_s_own_probe_goes_before(app):
    @app.get("/health")
    def health():
        return "the application's own"

    upshift = Upshift(app)
    async with AsyncClient(transport=ASGITransport(app), base_url="http://shop") as client:
        answer = await client.get("/health")
    upshift.close()
    assert answer.json() == "the application's own"


def test_what_is_registered_starts_and_stops_with_the_server(app):
    seen = []
    upshift = Upshift(app)
    upshift.lifespan.add("search", start=lambda: seen.append("up"), stop=lambda: seen.append("down"))
    with TestClient(app) as client:
        assert client.get("/startupz").status_code == 200
        seen.append("serving")
    upshift.close()
    assert seen == ["up", "serving", "down"]


async def test_pools_and_the_process_are_told(app, engine):
    upshift = Upshift(app, engine=engine)
    async with AsyncClient(transport=ASGITransport(app), base_url="http://shop") as client:
        await client.get("/authors/a")
        page = (await client.get("/metrics")).text
    upshift.close()
    assert 'db_client_connection_use_time_seconds_count{db_client_connection_pool_name="' in page
    assert 'outcome="close"} 1.0' in page
    assert "process_cpu_seconds_total" in page
    assert 'upshift_faults_total{part="statements"} 0.0' in page
    assert 'upshift_dropped_total{part="logs"} 0.0' in page


async def test_a_request_slower_than_the_threshold_is_counted_and_kept(app):
    @app.get("/slow")
    def slow():
        pass

    settings = Settings(record=RecordSettings(sample_rate=0.0, slow_request_seconds=0.0))
    upshift = Upshift(app, settings=settings)
    async with AsyncClient(transport=ASGITransport(app), base_url="http://shop") as client:
        await client.get("/slow")
        page = (await client.get("/metrics")).text
    records = upshift.observation().records
    upshift.close()
    assert 'http_server_slow_requests_total{http_route="/slow"} 1.0' in page
    assert [record.route for record in records] == ["/slow"]


async def test_a_part_that_does_not_start_keeps_no_request_from_its_answer(app, monkeypatch, caplog):
    @app.get("/ok")
    def ok():
        return "ok"

    upshift = Upshift(app)
    monkeypatch.setattr(upshift._shared, "_find", lambda: Path("/nowhere").resolve(strict=True))
    async with AsyncClient(transport=ASGITransport(app), base_url="http://shop") as client:
        answers = [(await client.get(path)).status_code for path in ("/ok", "/metrics")]
        page = (await client.get("/metrics")).text
    upshift.close()
    assert answers == [200, 200]
    assert 'upshift_faults_total{part="start"} 1.0' in page
    assert caplog.text.count("a part of Upshift did not start") == 1


def test_settings_that_are_refused_leave_logging_as_it_was(app, monkeypatch):
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "nobody_s")
    before = list(logging.root.handlers)
    with pytest.raises(SettingsError):
        Upshift(app, log_format="json", tracing=True)
    assert logging.root.handlers == before


def test_an_application_that_is_started_again_is_observed_again(app):
    upshift = Upshift(app)
    for _ in range(2):
        with TestClient(app) as client:
            assert client.get("/readyz").status_code == 200
            loop = upshift._process._loop
            assert loop.is_running()
    assert TestClient(app).get("/readyz").status_code == 200  # without a lifespan
    upshift.close()
