"""The wiring of statements: told at a path, recorded to files, of connections and jobs as well."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from httpx import ASGITransport, AsyncClient
from sqlalchemy import create_engine, text
from sqlalchemy.pool import StaticPool
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from upshift import Upshift
from upshift.errors import RecordingError, SettingsError
from upshift.record.recording import Recording


@pytest.fixture
def engine():
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    yield engine
    engine.dispose()


@pytest.fixture
def app(engine):
    app = FastAPI()

    @app.get("/orders")
    def orders():
        with engine.connect() as connection:
            return connection.scalar(text("SELECT 7"))

    @app.get("/plain")
    def plain():
        return "plain"

    return app


@pytest.fixture
def observed(app, engine):
    made = []

    def observe(**arguments):
        made.append(Upshift(app, engine=engine, **arguments))
        return made[-1]

    yield observe
    for each in made:
        each.close()


async def get(app, path="/upshift/queries", client=("127.0.0.1", 50_000), **headers):
    transport = ASGITransport(app, client=client)
    async with AsyncClient(transport=transport, base_url="http://localhost") as asking:
        return await asking.get(path, headers=headers)


def texts(answer):
    return {row["text"]: row["count"] for row in answer.json()["statements"]}


async def test_statements_are_told_to_callers_on_the_same_machine(app, observed):
    observed(service="shop")
    for _ in range(3):
        await get(app, "/orders")
    answer = await get(app)
    assert answer.status_code == 200
    assert texts(answer) == {"SELECT ?": 3}
    assert answer.json()["source"]["service"] == "shop"


async def test_others_are_refused(app, observed):
    observed()
    assert (await get(app, client=("10.0.0.7", 1))).status_code == 403
    assert (await get(app, **{"x-forwarded-for": "127.0.0.1"})).status_code == 403


async def test_asking_for_statements_is_no_request_that_is_counted(app, observed):
    upshift = observed(sample_rate=1.0)
    await get(app)
    assert upshift.observation().records == ()


async def test_the_path_can_be_another_or_none(app, observed):
    observed(queries_path="/internal/sql")
    assert (await get(app, "/internal/sql")).status_code == 200
    assert (await get(app)).status_code == 404


async def test_an_empty_path_is_nowhere(app, observed):
    observed(queries_path="")
    assert (await get(app)).status_code == 404


async def test_a_route_of_the_applications_own_goes_before(app, observed):
    app.add_route("/upshift/queries", lambda _: PlainTextResponse("mine"))
    observed()
    assert (await get(app)).text == "mine"


async def test_without_a_database_nothing_is_told():
    app = FastAPI()
    upshift = Upshift(app)
    assert (await get(app)).status_code == 404
    upshift.close()


def test_a_path_that_is_none_is_refused(app):
    with pytest.raises(SettingsError, match="UPSHIFT_QUERIES_PATH"):
        Upshift(app, queries_path="queries")


async def test_slow_statements_are_counted_by_the_threshold_of_the_environment(app, observed):
    upshift = observed(slow_statement_seconds=0.0)
    await get(app, "/orders")
    page = (await get(app, "/metrics")).text
    assert 'http_route="/orders"} 1.0' in page[page.index("db_client_slow_operations_total{") :]
    assert upshift.observation().statements[0].slow == 1


async def test_every_request_of_a_recording_is_in_it_and_none_before_or_after(app, observed, tmp_path):
    upshift = observed(sample_rate=0.0)
    await get(app, "/orders")
    with upshift.record_to(tmp_path / "shop.recording") as recording:
        await get(app, "/orders")
        await get(app, "/plain")
    await get(app, "/orders")
    read = Recording(recording.path)
    assert [(each.operation, len(each.statements)) for each in read] == [
        ("GET /orders", 1),
        ("GET /plain", 0),
    ]
    assert read.header.dialects[0].name == "sqlite"
    assert read.header.settings["slow_statement_seconds"] == 0.1


async def test_parameters_are_recorded_only_when_they_are_kept(app, observed, tmp_path):
    with observed().record_to(tmp_path / "without") as without:
        await get(app, "/orders")
    assert not Recording(without.path).header.keep_parameters


async def test_what_is_open_when_upshift_is_closed_is_ended_in_order(app, engine, tmp_path):
    upshift = Upshift(app, engine=engine)
    recording = upshift.record_to(tmp_path / "shop.recording")
    await get(app, "/orders")
    upshift.close()
    read = Recording(recording.path)
    assert len(list(read)) == 1
    assert read.end is not None


def test_a_file_that_exists_is_refused(observed, tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(RecordingError, match="exists"):
        observed().record_to(tmp_path / "taken")


async def test_recordings_of_two_applications_are_apart(engine, tmp_path):
    first, second = FastAPI(), FastAPI()
    ups = [Upshift(each, engine=create_engine("sqlite://")) for each in (first, second)]
    first.add_route("/one", lambda _: PlainTextResponse("1"))
    second.add_route("/two", lambda _: PlainTextResponse("2"))
    recordings = [up.record_to(tmp_path / str(number)) for number, up in enumerate(ups)]
    await get(first, "/one")
    await get(second, "/two")
    for each in ups:
        each.close()
    assert [[each.path for each in Recording(one.path)] for one in recordings] == [["/one"], ["/two"]]


def test_statements_of_a_connection_are_told_while_it_is_open(app, engine, observed, tmp_path):
    @app.websocket("/rooms/{room}")
    async def room(websocket: WebSocket, room: str):
        await websocket.accept()
        with suppress(WebSocketDisconnect):
            while True:
                await websocket.receive_text()
                with engine.connect() as connection:
                    for _ in range(3):
                        connection.execute(text("SELECT 'room'"))
                await websocket.send_text("done")

    upshift = observed(sample_rate=1.0)
    recording = upshift.record_to(tmp_path / "shop.recording")
    with TestClient(app) as client:
        with client.websocket_connect("/rooms/7") as connection:
            connection.send_text("a")
            connection.receive_text()
            (open_row,) = upshift.observation().statements
            assert open_row.seconds.count == 2  # the rows of the third may not have been read yet
            page = client.get("/metrics").text
        (row,) = upshift.observation().statements
    assert (row.seconds.count, row.routes) == (3, {"WEBSOCKET /rooms/{room}": 3})
    assert row.site is not None
    assert 'http_route="/rooms/{room}"' in page[page.index("db_client_operation_duration_seconds_count{") :]
    assert upshift._statements.untold == 0
    recording.close()
    recorded = [each.operation for each in Recording(recording.path) if each.statements]
    assert set(recorded) == {"WEBSOCKET /rooms/{room}"}
    faults = (upshift._closing.faults, upshift._hooks.faults()["statements"](), upshift._recordings.faults)
    assert faults == (0, 0, 0)


async def test_statements_of_jobs_are_told_by_the_route_that_began_them(app, engine, observed):
    def job():
        with engine.connect() as connection:
            connection.execute(text("SELECT 'job'"))

    async def slow_job():
        job()

    @app.get("/starts")
    async def starts():
        with ThreadPoolExecutor() as pool:
            await asyncio.wrap_future(pool.submit(upshift.propagation.carry(job)))
        await upshift.propagation.carry(slow_job)()
        return upshift.propagation.headers()

    upshift = observed()
    headers = (await get(app, "/starts")).json()
    with upshift.propagation.restore(headers):
        job()
    (row,) = upshift.observation().statements
    assert row.routes == {"JOB /starts": 2, "JOB (no route)": 1}


async def test_excerpts_have_no_line_in_the_log(app, engine, observed, tmp_path):
    def job():
        with engine.connect() as connection:
            connection.execute(text("SELECT 'job'"))

    @app.get("/starts")
    def starts():
        upshift.propagation.carry(job)()

    upshift = observed(log_format="json", log_file=str(tmp_path / "log"))
    await get(app, "/starts")
    upshift.close()
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert len([line for line in lines if line["logger"] == "upshift.access"]) == 1
