"""What `Compression` does to responses, rule by rule, and that bodies come out as they went in."""

import asyncio
import gzip
import json
import random
import threading
import zlib

import pytest
from fastapi import FastAPI, Response
from httpx import ASGITransport, AsyncClient
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import FileResponse, JSONResponse, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from upshift.errors import SettingsError
from upshift.traffic import Compression
from upshift.traffic.compression import THREAD_BYTES

TEXT = b"all work and no play " * 100
JSON = (b"content-type", b"application/json")
GZIP = (b"accept-encoding", b"gzip")


class Answer:
    """What a server was told to send."""

    def __init__(self):
        self.messages = []

    async def send(self, message):
        self.messages.append(message)

    @property
    def start(self):
        (start,) = [message for message in self.messages if message["type"] == "http.response.start"]
        return start

    @property
    def headers(self):
        """Header values by name; a repeated header fails the test."""
        names = [name for name, _ in self.start["headers"]]
        assert len(names) == len(set(names))
        return {name.decode(): value.decode() for name, value in self.start["headers"]}

    @property
    def chunks(self):
        return [message["body"] for message in self.messages if message["type"] == "http.response.body"]

    @property
    def raw(self):
        return b"".join(self.chunks)

    @property
    def is_gzip(self):
        return self.headers.get("content-encoding") == "gzip"

    @property
    def text(self):
        return gzip.decompress(self.raw) if self.is_gzip else self.raw


def start(status=200, headers=(JSON,), **extra):
    return {"type": "http.response.start", "status": status, "headers": list(headers), **extra}


def body(content=b"", *, more=False):
    return {"type": "http.response.body", "body": content, "more_body": more}


def answering(*messages):
    async def app(scope, receive, send):
        for message in messages:
            await send(message)

    return app


def whole(content=TEXT, status=200, headers=(JSON,), **extra):
    length = (b"content-length", str(len(content)).encode())
    return answering(start(status, [*headers, length], **extra), body(content))


async def ask(app, *headers, method="GET", extensions=None):
    answer = Answer()
    scope = {"type": "http", "method": method, "path": "/", "headers": list(headers)}
    if extensions is not None:
        scope["extensions"] = {name: {} for name in extensions}
    await app(scope, None, answer.send)
    return answer


# The whole body at once


async def test_a_body_is_compressed_for_a_client_that_accepts_gzip():
    answer = await ask(Compression(whole()), GZIP)
    assert answer.is_gzip
    assert answer.text == TEXT
    assert len(answer.raw) < len(TEXT)
    assert answer.headers == {
        "content-type": "application/json",
        "content-encoding": "gzip",
        "content-length": str(len(answer.raw)),
        "vary": "Accept-Encoding",
    }


@pytest.mark.parametrize("headers", [[], [(b"accept-encoding", b"br, gzip;q=0")]])
async def test_the_plain_body_for_others_is_untouched_but_varies(headers):
    answer = await ask(Compression(whole()), *headers)
    assert answer.raw == TEXT
    assert answer.headers == {
        "content-type": "application/json",
        "content-length": str(len(TEXT)),
        "vary": "Accept-Encoding",
    }


async def test_repeated_headers_are_read_as_one():
    assert (await ask(Compression(whole()), GZIP, (b"accept-encoding", b"br"))).is_gzip
    directives = [(b"cache-control", b"no-transform"), (b"cache-control", b"max-age=60")]
    messages = (await ask(Compression(whole(headers=[JSON, *directives])), GZIP)).messages
    assert messages[1]["body"] == TEXT


@pytest.mark.parametrize(("size", "is_gzip"), [(0, False), (999, False), (1_000, True)])
async def test_a_body_under_the_minimum_is_sent_as_it_is(size, is_gzip):
    answer = await ask(Compression(whole(b"a" * size)), GZIP)
    assert answer.is_gzip == is_gzip
    assert answer.text == b"a" * size
    assert answer.headers["vary"] == "Accept-Encoding"


