"""Whose answer a path is: real applications of every layout, asked with Upshift's answers beside."""

import asyncio
import logging

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import BaseRoute, Host, Mount, Route, Router, WebSocketRoute
from starlette.staticfiles import StaticFiles

from upshift.telemetry.claims import Claim, after_application, claim
from upshift.telemetry.endpoints import Endpoints

PATHS = ("/metrics", "/health", "/readyz")


def page(request):
    return PlainTextResponse("the application's")


def no_page(request):
    return PlainTextResponse("no such page", 404)


async def socket(websocket):
    await websocket.close()


def included(*paths, prefix="", times=1):
    app = FastAPI()
    router = APIRouter()
    for path in paths:
        router.get(path)(lambda: "the application's")
    for _ in range(times - 1):
        outer = APIRouter()
        outer.include_router(router)
        router = outer
    app.include_router(router, prefix=prefix)
    return app


def direct(*paths):
    app = FastAPI()
    for path in paths:
        app.get(path)(lambda: "the application's")
    return app


def plain(answers):
    """A plain ASGI application with a status a path, and 404 for all others."""

    async def app(scope, receive, send):
        response = PlainTextResponse("the application's", answers.get(scope["path"], 404))
        await response(scope, receive, send)

    return app


async def upshift_s_own(scope, receive, send):
    await PlainTextResponse("Upshift's")(scope, receive, send)


class Served:
    """An application with Upshift's paths before it, and what would have been recorded."""

    def __init__(self, app, paths=PATHS):
        self.recorded = []
        self._app = app
        answers = dict.fromkeys(paths, upshift_s_own)
        self.app = Endpoints(
            self._record, after_application(app, answers, recorded=self._record, unrecorded=app)
        )

    async def _record(self, scope, receive, send):
        self.recorded.append(scope["path"])
        await self._app(scope, receive, send)

    async def get(self, path, method="GET", **headers):
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as http:
            return await http.request(method, path, headers=headers)

    async def whose(self, *paths):
        return ["Upshift's" if (await self.get(path)).text == "Upshift's" else "app's" for path in paths]


