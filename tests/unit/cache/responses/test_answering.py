"""What a stored answer is given to, and as what: RFC 9111 §4 and §5."""

from __future__ import annotations

import asyncio
import time
from contextvars import ContextVar

import pytest

from upshift.cache import Cache
from upshift.cache.responses import middleware
from upshift.errors import SettingsError
from upshift.record import Record

from .asking import App, ask, scope_of


@pytest.fixture
def app():
    return App()


@pytest.fixture
def served(cache, app):
    cache.responses("/things*", ttl="5m")
    return cache.responses.around(app)


@pytest.fixture
def later(monkeypatch):
    """Let the wall clock go on, as far as answers are concerned."""

    def go_on(seconds):
        now = time.time()
        monkeypatch.setattr(middleware, "time", lambda: now + seconds)

    return go_on


async def test_the_application_is_asked_once(served, app):
    answers = [await ask(served) for _ in range(3)]

    assert app.runs == 1
    assert {each.body for each in answers} == {b"run 1"}
    assert len({each.headers["etag"] for each in answers}) == 1
    assert [each.headers.get("age") for each in answers] == [None, "0", "0"]
    assert answers[2].headers["content-length"] == "5"


async def test_the_answer_tells_its_age(served, later):
    await ask(served)
    later(70.9)

    assert (await ask(served)).headers["age"] == "70"


async def test_what_came_with_an_age_is_older(cache, app, later):
    cache.responses("/things")
    app.headers = ((b"age", b"30"), (b"cache-control", b"max-age=60"))
    served = cache.responses.around(app)
    await ask(served)
    later(5)

    assert (await ask(served)).headers["age"] == "35"


async def test_a_clock_that_was_set_back_makes_no_negative_age(served, later):
    await ask(served)
    later(-3_600)

    assert (await ask(served)).headers["age"] == "0"


@pytest.mark.parametrize(
    ("cache_control", "runs"),
    [
        (b"max-age=60", 1),
        (b"max-age=31", 1),
        (b"max-age=30", 2),
        (b"max-age=0", 2),
        (b"no-cache", 2),
        (b"min-fresh=60", 1),
        (b"min-fresh=300", 2),
        (b"max-stale", 1),
        (b"only-if-cached", 1),
        (b"no-transform", 1),
    ],
)
async def test_what_a_request_allows_is_respected(served, app, later, cache_control, runs):
    await ask(served)
    later(30)

    answer = await ask(served, "/things", (b"cache-control", cache_control))

    assert answer.body == b"run %d" % runs
    assert app.runs == runs


async def test_who_wants_a_new_answer_renews_it_for_all(served):
    await ask(served)
    await ask(served, "/things", (b"pragma", b"no-cache"))

    assert (await ask(served)).body == b"run 2"


async def test_what_must_not_be_stored_is_left_alone(served, app):
    for _ in range(2):
        answer = await ask(served, "/things", (b"cache-control", b"no-store"))
        assert "etag" not in answer.headers

    assert (await ask(served)).body == b"run 3"


async def test_who_wants_only_what_is_stored_is_told_where_there_is_nothing(served, app):
    answer = await ask(served, "/things", (b"cache-control", b"only-if-cached"))

    assert (answer.status, app.runs) == (504, 0)


@pytest.mark.parametrize(
    "header",
    [
        (b"range", b"bytes=0-1"),
        (b"if-range", b'"a"'),
        (b"if-match", b'"a"'),
        (b"if-unmodified-since", b"Sat, 29 Oct 2022 19:43:31 GMT"),
        (b"content-length", b"2"),
        (b"transfer-encoding", b"chunked"),
        (b"cache-control", b"x" * 1_001),
        (b"x-http-method-override", b"DELETE"),
        (b"x-original-url", b"/admin"),
    ],
)
async def test_what_only_the_application_can_answer_passes_by(served, app, header):
    await ask(served)

    answer = await ask(served, "/things", header)

    assert answer.body == b"run 2"
    assert "etag" not in answer.headers
    assert header in app.scopes[1]["headers"]
    assert (await ask(served)).body == b"run 1"