async def test_the_minimum_can_be_set():
    assert (await ask(Compression(whole(b"a" * 100), minimum_bytes=100), GZIP)).is_gzip
    assert not (await ask(Compression(whole(b""), minimum_bytes=0), GZIP)).is_gzip


async def test_a_client_that_refuses_the_plain_form_gets_small_bodies_compressed_too():
    answer = await ask(Compression(whole(b"tiny")), (b"accept-encoding", b"gzip, identity;q=0"))
    assert answer.is_gzip
    assert answer.text == b"tiny"


async def test_a_body_that_does_not_shrink_is_sent_as_it_is():
    noise = random.Random(1).randbytes(5_000)
    etag = (b"etag", b'"abc"')
    answer = await ask(Compression(whole(noise, headers=[JSON, etag])), GZIP)
    assert (answer.is_gzip, answer.raw, answer.headers["etag"]) == (False, noise, '"abc"')


async def test_equal_bodies_compress_to_equal_bytes():
    app = Compression(whole())
    assert (await ask(app, GZIP)).raw == (await ask(app, GZIP)).raw


async def test_a_higher_level_makes_a_smaller_body():
    content = json.dumps([{"id": i, "name": f"product {i * 7919 % 1000}"} for i in range(2_000)]).encode()
    fast = await ask(Compression(whole(content)), GZIP)
    small = await ask(Compression(whole(content), level=9), GZIP)
    assert len(small.raw) < len(fast.raw)
    assert small.text == content


# What is left alone


@pytest.mark.parametrize(
    "header",
    [
        (b"content-encoding", b"br"),
        (b"Content-Encoding", b"identity"),
        (b"cache-control", b"no-transform"),
        (b"cache-control", b"public, No-Transform, max-age=60"),
        (b"content-digest", b"sha-256=:abc:"),
        (b"repr-digest", b"sha-256=:abc:"),
        (b"content-md5", b"abc"),
    ],
)
async def test_a_response_whose_bytes_are_settled_is_untouched(header):
    app = whole(headers=[JSON, header])
    assert (await ask(Compression(app), GZIP)).messages == (await ask(app, GZIP)).messages


@pytest.mark.parametrize("media_type", [b"image/png", b"application/zip", b"text/event-stream", b""])
async def test_a_media_type_that_is_not_compressible_is_untouched(media_type):
    app = whole(headers=[(b"content-type", media_type)])
    assert (await ask(Compression(app), GZIP)).messages == (await ask(app, GZIP)).messages


async def test_a_response_without_a_content_type_is_untouched():
    app = answering(start(headers=[]), body(TEXT))
    assert (await ask(Compression(app), GZIP)).messages == (await ask(app, GZIP)).messages


@pytest.mark.parametrize("status", [103, 204, 205])
async def test_a_status_without_a_body_is_untouched(status):
    app = answering(start(status), body())
    assert (await ask(Compression(app), GZIP)).messages == (await ask(app, GZIP)).messages


@pytest.mark.parametrize(
    ("status", "headers"),
    [(206, [(b"content-range", b"bytes 0-99/200")]), (416, [(b"content-range", b"bytes */200")]), (206, [])],
)
async def test_a_range_is_sent_as_it_is_but_varies(status, headers):
    app = whole(status=status, headers=[JSON, *headers])
    answer = await ask(Compression(app), GZIP)
    assert (answer.raw, answer.headers["vary"]) == (TEXT, "Accept-Encoding")
    assert "content-encoding" not in answer.headers


@pytest.mark.parametrize("status", [200, 201, 404, 500])
async def test_errors_are_compressed_like_successes(status):
    answer = await ask(Compression(whole(status=status)), GZIP)
    assert (answer.start["status"], answer.is_gzip) == (status, True)


@pytest.mark.parametrize("kind", ["http.response.pathsend", "http.response.zerocopysend"])
async def test_a_file_that_the_server_sends_is_untouched(kind):
    messages = [start(headers=[JSON, (b"content-length", b"50000")]), {"type": kind, "path": "/x", "file": 3}]
    answer = await ask(Compression(answering(*messages)), GZIP, extensions=[kind])
    assert answer.messages[1] is messages[1]
    assert "content-encoding" not in answer.headers
    assert answer.headers["content-length"] == "50000"


