"""A middleware comes outermost around a finished application and goes without a trace."""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from upshift.record import Attachment


class Marking:
    """A middleware that writes its name into a list on each request."""

    def __init__(self, app, name, seen):
        self.app, self.name, self.seen = app, name, seen

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http":
            self.seen.append(self.name)
        await self.app(scope, receive, send)


async def answer(request):
    return PlainTextResponse("ok")


async def fail(request):
    raise KeyError("a fault of the application's")


def starlette(seen):
    return Starlette(
        routes=[Route("/", answer), Route("/fail", fail)],
        middleware=[Middleware(Marking, name="inner", seen=seen)],
    )


def fastapi(seen):
    app = FastAPI()
    app.add_route("/", answer)
    app.add_route("/fail", fail)
    app.add_middleware(Marking, name="inner", seen=seen)
    return app


def plain(seen):
    async def app(scope, receive, send):
        await PlainTextResponse("ok")(scope, receive, send)

    return Marking(app, "inner", seen)


@pytest.fixture
def seen():
    return []


@pytest.fixture
def wrap(seen):
    return lambda app: Marking(app, "outer", seen)


async def get(app, path="/"):
    """The body that a server would send for a request, also where the application raises in the end."""
    body = []

    async def receive():
        return {"type": "http.disconnect"}

    async def send(message):
        body.append(message.get("body", b""))

    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "headers": [],
        "query_string": b"",
        "root_path": "",
    }
    with suppress(KeyError):
        await app(scope, receive, send)
    return b"".join(body).decode()


@pytest.mark.parametrize("make", [starlette, fastapi, plain])
async def test_the_middleware_comes_outermost(make, seen, wrap):
    attachment = Attachment(make(seen), wrap)
    assert await get(attachment.app) == "ok"
    assert seen == ["outer", "inner"]


@pytest.mark.parametrize("make", [starlette, fastapi])
async def test_the_object_that_the_server_holds_is_the_one_to_serve(make, seen, wrap):
    app = make(seen)
    assert Attachment(app, wrap).app is app


async def test_any_other_application_is_served_through_the_attachment(seen, wrap):
    app = plain(seen)
    assert Attachment(app, wrap).app is not app


@pytest.mark.parametrize("make", [starlette, fastapi])
async def test_it_may_come_after_the_first_request(make, seen, wrap):
    app = make(seen)
    await get(app)
    Attachment(app, wrap)
    await get(app)
    assert seen == ["inner", "outer", "inner"]


@pytest.mark.parametrize("make", [starlette, fastapi])
async def test_the_frameworks_error_handling_lies_inside(make, seen):
    statuses = []

    def wrap(inner):
        async def outer(scope, receive, send):
            async def note(message):
                if message["type"] == "http.response.start":
                    statuses.append(message["status"])
                await send(message)

            await inner(scope, receive, note)

        return outer

    app = make(seen)
    Attachment(app, wrap)
    await get(app, "/fail")
    assert statuses == [500]


@pytest.mark.parametrize("make", [starlette, fastapi])
async def test_middleware_added_later_lies_inside_too(make, seen, wrap):
    app = make(seen)
    Attachment(app, wrap)
    app.add_middleware(Marking, name="later", seen=seen)
    await get(app)
    assert seen == ["outer", "later", "inner"]


@pytest.mark.parametrize("make", [starlette, fastapi])
@pytest.mark.parametrize("is_running", [True, False])
async def test_detaching_leaves_no_trace(make, is_running, seen, wrap):
    app = make(seen)
    if is_running:
        await get(app)
    before = dict(vars(app))
    attachment = Attachment(app, wrap)
    attachment.detach()
    assert vars(app) == before


@pytest.mark.parametrize("make", [starlette, fastapi, plain])
async def test_after_detaching_the_application_is_served_bare(make, seen, wrap):
    app = make(seen)
    attachment = Attachment(app, wrap)
    await get(attachment.app)
    attachment.detach()
    seen.clear()
    assert attachment.app is app
    assert await get(app) == "ok"
    assert seen == ["inner"]


async def test_what_a_server_still_holds_passes_requests_through(seen, wrap):
    attachment = Attachment(plain(seen), wrap)
    held = attachment.app
    attachment.detach()
    assert await get(held) == "ok"
    assert seen == ["inner"]


@pytest.mark.parametrize("make", [starlette, fastapi, plain])
async def test_detaching_twice_does_nothing_more(make, seen, wrap):
    app = make(seen)
    attachment = Attachment(app, wrap)
    attachment.detach()
    second = Attachment(app, wrap)
    attachment.detach()
    await get(second.app)
    assert seen == ["outer", "inner"]


@pytest.mark.parametrize("is_running", [True, False])
@pytest.mark.parametrize("is_first_in_first_out", [True, False])
async def test_two_attachments_come_off_in_any_order(is_running, is_first_in_first_out, seen):
    app = starlette(seen)
    if is_running:
        await get(app)
    one = Attachment(app, lambda inner: Marking(inner, "one", seen))
    two = Attachment(app, lambda inner: Marking(inner, "two", seen))
    seen.clear()
    await get(app)
    assert seen == ["two", "one", "inner"]
    (one if is_first_in_first_out else two).detach()
    seen.clear()
    await get(app)
    assert seen == (["two", "inner"] if is_first_in_first_out else ["one", "inner"])
    (two if is_first_in_first_out else one).detach()
    seen.clear()
    await get(app)
    assert seen == ["inner"]


async def test_what_somebody_has_wrapped_around_it_stays(seen, wrap):
    app = starlette(seen)
    await get(app)
    attachment = Attachment(app, wrap)
    app.middleware_stack = theirs = Marking(app.middleware_stack, "theirs", seen)
    attachment.detach()
    seen.clear()
    await get(app)
    assert app.middleware_stack is theirs
    assert seen == ["theirs", "inner"]


async def test_the_lifespan_passes(seen, wrap):
    events = []

    @asynccontextmanager
    async def lifespan(_app):
        events.append("up")
        yield
        events.append("down")

    messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

    async def receive():
        return next(messages)

    async def send(message):
        events.append(message["type"])

    app = Starlette(routes=[Route("/", answer)], lifespan=lifespan)
    Attachment(app, wrap)
    await app({"type": "lifespan", "state": {}}, receive, send)
    assert events == ["up", "lifespan.startup.complete", "down", "lifespan.shutdown.complete"]


@pytest.mark.parametrize("make", [starlette, fastapi, plain])
async def test_what_comes_first_is_called_once_and_before_the_application_is_asked(make, seen, wrap):
    attachment = Attachment(make(seen), wrap, lambda: seen.append("first"))
    assert seen == []
    for _ in range(2):
        await get(attachment.app)
    assert seen == ["first", "outer", "inner", "outer", "inner"]


async def test_what_comes_first_is_not_called_after_it_is_detached(seen, wrap):
    attachment = Attachment(plain(seen), wrap, lambda: seen.append("first"))
    app = attachment.app
    attachment.detach()
    await get(app)
    assert seen == ["inner"]


@pytest.mark.parametrize("first_is_detached_first", [True, False])
async def test_two_leave_nothing_behind_whichever_goes_first(seen, wrap, first_is_detached_first):
    app = starlette(seen)
    await get(app)
    built = app.middleware_stack
    attachments = [Attachment(app, wrap), Attachment(app, wrap)]
    for attachment in attachments if first_is_detached_first else reversed(attachments):
        attachment.detach()
    assert app.middleware_stack is built
    assert "build_middleware_stack" not in vars(app)