async def test_a_body_of_no_bytes_is_none(served, app):
    await ask(served)
    await ask(served, "/things", (b"content-length", b"0"))

    assert app.runs == 1


@pytest.mark.parametrize("condition", [b"*", b'"x", %b', b"W/%b"])
async def test_a_client_that_has_the_answer_is_told_so(served, app, condition):
    first = await ask(served, "/things")
    known = condition.replace(b"%b", first.headers["etag"].encode())

    answer = await ask(served, "/things", (b"if-none-match", known))

    assert (answer.status, answer.body, app.runs) == (304, b"", 1)
    assert answer.headers.keys() == {"etag", "cache-control"}


async def test_the_application_is_asked_without_conditions_so_that_its_answer_can_be_stored(served, app):
    tag = (await ask(served)).headers["etag"].encode()
    headers = [(b"if-none-match", tag), (b"if-modified-since", b"now"), (b"cache-control", b"no-cache")]
    app.body = b"run 1"  # the same again

    answer = await ask(served, "/things", *headers)

    assert (answer.status, app.runs) == (304, 2)
    assert app.scopes[1]["headers"] == [(b"host", b"shop.example"), (b"cache-control", b"no-cache")]


async def test_a_scope_is_left_as_it_was(served):
    scope = scope_of("/things", (b"if-none-match", b'"a"'), method="HEAD")
    before = {**scope, "headers": [*scope["headers"]]}

    await served(scope, None, App().after or _ignore)

    assert {name: scope[name] for name in before} == before
    assert scope["path_template"] == "/template"  # as the router left it


async def _ignore(message):
    """Nobody listens."""


async def test_head_is_answered_from_get_and_get_from_head(served, app):
    head = await ask(served, "/things", method="HEAD")
    get = await ask(served)
    again = await ask(served, "/things", method="HEAD")

    assert app.runs == 1
    assert app.scopes[0]["method"] == "GET"
    assert (head.body, get.body, again.body) == (b"", b"run 1", b"")
    assert head.headers == {name: value for name, value in get.headers.items() if name != "age"}
    assert again.headers == get.headers


async def test_head_has_no_body_where_the_answer_is_not_stored(served, app):
    app.status = 500
    answer = await ask(served, "/things", method="HEAD")

    assert (answer.status, answer.body, answer.headers["content-length"]) == (500, b"", "5")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "PURGE"])
async def test_who_changes_something_ends_the_answers_for_the_path(served, app, method):
    await ask(served, "/things?page=1")
    await ask(served, "/things?page=2")
    await ask(served, "/things/7")
    await ask(served, method=method)

    assert (await ask(served, "/things?page=1")).body == b"run 5"
    assert (await ask(served, "/things?page=2")).body == b"run 6"
    assert (await ask(served, "/things/7")).body == b"run 3"


@pytest.mark.parametrize(("method", "status"), [("POST", 404), ("POST", 500), ("OPTIONS", 200)])
async def test_who_has_changed_nothing_ends_none(served, app, method, status):
    await ask(served)
    app.status = status
    await ask(served, method=method)

    assert (await ask(served)).body == b"run 1"


@pytest.mark.parametrize("headers", [[], [(b"if-none-match", b"*")], [(b"cache-control", b"only-if-cached")]])
@pytest.mark.parametrize("is_stored", [True, False])
async def test_what_stands_outside_may_change_an_answer_and_no_other(served, headers, is_stored):
    if is_stored:
        await ask(served)

    async def outer(scope, receive, send):
        async def marking_send(message):
            message.setdefault("headers", []).append((b"x-marked", b"1"))
            message["body"] = b""
            await send(message)

        await served(scope, receive, marking_send)

    await ask(outer, "/things", *headers)

    answer = await ask(served, "/things", *headers)
    assert "x-marked" not in answer.headers
    assert answer.body == {200: b"run 1", 304: b"", 504: b"Gateway Timeout"}[answer.status]