async def test_pieces_that_may_be_mixed_with_files_are_not_compressed():
    messages = [
        start(),
        body(TEXT, more=True),
        {"type": "http.response.zerocopysend", "file": 3, "more_body": False},
    ]
    answer = await ask(Compression(answering(*messages)), GZIP, extensions=["http.response.zerocopysend"])
    assert (answer.raw, answer.is_gzip) == (TEXT, False)
    assert answer.messages[2] is messages[2]


@pytest.mark.parametrize("kind", ["websocket", "lifespan"])
async def test_websockets_and_the_lifespan_pass_untouched(kind):
    passed = []

    async def app(*arguments):
        passed.append(arguments)

    arguments = ({"type": kind}, object(), object())
    await Compression(app)(*arguments)
    assert [passed[0][i] is arguments[i] for i in range(3)] == [True] * 3


async def test_other_messages_pass_in_their_place():
    early = {"type": "http.response.early_hint", "links": []}
    trailers = {"type": "http.response.trailers", "headers": [], "more_trailers": False}
    app = answering(early, start(trailers=True), body(TEXT), trailers)
    answer = await ask(Compression(app), GZIP)
    assert [message["type"].rpartition(".")[2] for message in answer.messages] == [
        "early_hint",
        "start",
        "body",
        "trailers",
    ]
    assert (answer.text, answer.start["trailers"]) == (TEXT, True)
    assert "content-length" not in answer.headers  # trailers follow only a body of unknown length


# Bodies in pieces


async def test_each_piece_can_be_read_when_it_is_sent():
    pieces = [b"first " * 50, b"second " * 50, b"third " * 50]
    app = answering(start(), *(body(piece, more=True) for piece in pieces), body())
    answer = await ask(Compression(app), GZIP)
    reader = zlib.decompressobj(wbits=31)
    assert [reader.decompress(chunk) for chunk in answer.chunks] == [*pieces, b""]
    assert reader.eof
    assert "content-length" not in answer.headers


async def test_an_empty_piece_adds_no_bytes():
    answer = await ask(Compression(answering(start(), body(TEXT, more=True), body(more=True), body())), GZIP)
    assert answer.chunks[1] == b""
    assert answer.text == TEXT


async def test_what_comes_after_the_end_is_the_servers_to_refuse():
    late = body(b"late")
    answer = await ask(Compression(answering(start(), body(TEXT, more=True), body(), late)), GZIP)
    assert answer.messages[-1] is late


async def test_a_body_in_pieces_whose_length_is_declared_small_is_sent_as_it_is():
    headers = [JSON, (b"content-length", b"4")]
    answer = await ask(
        Compression(answering(start(headers=headers), body(b"ab", more=True), body(b"cd"))), GZIP
    )
    assert (answer.raw, answer.headers["content-length"], answer.is_gzip) == (b"abcd", "4", False)


async def test_a_piece_is_sent_before_the_next_one_is_made():
    sent = []

    async def app(scope, receive, send):
        await send(start())
        for _ in range(3):
            before = len(sent)
            await send(body(TEXT, more=True))
            assert len(sent) > before
        await send(body())

    async def send(message):
        sent.append(message)

    await Compression(app)({"type": "http", "method": "GET", "path": "/", "headers": [GZIP]}, None, send)


async def test_a_plain_start_is_not_held_back():
    sent = []

    async def app(scope, receive, send):
        await send(start())
        assert len(sent) == 1
        await send(body(TEXT))

    async def send(message):
        sent.append(message)

    await Compression(app)({"type": "http", "method": "GET", "path": "/", "headers": []}, None, send)


