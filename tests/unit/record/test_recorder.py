"""What a `Recorder` records of real applications, and what it leaves alone."""

import asyncio
import logging
import os
from contextvars import ContextVar

import pytest
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route

from upshift.record import Record, Recorder, RouteTemplates, Statement
from upshift.record.completion import MAX_VALUE, complete
from upshift.record.model import INCOMPLETE, MAX_METHOD, MAX_TEXT


class Recording:
    """A recorder around an application, with what it recorded."""

    def __init__(self, app, on_close=None):
        self.records = []
        self.current = ContextVar("current", default=None)
        self.recorder = Recorder(app, on_close or self.take, self.current)

    def take(self, record):
        complete(record)
        self.records.append(record)

    async def get(self, path="/", **kwargs):
        return await self.request("GET", path, **kwargs)

    async def request(self, method, path, **kwargs):
        transport = ASGITransport(self.recorder)
        async with AsyncClient(transport=transport, base_url="http://shop") as client:
            return await client.request(method, path, **kwargs)

    @property
    def record(self):
        (record,) = self.records
        return record


def scope_of(path="/", headers=(), **extra):
    return {"type": "http", "method": "GET", "path": path, "headers": list(headers), **extra}


def start(status=200, headers=()):
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def body(content=b"", *, more=False):
    return {"type": "http.response.body", "body": content, "more_body": more}


def answering(*messages):
    async def app(scope, receive, send):
        for message in messages:
            await send(message)

    return app


async def drop(message):
    pass