async def test_other_paths_are_the_applications(served, app):
    for _ in range(2):
        assert "etag" not in (await ask(served, "/others")).headers

    assert app.runs == 2


async def test_websockets_and_the_lifespan_are_the_applications(cache):
    cache.responses("*")
    kinds = []

    async def app(scope, receive, send):
        kinds.append(scope["type"])

    served = cache.responses.around(app)
    await served({"type": "lifespan"}, None, None)
    await served({"type": "websocket", "path": "/things"}, None, None)

    assert kinds == ["lifespan", "websocket"]


async def test_a_prefix_of_a_proxy_is_not_part_of_the_pattern(cache, app):
    cache.responses("/things")
    served = cache.responses.around(app)
    for _ in range(2):
        await ask(served, "/shop/things", root_path="/shop")

    assert app.runs == 1


async def test_the_first_pattern_that_fits_counts(cache, app):
    cache.responses("/things/{id}", tags=["thing:{id}"])
    cache.responses("/things*", tags=["all"])
    served = cache.responses.around(app)
    await ask(served, "/things/7")
    cache.invalidate("all")
    assert (await ask(served, "/things/7")).body == b"run 1"

    cache.invalidate("thing:7")
    assert (await ask(served, "/things/7")).body == b"run 2"


async def test_applications_that_share_a_cache_share_no_answers(cache, app):
    cache.responses("/things")
    one, other = cache.responses.around(app), cache.responses.around(App(body=b"another"))
    await ask(one)

    assert (await ask(other)).body == b"another"


async def test_its_time_is_up_when_it_is(cache, app, monkeypatch):
    cache.responses("/things", ttl=60)
    served = cache.responses.around(app)
    await ask(served)
    now = time.monotonic()
    monkeypatch.setattr(middleware, "monotonic", lambda: now + 61)

    await ask(served)

    assert app.runs == 2
    assert cache.statistics()["/things"].expired == 1


async def test_the_record_tells_of_hits_and_the_route(cache, app):
    current = ContextVar("current", default=None)
    cache.responses("/things")
    served = cache.responses.around(app, current, lambda scope: scope.get("path_template"))
    hits = []
    for _ in range(2):
        record = Record("GET", "/things", time.perf_counter())
        current.set(record)
        scope = scope_of()
        await served(scope, None, _ignore)
        hits.append((record.cache_hits, record.cache_seconds > 0, scope["path_template"]))

    assert hits == [(0, False, "/template"), (1, True, "/template")]


async def test_what_is_wrong_in_an_identity_breaks_no_request(cache, app, caplog):
    cache.responses("/things", identity=lambda request: request.state.nothing)
    served = cache.responses.around(app)

    bodies = [(await ask(served)).body for _ in range(3)]

    assert bodies == [b"run 1", b"run 2", b"run 3"]
    assert cache.responses.faults == 3
    assert len(caplog.records) == 1


async def test_a_cache_that_is_closed_keeps_nothing():
    cache, app = Cache(), App()
    cache.responses("/things")
    served = cache.responses.around(app)
    await ask(served)
    cache.close()

    bodies = [(await ask(served)).body for _ in range(2)]

    assert bodies == [b"run 2", b"run 3"]


async def test_what_is_read_by_an_outer_cached_function_is_what_that_depends_on(cache, app):
    cache.responses("/things", tags=["inner"])
    served = cache.responses.around(app)
    await ask(served)

    @cache.cached()
    async def outer():
        return (await ask(served)).body

    assert await outer() == b"run 1"
    cache.invalidate("inner")
    assert await outer() == b"run 2"


async def test_clearing_drops_what_is_being_made(cache, app, served):
    app.may_end.clear()
    first = asyncio.create_task(ask(served))
    await asyncio.sleep(0)
    cache.clear()
    app.may_end.set()
    await first

    assert (await ask(served)).body == b"run 2"


def test_a_ttl_that_is_none_is_refused(cache):
    with pytest.raises(SettingsError):
        cache.responses("/things", ttl="soon")