@given(
    pieces=st.lists(st.binary(max_size=3_000) | st.sampled_from([TEXT, b"", b"a" * 50_000]), max_size=8),
    ends_empty=st.booleans(),
    accept_encoding=st.sampled_from([b"gzip", b"", b"gzip;q=0", b"identity;q=0, gzip", b"*"]),
    declares=st.booleans(),
    minimum=st.integers(0, 5_000),
)
async def test_any_body_in_any_pieces_arrives_as_it_was_sent(
    pieces, ends_empty, accept_encoding, declares, minimum
):
    content = b"".join(pieces)
    last = [] if ends_empty else pieces[-1:]
    first = pieces if ends_empty else pieces[:-1]
    length = [(b"content-length", str(len(content)).encode())] if declares else []
    app = answering(
        start(headers=[JSON, *length]), *(body(piece, more=True) for piece in first), body(b"".join(last))
    )
    answer = await ask(Compression(app, minimum_bytes=minimum), (b"accept-encoding", accept_encoding))
    assert answer.text == content
    assert [message.get("more_body") for message in answer.messages[1:]] == [*[True] * len(first), False]
    assert int(answer.headers.get("content-length", len(answer.raw))) == len(answer.raw)


# Large bodies


async def test_a_large_piece_is_compressed_in_a_thread_and_a_small_one_is_not(monkeypatch):
    threads = []
    original = zlib.compressobj

    class Spy:
        def __init__(self, *args, **kwargs):
            self.encoder = original(*args, **kwargs)

        def compress(self, data):
            threads.append(threading.current_thread() is threading.main_thread())
            return self.encoder.compress(data)

        def flush(self, mode):
            return self.encoder.flush(mode)

    monkeypatch.setattr("upshift.traffic.compression.zlib.compressobj", Spy)
    large = TEXT * (THREAD_BYTES // len(TEXT) + 1)
    answer = await ask(Compression(answering(start(), body(TEXT, more=True), body(large))), GZIP)
    assert answer.text == TEXT + large
    assert threads == [True, False]


async def test_a_request_cancelled_while_a_large_body_is_compressed_ends_cancelled():
    answer = Answer()
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [GZIP]}
    task = asyncio.create_task(Compression(whole(TEXT * 5_000))(scope, None, answer.send))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert answer.messages == []
    assert "headers" in scope


# HEAD and conditional requests


@pytest.mark.parametrize("content", [TEXT, b""], ids=["with the body", "with the length only"])
async def test_head_is_answered_with_the_headers_of_get(content):
    headers = [JSON, (b"content-length", str(len(TEXT)).encode()), (b"etag", b'"abc"')]
    app = Compression(answering(start(headers=headers), body(content)))
    answer = await ask(app, GZIP, method="HEAD")
    assert answer.headers == {
        "content-type": "application/json",
        "content-encoding": "gzip",
        "etag": '"abc-gzip"',
        "vary": "Accept-Encoding",
    }


@pytest.mark.parametrize(("content", "minimum_bytes"), [(b"tiny", 1_000), (b"", 0)])
async def test_head_of_what_get_sends_as_it_is_has_its_length(content, minimum_bytes):
    answer = await ask(Compression(whole(content), minimum_bytes=minimum_bytes), GZIP, method="HEAD")
    assert answer.headers == {
        "content-type": "application/json",
        "content-length": str(len(content)),
        "vary": "Accept-Encoding",
    }


def with_etag(etag):
    """An application that answers 304 where the client has `etag` already, comparing tags as strings."""
    seen = []

    async def app(scope, receive, send):
        asked = dict(scope["headers"])
        seen.append(asked)
        tags = [tag.strip() for tag in asked.get(b"if-none-match", b"").split(b",")]
        if etag in tags:
            await send(start(304, [(b"etag", etag)]))
            await send(body())
        else:
            await send(start(200, [JSON, (b"etag", etag), (b"accept-ranges", b"bytes")]))
            await send(body(TEXT))

    app.seen = seen
    return app


async def test_the_gzip_form_has_a_strong_tag_of_its_own():
    app = Compression(with_etag(b'"abc"'))
    assert (await ask(app, GZIP)).headers["etag"] == '"abc-gzip"'
    assert (await ask(app)).headers["etag"] == '"abc"'


async def test_a_weak_tag_serves_both_forms():
    assert (await ask(Compression(with_etag(b'W/"abc"')), GZIP)).headers["etag"] == 'W/"abc"'