@pytest.fixture
def clock(monkeypatch):
    """The recorder's clock, moved by hand."""

    class Clock:
        now = 1_000.0

        def __call__(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr("upshift.record.recorder.perf_counter", clock)
    return clock


# What is recorded


async def test_a_request_is_recorded_with_method_path_route_status_bytes_and_headers():
    app = FastAPI()

    @app.post("/orders/{order_id}", status_code=201)
    async def order(order_id: int):
        return {"order": order_id}

    recording = Recording(app)
    response = await recording.request(
        "POST", "/orders/7?full=1", headers={"accept-encoding": "br, gzip;q=0.5"}
    )

    record = recording.record
    assert (record.method, record.path, record.route) == ("POST", "/orders/7", "/orders/{order_id}")
    assert (record.status, record.error) == (201, None)
    assert record.response_bytes == len(response.content)
    assert (record.content_type, record.content_encoding) == ("application/json", "")
    assert record.accept_encoding == "br, gzip;q=0.5"
    assert record.seconds > 0


async def test_the_function_that_the_route_leads_to_is_recorded():
    def endpoint(request):
        return PlainTextResponse("ok")

    recording = Recording(Starlette(routes=[Route("/", endpoint)]))
    await recording.get()
    assert recording.record.endpoint is endpoint


async def test_an_unmatched_path_has_no_route_and_no_endpoint():
    recording = Recording(FastAPI())
    await recording.get("/nowhere")
    record = recording.record
    assert (record.status, record.route, record.endpoint) == (404, None, None)


async def test_media_type_and_coding_are_recorded_in_lower_case_without_parameters():
    headers = [(b"content-type", b"Text/HTML; charset=UTF-8"), (b"content-encoding", b"GZIP")]
    recording = Recording(answering(start(headers=headers), body(b"x")))
    await recording.get()
    assert (recording.record.content_type, recording.record.content_encoding) == ("text/html", "gzip")


async def test_a_request_without_headers_has_empty_ones():
    recording = Recording(answering(start(204), body()))
    await recording.recorder(scope_of(), None, drop)
    record = recording.record
    assert (record.accept_encoding, record.content_type, record.content_encoding) == ("", "", "")


async def test_the_bytes_of_all_chunks_are_counted():
    recording = Recording(
        Starlette(routes=[Route("/", lambda _: StreamingResponse(iter([b"ab", b"", b"cde"])))])
    )
    await recording.get()
    assert recording.record.response_bytes == 5


async def test_the_duration_ends_with_the_last_byte_and_not_with_background_tasks(clock):
    def work():
        clock.now += 100

    async def chunks():
        for _ in range(3):
            clock.now += 1
            yield b"x"

    async def endpoint(request):
        return StreamingResponse(chunks(), background=BackgroundTask(work))

    recording = Recording(Starlette(routes=[Route("/", endpoint)]))
    await recording.get()
    assert recording.record.started == 1_000.0
    assert recording.record.seconds == 3.0


async def test_the_time_that_the_server_takes_to_send_counts(clock):
    async def slow(message):
        clock.now += 2

    recording = Recording(answering(start(), body(b"x")))
    await recording.recorder(scope_of(), None, slow)
    assert recording.record.seconds == 4.0


@pytest.mark.parametrize("kind", ["http.response.pathsend", "http.response.zerocopysend"])
async def test_a_file_that_the_server_sends_completes_the_response(kind, clock):
    async def slow(message):
        clock.now += 2

    recording = Recording(answering(start(), {"type": kind}))
    await recording.recorder(scope_of(), None, slow)
    assert (recording.record.error, recording.record.seconds) == (None, 4.0)


# The open record


async def test_the_record_is_current_in_async_and_sync_endpoints_and_in_background_tasks():
    app = FastAPI()
    seen = {}

    @app.get("/async")
    async def in_async():
        seen["async"] = recording.current.get()

    @app.get("/sync")
    def in_thread():
        seen["sync"] = recording.current.get()

    @app.get("/background")
    async def in_background():
        return JSONResponse(
            {}, background=BackgroundTask(lambda: seen.update(background=recording.current.get()))
        )

    recording = Recording(app)
    for path in ("/async", "/sync", "/background"):
        await recording.get(path)

    assert [seen["async"], seen["sync"], seen["background"]] == recording.records
    assert recording.current.get() is None


async def test_statements_added_anywhere_in_the_request_are_in_its_record():
    app = FastAPI()

    @app.get("/")
    async def endpoint():
        await asyncio.to_thread(lambda: recording.current.get().add(Statement("SELECT 1", 0.0)))
        await asyncio.create_task(add_later())

    async def add_later():
        recording.current.get().add(Statement("SELECT 2", 0.0))

    recording = Recording(app)
    await recording.get()
    assert [statement.sql for statement in recording.record.statements] == ["SELECT 1", "SELECT 2"]


async def test_concurrent_requests_have_records_of_their_own():
    app = FastAPI()
    everyone_is_here = asyncio.Barrier(10)

    @app.get("/{number}")
    async def endpoint(number: int):
        mine = recording.current.get()
        await everyone_is_here.wait()
        assert recording.current.get() is mine
        return mine.path

    recording = Recording(app)
    responses = await asyncio.gather(*(recording.get(f"/{number}") for number in range(10)))
    assert [response.json() for response in responses] == [f"/{number}" for number in range(10)]
    assert sorted(record.path for record in recording.records) == [f"/{number}" for number in range(10)]


async def test_two_recorders_in_one_process_record_separately():
    inner = Recording(answering(start(), body(b"x")))
    outer = Recording(inner.recorder)
    await outer.get("/both")
    assert (inner.record.path, outer.record.path) == ("/both", "/both")
    assert inner.record is not outer.record


# Requests that go wrong


async def test_an_exception_before_the_response_is_a_500_with_its_class_and_leaves_unchanged():
    failure = ZeroDivisionError("in the application")

    async def app(scope, receive, send):
        raise failure

    recording = Recording(app)
    with pytest.raises(ZeroDivisionError) as raised:
        await recording.get()
    assert raised.value is failure
    assert (recording.record.status, recording.record.error) == (500, "ZeroDivisionError")
    assert recording.record.seconds > 0
    assert recording.current.get() is None


async def test_an_exception_that_nobody_answered_is_answered_with_a_500_that_carries_the_request_id():
    async def app(scope, receive, send):
        raise ZeroDivisionError

    recording = Recording(app)
    transport = ASGITransport(recording.recorder, raise_app_exceptions=False)
    async with AsyncClient(transport=transport, base_url="http://shop") as client:
        answer = await client.get("/", headers={"x-request-id": "mine"})
    assert (answer.status_code, answer.text) == (500, "Internal Server Error")
    assert answer.headers["x-request-id"] == "mine"


async def test_an_exception_is_told_also_when_its_answer_cannot_be_sent():
    async def app(scope, receive, send):
        raise ZeroDivisionError

    async def gone(message):
        raise OSError("the client has gone")

    recording = Recording(app)
    with pytest.raises(ZeroDivisionError):
        await recording.recorder(scope_of(), None, gone)
    assert (recording.record.status, recording.record.error) == (500, "ZeroDivisionError")


async def test_a_cancelled_request_that_was_not_answered_gets_no_answer():
    sent = []

    async def app(scope, receive, send):
        raise asyncio.CancelledError

    async def keep(message):
        sent.append(message)

    with pytest.raises(asyncio.CancelledError):
        await Recording(app).recorder(scope_of(), None, keep)
    assert sent == []


async def test_further_headers_are_added_to_the_answer_only():
    def headers_of(record, request):
        return (
            (b"x-first-byte", str(record.first_byte_seconds > 0).encode()),
            (b"x-asked", request[b"x-ask"]),
        )

    sent = []

    async def keep(message):
        sent.append(message)

    app = answering(start(), body(b"ok"))
    recorder = Recorder(app, lambda _: None, ContextVar("current", default=None), headers_of=headers_of)
    await recorder(scope_of(headers=[(b"x-ask", b"why")]), None, keep)
    assert sent[0]["headers"][:2] == [(b"x-first-byte", b"True"), (b"x-asked", b"why")]
    assert sent[1] == body(b"ok")


async def test_an_exception_that_the_framework_answered_keeps_its_class():
    async def endpoint(request):
        raise KeyError

    recording = Recording(Starlette(routes=[Route("/", endpoint)]))
    with pytest.raises(KeyError):
        await recording.get()
    assert (recording.record.status, recording.record.error) == (500, "KeyError")
    assert (recording.record.content_type, recording.record.route) == ("text/plain", "/")


async def test_an_exception_in_mid_stream_keeps_the_status_that_was_sent():
    def chunks():
        yield b"first"
        raise OSError

    recording = Recording(Starlette(routes=[Route("/", lambda _: StreamingResponse(chunks()))]))
    with pytest.raises(OSError):  # noqa: PT011 - the class is what is under test
        await recording.get()
    record = recording.record
    assert (record.status, record.error, record.response_bytes) == (200, "OSError", 5)


async def test_a_cancelled_request_is_closed_with_its_error():
    streaming = asyncio.Event()

    async def app(scope, receive, send):
        await send(start())
        await send(body(b"first", more=True))
        streaming.set()
        await asyncio.Event().wait()

    recording = Recording(app)
    task = asyncio.create_task(recording.recorder(scope_of(), None, drop))
    await streaming.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    record = recording.record
    assert (record.status, record.error, record.response_bytes) == (200, "CancelledError", 5)


async def test_a_client_that_goes_away_in_mid_stream_is_an_error_of_the_record():
    async def refuse(message):
        if message["type"] == "http.response.body":
            raise OSError

    app = Starlette(routes=[Route("/", lambda _: StreamingResponse(iter([b"x"])))])
    recording = Recording(app)
    scope = scope_of(asgi={"version": "3.0", "spec_version": "2.4"}, query_string=b"")
    with pytest.raises(ClientDisconnect):
        await recording.recorder(scope, None, refuse)
    assert (recording.record.status, recording.record.error) == (200, "ClientDisconnect")


async def test_an_application_that_gives_up_in_mid_stream_without_an_exception_is_incomplete():
    recording = Recording(answering(start(), body(b"x", more=True)))
    await recording.recorder(scope_of(), None, drop)
    assert (recording.record.status, recording.record.error) == (200, INCOMPLETE)


async def test_an_application_that_answers_nothing_is_a_500():
    recording = Recording(answering())
    await recording.recorder(scope_of(), None, drop)
    assert (recording.record.status, recording.record.error) == (500, INCOMPLETE)


# The host is never harmed


async def test_a_fault_in_on_close_is_logged_once_counted_and_kept_from_the_request(caplog):
    def fail(record: Record) -> None:
        raise RuntimeError("no room")

    recording = Recording(PlainTextResponse("ok"), on_close=fail)
    with caplog.at_level(logging.ERROR, logger="upshift"):
        responses = [await recording.get() for _ in range(3)]
    assert [response.text for response in responses] == ["ok"] * 3
    assert recording.recorder.faults == 3
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "no room" in caplog.text


async def test_a_fault_in_on_close_does_not_hide_the_applications_exception():
    async def app(scope, receive, send):
        raise ZeroDivisionError

    def fail(record: Record) -> None:
        raise RuntimeError

    with pytest.raises(ZeroDivisionError):
        await Recording(app, on_close=fail).get()


@pytest.mark.parametrize("kind", ["websocket", "lifespan"])
async def test_websockets_and_the_lifespan_pass_untouched(kind):
    passed = []

    async def app(*arguments):
        passed.append((arguments, recording.current.get()))

    recording = Recording(app)
    arguments = ({"type": kind}, object(), drop)
    await recording.recorder(*arguments)
    assert passed == [(arguments, None)]
    assert recording.records == []


async def test_messages_reach_the_server_unchanged_and_in_order():
    messages = [
        start(),
        body(b"a", more=True),
        body(b""),
        {"type": "http.response.trailers", "headers": [], "more_trailers": False},
        {"type": "http.response.debug"},
    ]
    received = []

    async def keep(message):
        received.append(message)

    recording = Recording(answering(*messages))
    await recording.recorder(scope_of(), None, keep)
    assert all(given is got for given, got in zip(messages[1:], received[1:], strict=True))
    request_id = (b"x-request-id", recording.record.request_id.encode())
    assert received[0] == {**messages[0], "headers": [*messages[0]["headers"], request_id]}


async def test_the_application_s_own_list_of_headers_is_not_touched():
    answer = start(headers=[(b"content-type", b"text/plain")])
    await Recording(answering(answer, body())).recorder(scope_of(), None, drop)
    assert answer["headers"] == [(b"content-type", b"text/plain")]


async def test_a_request_id_that_the_application_sets_stays_and_is_the_record_s():
    answer = start(headers=[(b"x-request-id", b"mine")])
    received = []

    async def keep(message):
        received.append(message)

    recording = Recording(answering(answer, body()))
    await recording.recorder(scope_of(), None, keep)
    assert received[0] == answer == start(headers=[(b"x-request-id", b"mine")])
    assert recording.record.request_id == "mine"


async def test_a_request_id_of_the_application_s_that_is_not_safe_is_only_sent():
    recording = Recording(answering(start(headers=[(b"x-request-id", b"a b")]), body()))
    await recording.recorder(scope_of(), None, drop)
    assert " " not in recording.record.request_id


async def test_headers_may_come_one_by_one():
    received = []

    async def keep(message):
        received.append(message)

    answer = start() | {
        "headers": (pair for pair in [(b"content-type", b"text/css"), (b"set-cookie", b"a=b")])
    }
    recording = Recording(answering(answer, body()))
    await recording.recorder(scope_of(), None, keep)
    assert [name for name, _ in received[0]["headers"]] == [b"content-type", b"set-cookie", b"x-request-id"]
    assert recording.record.content_type == "text/css"


async def test_what_is_mounted_lets_the_application_outside_answer_an_exception():
    async def missing(scope, receive, send):
        raise HTTPException(404)

    recording = Recording(missing)
    outside = Starlette(routes=[Mount("/sub", recording.recorder)])
    async with AsyncClient(transport=ASGITransport(outside), base_url="http://shop") as client:
        answer = await client.get("/sub/nowhere")
    assert answer.status_code == 404
    assert (recording.record.status, recording.record.error) == (404, None)


async def test_the_bytes_that_the_application_reads_of_the_request_are_counted():
    async def app(scope, receive, send):
        while (await receive())["more_body"]:
            pass
        await answering(start(), body())(scope, receive, send)

    parts = [
        {"type": "http.request", "body": b"abc", "more_body": True},
        {"type": "http.request", "body": b"de", "more_body": False},
    ]

    async def receive():
        return parts.pop(0)

    recording = Recording(app)
    await recording.recorder(scope_of(headers=[(b"transfer-encoding", b"chunked")]), receive, drop)
    assert recording.record.request_bytes == 5


async def test_the_first_byte_is_timed_apart_from_the_last(clock):
    async def app(scope, receive, send):
        clock.now += 1
        await send(start())
        clock.now += 5
        await send(body(b"x"))

    recording = Recording(app)
    await recording.recorder(scope_of(), None, drop)
    assert (recording.record.first_byte_seconds, recording.record.seconds) == (1.0, 6.0)


async def test_open_requests_are_counted_while_they_are_open():
    async def app(scope, receive, send):
        assert len(recording.recorder.open) == 1
        raise LookupError

    recording = Recording(app)
    with pytest.raises(LookupError):
        await recording.recorder(scope_of(), None, drop)
    assert not recording.recorder.open


async def test_hostile_lengths_are_cut():
    headers = [(b"accept-encoding", b"g" * 100_000)]
    answer = [(b"content-type", b"t" * 100_000), (b"content-encoding", b"e" * 100_000)]
    recording = Recording(answering(start(headers=answer), body()))
    await recording.recorder(scope_of("/" * 100_000, headers), None, drop)
    record = recording.record
    kept = (record.accept_encoding, record.content_type, record.content_encoding)
    assert [len(record.path), *(len(text) for text in kept)] == [MAX_TEXT, *[MAX_VALUE] * 3]


async def test_headers_that_are_no_ascii_are_recorded_as_they_are():
    recording = Recording(answering(start(headers=[(b"content-type", b"\xff\xfe")]), body()))
    await recording.recorder(scope_of(headers=[(b"accept-encoding", b"\xe9")]), None, drop)
    assert (recording.record.accept_encoding, recording.record.content_type) == ("é", "ÿþ")


async def test_a_long_method_is_cut():
    recording = Recording(Starlette())
    await recording.request("X" * 60_000, "/")
    assert recording.record.method == "X" * MAX_METHOD


async def test_the_route_is_known_while_the_request_is_open_and_the_scope_is_let_go_afterwards():
    templates, seen = RouteTemplates(), []

    async def endpoint(request):
        seen.append(templates.of(recording.current.get()))
        return PlainTextResponse("ok")

    recording = Recording(Starlette(routes=[Route("/orders/{order_id}", endpoint)]))
    await recording.get("/orders/7")
    assert seen == [templates.of(recording.record)] == ["/orders/{order_id}"]
    assert recording.record.scope is None


async def test_the_scheme_and_the_client_are_recorded_as_the_server_tells_them():
    recording = Recording(answering(start(), body()))
    await recording.recorder(scope_of(scheme="https", client=("10.0.0.7", 4711)), None, drop)
    await recording.recorder(scope_of(client=None), None, drop)
    assert [(record.scheme, record.client) for record in recording.records] == [
        ("https", "10.0.0.7"),
        ("http", ""),
    ]


async def test_what_runs_on_after_the_request_adds_nothing_to_its_record():
    late = asyncio.Event()

    async def app(scope, receive, send):
        async def linger():
            await late.wait()
            recording.current.get().add(Statement("SELECT 1", 0.0))

        tasks.append(asyncio.create_task(linger()))
        await send(start())
        await send(body())

    tasks = []
    recording = Recording(app)
    await recording.get()
    late.set()
    await tasks[0]
    assert (recording.record.statements, recording.record.statements_dropped) == ([], 0)


async def test_a_stream_s_client_waited_for_its_first_byte(clock):
    async def app(scope, receive, send):
        clock.now += 1.0
        await send(start())
        await send(body(b"a", more=True))
        clock.now += 60.0
        await send(body(b"b"))

    recording = Recording(app)
    await recording.recorder(scope_of(), None, drop)
    assert (recording.record.answer_seconds, recording.record.seconds) == (1.0, 61.0)


async def test_another_answer_s_client_waited_for_its_last_byte(clock):
    async def app(scope, receive, send):
        clock.now += 1.0
        await send(start())
        clock.now += 2.0
        await send(body(b"a"))

    recording = Recording(app)
    await recording.recorder(scope_of(), None, drop)
    assert recording.record.answer_seconds == 3.0


def test_fields_bound_to_a_record_add_up_and_touch_no_one_else_s_dictionary():
    record = Record("GET", "/", 0.0)
    record.bind(user=1, shop="a")
    first = record.context
    record.bind(user=2)
    assert (record.context, first) == ({"user": 2, "shop": "a"}, {"user": 1, "shop": "a"})


async def test_a_child_that_is_forked_within_a_request_has_no_open_one():
    async def app(scope, receive, send):
        if (child := os.fork()) == 0:
            os._exit(10 + len(recording.recorder.open))
        statuses.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))  # noqa: ASYNC222 - it ends at once
        await send(start())
        await send(body())

    statuses = []
    recording = Recording(app)
    await recording.get()
    assert statuses == [10]