@pytest.mark.parametrize(
    ("app", "expected"),
    [
        (Starlette(), ("NONE", "NONE", "NONE")),
        (FastAPI(), ("NONE", "NONE", "NONE")),
        (direct("/metrics"), ("OWN", "NONE", "NONE")),
        (included("/metrics", "/health"), ("OWN", "OWN", "NONE")),
        (included("/metrics", times=3), ("OWN", "NONE", "NONE")),
        (included("/metrics", prefix="/api"), ("NONE", "NONE", "NONE")),
        (included("/{slug}"), ("PATTERN", "PATTERN", "PATTERN")),
        (Starlette(routes=[Route("/{slug}", page)]), ("PATTERN", "PATTERN", "PATTERN")),
        (Starlette(routes=[Route("/{path:path}", page)]), ("PATTERN", "PATTERN", "PATTERN")),
        (Starlette(routes=[Route("/{number:int}", page)]), ("NONE", "NONE", "NONE")),
        (
            Starlette(routes=[Route("/health", page), Route("/{slug}", page)]),
            ("PATTERN", "OWN", "PATTERN"),
        ),
        (Starlette(routes=[Mount("/", routes=[Route("/health", page)])]), ("NONE", "OWN", "NONE")),
        (Starlette(routes=[Mount("/", app=included("/health"))]), ("NONE", "OWN", "NONE")),
        (
            Starlette(routes=[Mount("/", app=Router([Mount("/", app=direct("/metrics"))]))]),
            ("OWN", "NONE", "NONE"),
        ),
        (Starlette(routes=[Mount("/api", routes=[Route("/health", page)])]), ("NONE", "NONE", "NONE")),
        (Starlette(routes=[Mount("/", app=plain({}))]), ("UNKNOWN", "UNKNOWN", "UNKNOWN")),
        (Starlette(routes=[Mount("/metrics", app=plain({}))]), ("OWN", "NONE", "NONE")),
        (Starlette(routes=[Route("/metrics/", page)]), ("OWN", "NONE", "NONE")),
        (
            Starlette(routes=[Mount("/{tenant}", routes=[Route("/", page)])]),
            ("PATTERN", "PATTERN", "PATTERN"),
        ),
        (Starlette(routes=[Host("api.shop", app=direct("/health"))]), ("NONE", "UNKNOWN", "NONE")),
        (Starlette(routes=[Route("/health", page, methods=["POST"])]), ("NONE", "NONE", "NONE")),
        (Starlette(routes=[WebSocketRoute("/health", socket)]), ("NONE", "NONE", "NONE")),
        (plain({}), ("UNKNOWN", "UNKNOWN", "UNKNOWN")),
        (CORSMiddleware(FastAPI()), ("UNKNOWN", "UNKNOWN", "UNKNOWN")),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else type(value).__name__,
)
def test_the_routes_tell_whose_a_path_is(app, expected):
    assert tuple(claim(app, path).name for path in PATHS) == expected


def test_of_static_files_the_files_decide(tmp_path):
    (tmp_path / "metrics").write_text("a file")
    (tmp_path / "health").mkdir()

    def claims(files):
        return [claim(Starlette(routes=[Mount("/", files)]), path) for path in PATHS]

    assert claims(StaticFiles(directory=tmp_path)) == [Claim.OWN, Claim.NONE, Claim.NONE]
    assert claims(StaticFiles(directory=tmp_path, html=True)) == [Claim.OWN, Claim.OWN, Claim.NONE]
    below = Starlette(routes=[Mount("/files", StaticFiles(directory=tmp_path))])
    assert claim(below, "/files/metrics") is Claim.OWN
    assert claim(below, "/metrics") is Claim.NONE


def test_a_front_end_with_a_fallback_leaves_upshift_its_paths(tmp_path):
    (tmp_path / "index.html").write_text("the front end")
    app = FastAPI()
    app.frontend("/", directory=tmp_path, fallback="index.html")
    assert {claim(app, path) for path in PATHS} == {Claim.NONE}


def test_routes_that_cannot_be_asked_are_told_once_and_the_application_is_asked(caplog):
    class Broken(BaseRoute):
        def matches(self, scope):
            raise RuntimeError("broken")

    assert claim(Starlette(routes=[Broken()]), "/metrics") is Claim.UNKNOWN
    assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_what_the_application_names_is_its_own_and_recorded():
    served = Served(included("/metrics", "/health"))
    assert await served.whose(*PATHS) == ["app's", "app's", "Upshift's"]
    assert served.recorded == ["/metrics", "/health"]


async def test_its_own_404_is_passed_on_where_it_names_the_path():
    served = Served(Starlette(routes=[Route("/health", no_page)]))
    answer = await served.get("/health")
    assert (answer.status_code, answer.text) == (404, "no such page")


async def test_a_route_that_is_added_while_the_application_starts_counts():
    app = Starlette()
    served = Served(app)
    app.add_route("/metrics", page)
    assert await served.whose("/metrics") == ["app's"]


async def test_what_has_no_routes_is_asked_and_upshift_answers_for_its_404():
    served = Served(plain({"/health": 200}))
    for _ in range(3):
        assert await served.whose(*PATHS) == ["Upshift's", "app's", "Upshift's"]
    answer = await served.get("/metrics", "HEAD")
    assert (answer.status_code, answer.content) == (200, b"")


async def test_asking_is_not_recorded_and_what_the_application_answers_is_from_then_on():
    served = Served(plain({"/health": 200}))
    for _ in range(3):
        await served.whose("/metrics", "/health")
    assert served.recorded == ["/health", "/health"]


@pytest.mark.parametrize("status", [301, 401, 405, 429, 500, 503])
async def test_any_other_answer_is_the_application_s_and_decides_nothing(status):
    answers = {"/readyz": status}
    served = Served(plain(answers))
    assert (await served.get("/readyz")).status_code == status
    answers["/readyz"] = 404
    assert await served.whose("/readyz") == ["Upshift's"]
    assert served.recorded == []


async def test_a_page_that_comes_later_is_found():
    answers = {}
    served = Served(plain(answers))
    assert await served.whose("/health") == ["Upshift's"]
    answers["/health"] = 200
    assert await served.whose("/health") == ["app's"]


async def test_a_route_for_any_page_is_asked_but_not_for_probes():
    asked = []

    def any_page(request):
        asked.append(request.url.path)
        return page(request) if request.path_params["slug"] == "health" else no_page(request)

    served = Served(Starlette(routes=[Route("/{slug}", any_page)]))
    assert await served.whose(*PATHS) == ["Upshift's", "app's", "Upshift's"]
    assert asked == ["/metrics", "/health"]


async def test_an_application_s_exception_passes():
    async def fails(scope, receive, send):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await Served(fails).get("/metrics")


async def test_an_exception_after_a_404_is_not_covered_up():
    async def fails(scope, receive, send):
        await send({"type": "http.response.start", "status": 404, "headers": []})
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await Served(fails).get("/metrics")


async def test_for_an_application_that_says_nothing_upshift_answers():
    async def silent(scope, receive, send):
        pass

    assert await Served(silent).whose("/metrics") == ["Upshift's"]


async def test_nothing_of_a_streamed_404_is_sent():
    async def app(scope, receive, send):
        await StreamingResponse(iter(["no ", "such ", "page"]), 404, {"x-page": "none"})(scope, receive, send)

    answer = await Served(app).get("/metrics")
    assert (answer.status_code, answer.text) == (200, "Upshift's")
    assert "x-page" not in answer.headers


async def test_a_streamed_answer_is_sent_piece_by_piece():
    go_on, begun, sent = asyncio.Event(), asyncio.Event(), []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"1", "more_body": True})
        await go_on.wait()
        await send({"type": "http.response.body", "body": b"2"})

    async def send(message):
        sent.append(message.get("body"))
        if sent[-1]:
            begun.set()

    scope = {"type": "http", "method": "GET", "path": "/metrics", "headers": []}
    answering = asyncio.create_task(Served(app).app(scope, None, send))
    await begun.wait()
    assert sent == [None, b"1"]
    go_on.set()
    await answering
    assert sent == [None, b"1", b"2"]


async def test_what_the_application_takes_is_said_once(caplog):
    caplog.set_level(logging.INFO, "upshift.telemetry")
    served = Served(plain({"/health": 200}))
    await asyncio.gather(*(served.whose(*PATHS) for _ in range(5)))
    named = Served(direct("/metrics"))
    await asyncio.gather(*(named.whose(*PATHS) for _ in range(5)))
    assert [record.getMessage() for record in caplog.records] == [
        "the application answers /health itself, so Upshift does not",
        "the application answers /metrics itself, so Upshift does not",
    ]