async def test_ranges_are_not_offered_of_the_gzip_form():
    app = Compression(with_etag(b'"abc"'))
    assert "accept-ranges" not in (await ask(app, GZIP)).headers
    assert (await ask(app)).headers["accept-ranges"] == "bytes"


@pytest.mark.parametrize(
    ("known", "confirmed"),
    [
        (b'"abc-gzip"', '"abc-gzip"'),
        (b'"old-gzip", "abc-gzip"', '"abc-gzip"'),
        (b'"abc"', '"abc"'),  # stored when the client, or its cache, had not asked for gzip
        (b'"abcabc-gzip", "abc"', '"abc"'),
    ],
)
async def test_a_304_confirms_the_form_that_the_client_has(known, confirmed):
    answer = await ask(Compression(with_etag(b'"abc"')), GZIP, (b"if-none-match", known))
    assert answer.start["status"] == 304
    assert answer.headers == {"etag": confirmed, "vary": "Accept-Encoding"}


async def test_the_gzip_form_is_not_confirmed_to_a_client_that_no_longer_accepts_it():
    answer = await ask(Compression(with_etag(b'"abc"')), (b"if-none-match", b'"abc-gzip"'))
    assert (answer.start["status"], answer.raw) == (200, TEXT)


async def test_a_304_to_a_client_that_accepts_no_gzip_varies():
    answer = await ask(Compression(with_etag(b'"abc"')), (b"if-none-match", b'"abc"'))
    assert (answer.start["status"], answer.headers["vary"]) == (304, "Accept-Encoding")


@pytest.mark.parametrize("headers", [[], [GZIP]])
async def test_if_match_reaches_the_application_with_its_own_tag(headers):
    app = with_etag(b'"abc"')
    await ask(Compression(app), *headers, (b"if-match", b'"abc-gzip"'), method="PUT")
    assert app.seen[0][b"if-match"] == b'"abc"'


async def test_if_range_of_the_gzip_form_matches_no_plain_range():
    app = with_etag(b'"abc"')
    await ask(Compression(app), GZIP, (b"if-range", b'"abc-gzip"'))
    assert app.seen[0][b"if-range"] == b'"abc-gzip"'


async def test_the_scope_is_the_servers_own_and_its_headers_are_put_back():
    scopes = []

    async def app(scope, receive, send):
        scopes.append(scope)
        scope["endpoint"] = "left by the router"
        raise ZeroDivisionError

    headers = [GZIP, (b"if-none-match", b'"abc-gzip"')]
    scope = {"type": "http", "method": "GET", "path": "/", "headers": headers}
    with pytest.raises(ZeroDivisionError):
        await Compression(app)(scope, None, None)
    assert scopes[0] is scope
    assert scope["headers"] is headers
    assert scope["endpoint"] == "left by the router"


# Together with others


async def test_two_of_them_compress_once():
    answer = await ask(Compression(Compression(with_etag(b'"abc"'))), GZIP)
    assert answer.text == TEXT
    assert (answer.headers["vary"], answer.headers["etag"]) == ("Accept-Encoding", '"abc-gzip"')


async def test_two_of_them_confirm_a_stored_response():
    app = Compression(Compression(with_etag(b'"abc"')))
    answer = await ask(app, GZIP, (b"if-none-match", b'"abc-gzip"'))
    assert (answer.start["status"], answer.headers["etag"]) == (304, '"abc-gzip"')


async def test_starlettes_own_compression_inside_is_left_alone():
    answer = await ask(Compression(GZipMiddleware(whole())), GZIP)
    assert answer.text == TEXT
    assert answer.headers["vary"] == "Accept-Encoding"


async def test_the_messages_of_the_application_are_not_changed():
    messages = [start(), body(TEXT)]
    before = [dict(message, headers=list(message.get("headers", []))) for message in messages]
    await ask(Compression(answering(*messages)), GZIP)
    assert [dict(message, headers=list(message.get("headers", []))) for message in messages] == before


async def get(app, path="/", **headers):
    transport = ASGITransport(app, raise_app_exceptions=False)
    async with AsyncClient(transport=transport, base_url="http://shop") as client:
        return await client.get(path, headers=headers)


async def test_a_fastapi_application_answers_the_same_json():
    app = FastAPI()

    @app.get("/")
    def rows():
        return [{"id": number, "name": "a product"} for number in range(500)]

    plain = await get(app)
    compressed = await get(Compression(app))
    assert compressed.json() == plain.json()
    assert (compressed.headers["content-encoding"], plain.headers.get("content-encoding")) == ("gzip", None)


async def test_base_http_middleware_around_and_inside_changes_nothing():
    class Passing(BaseHTTPMiddleware):
        async def dispatch(self, request, call_next):
            return await call_next(request)

    app = Starlette(
        routes=[
            Route("/", lambda _: JSONResponse([TEXT.decode()])),
            Route("/small", lambda _: JSONResponse([])),
        ],
        middleware=[Middleware(Passing), Middleware(Compression), Middleware(Passing)],
    )
    large, small = await get(app), await get(app, "/small")
    assert (large.json(), large.headers["content-encoding"]) == ([TEXT.decode()], "gzip")
    assert (small.json(), small.headers.get("content-encoding")) == ([], None)


async def test_static_files_are_revalidated(tmp_path):
    (tmp_path / "app.js").write_bytes(TEXT)
    app = Compression(Starlette(routes=[Mount("/", StaticFiles(directory=tmp_path))]))
    first = await get(app, "/app.js")
    assert (first.content, first.headers["content-encoding"]) == (TEXT, "gzip")
    again = await get(app, "/app.js", **{"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.headers["etag"]) == (304, first.headers["etag"])


async def test_a_range_of_a_file_is_plain(tmp_path):
    (tmp_path / "notes.txt").write_bytes(TEXT)
    app = Compression(Starlette(routes=[Route("/", lambda _: FileResponse(tmp_path / "notes.txt"))]))
    part = await get(app, range="bytes=0-99")
    assert (part.status_code, part.content) == (206, TEXT[:100])


async def test_an_endpoint_can_opt_out():
    app = FastAPI()

    @app.get("/")
    def secret(response: Response):
        response.headers["Cache-Control"] = "no-transform"
        return TEXT.decode()

    assert "content-encoding" not in (await get(Compression(app))).headers


# Requests that go wrong


async def test_an_exception_before_the_body_leaves_the_response_unstarted():
    async def app(scope, receive, send):
        await send(start())
        raise ZeroDivisionError

    answer = Answer()
    with pytest.raises(ZeroDivisionError):
        await Compression(app)(
            {"type": "http", "method": "GET", "path": "/", "headers": [GZIP]}, None, answer.send
        )
    assert answer.messages == []  # so that a 500 can still be sent


async def test_an_exception_in_mid_stream_leaves_a_body_that_is_seen_to_be_cut():
    def pieces():
        yield TEXT
        raise ZeroDivisionError

    answer = Answer()
    app = Starlette(routes=[Route("/", lambda _: StreamingResponse(pieces(), media_type="text/plain"))])
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "method": "GET",
        "path": "/",
        "headers": [GZIP],
    }
    with pytest.raises(ZeroDivisionError):
        await Compression(app)(scope, None, answer.send)
    reader = zlib.decompressobj(wbits=31)
    assert reader.decompress(answer.raw) == TEXT
    assert not reader.eof


async def test_a_client_that_goes_away_is_the_applications_to_know():
    async def refuse(message):
        raise OSError("gone")

    noticed = []

    async def app(scope, receive, send):
        await send(start())
        try:
            await send(body(TEXT))
        except OSError as error:
            noticed.append(error)

    await Compression(app)({"type": "http", "method": "GET", "path": "/", "headers": [GZIP]}, None, refuse)
    assert len(noticed) == 1


@pytest.mark.parametrize("settings", [{"level": 0}, {"level": 10}, {"minimum_bytes": -1}])
def test_a_setting_out_of_its_range_is_refused_by_name(settings):
    (name,) = settings
    with pytest.raises(SettingsError, match=name):
        Compression(whole(), **settings)
