"""Upshift's own paths before an application, asked over ASGI."""

import asyncio
import threading

import httpx
import pytest
import trio
from fastapi import APIRouter, FastAPI
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from upshift import Settings, Upshift
from upshift.settings import TelemetrySettings
from upshift.telemetry.endpoints import MetricsEndpoint
from upshift.telemetry.metrics.exposition import own_values
from upshift.telemetry.metrics.registry import Metrics


async def order(request):
    return PlainTextResponse(f"order {request.path_params['order_id']}")


async def own_metrics(request):
    return PlainTextResponse("the application's own")


def shop(*routes):
    return Starlette(routes=[Route("/orders/{order_id}", order), *routes])


def client(app):
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop")


@pytest.fixture
def observed():
    app = shop()
    upshift = Upshift(app)
    yield app, upshift
    upshift.close()


async def test_a_scrape_tells_of_every_request_before_it(observed):
    app, _ = observed
    async with client(app) as http:
        for number in range(100):
            await http.get(f"/orders/{number}")
        answer = await http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    line = (
        'http_server_request_duration_seconds_count{http_request_method="GET",'
        'http_response_status_code="200",http_route="/orders/{order_id}"} 100.0'
    )
    assert line in answer.text.splitlines()


async def test_a_scrape_is_no_request_of_the_application(observed):
    app, _ = observed
    async with client(app) as http:
        await http.get("/metrics")
        answer = await http.get("/metrics")
    assert "http_server_request_duration_seconds_count{" not in answer.text
    assert "http_server_active_requests{" not in answer.text


async def test_open_requests_are_seen_while_they_are_open():
    release = asyncio.Event()

    async def wait(request):
        await release.wait()
        return PlainTextResponse("ok")

    app = shop(Route("/wait", wait))
    upshift = Upshift(app)
    async with client(app) as http:
        waiting = [asyncio.create_task(http.get("/wait")) for _ in range(3)]
        await asyncio.sleep(0.05)
        during = (await http.get("/metrics")).text
        release.set()
        await asyncio.gather(*waiting)
        after = (await http.get("/metrics")).text
    upshift.close()
    series = 'http_server_active_requests{http_request_method="GET",http_route="/wait"}'
    assert f"{series} 3.0" in during
    assert f"{series} 0.0" in after


async def test_metrics_of_the_application_s_own_stand_beside(observed):
    app, upshift = observed
    upshift.metrics.counter("orders_placed", "Orders placed", labels={"channel": ("web",)}).add(channel="web")
    async with client(app) as http:
        answer = await http.get("/metrics")
    assert 'orders_placed_total{channel="web"} 1.0' in answer.text


async def test_openmetrics_is_answered_to_who_asks(observed):
    app, _ = observed
    async with client(app) as http:
        answer = await http.get("/metrics", headers={"accept": "application/openmetrics-text"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


async def test_head_has_the_length_and_no_body(observed):
    app, _ = observed
    async with client(app) as http:
        answer = await http.head("/metrics")
    assert int(answer.headers["content-length"]) > 0
    assert answer.content == b""


async def test_other_methods_are_the_application_s(observed):
    app, _ = observed
    async with client(app) as http:
        assert (await http.post("/metrics")).status_code == 404


async def test_a_route_of_the_application_s_own_goes_before():
    app = shop(Route("/metrics", own_metrics))
    upshift = Upshift(app)
    async with client(app) as http:
        assert (await http.get("/metrics")).text == "the application's own"
    upshift.close()


@pytest.mark.parametrize(
    "telemetry",
    [TelemetrySettings(metrics_path=""), TelemetrySettings(metrics=False)],
    ids=["path", "metrics"],
)
async def test_without_metrics_the_path_is_the_application_s(telemetry):
    app = shop()
    upshift = Upshift(app, settings=Settings(telemetry=telemetry))
    async with client(app) as http:
        assert (await http.get("/metrics")).status_code == 404
    upshift.close()


async def test_each_answer_carries_the_request_s_id(observed):
    app, _ = observed
    trace = "0af7651916cd43dd8448eb211c80319c"
    async with client(app) as http:
        minted = [(await http.get("/orders/1")).headers["x-request-id"] for _ in range(2)]
        assert len(set(minted)) == 2
        given = await http.get("/nowhere", headers={"x-request-id": "checkout-7"})
        assert given.headers["x-request-id"] == "checkout-7"
        traced = await http.get("/orders/1", headers={"traceparent": f"00-{trace}-b7ad6b7169203331-01"})
        assert traced.headers["x-request-id"] == trace


async def test_an_answer_to_an_exception_carries_it_as_well():
    async def fail(request):
        raise RuntimeError

    app = shop(Route("/fail", fail))
    upshift = Upshift(app)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop") as http:
        answer = await http.get("/fail", headers={"x-request-id": "checkout-7"})
    upshift.close()
    assert (answer.status_code, answer.headers["x-request-id"]) == (500, "checkout-7")


def test_a_scrape_is_answered_under_trio(observed):
    app, _ = observed

    async def scrape():
        async with client(app) as http:
            await http.get("/orders/1")
            return await http.get("/metrics")

    assert 'http_route="/orders/{order_id}"} 1.0' in trio.run(scrape).text


class SlowTotals:
    """Writes when it is told to, and counts."""

    def __init__(self):
        self.written = 0
        self.writes = threading.Event()
        self.may_write = threading.Event()

    def __call__(self, series):
        self.written += 1
        self.writes.set()
        assert self.may_write.wait(10)
        return own_values(series)


async def test_scrapes_that_come_while_one_is_written_share_the_next():
    metrics, totals = Metrics(), SlowTotals()
    orders = metrics.counter("orders", "Orders")
    async with client(MetricsEndpoint(metrics, totals)) as http:
        first = asyncio.create_task(http.get("/metrics"))
        assert await asyncio.to_thread(totals.writes.wait, 10)
        orders.add(1)  # which the first may have missed, and those who come now must not
        others = [asyncio.create_task(http.get("/metrics")) for _ in range(30)]
        await asyncio.sleep(0.05)
        totals.may_write.set()
        answers = await asyncio.gather(*others)
        await first
        assert totals.written == 2
        assert all("orders_total 1.0" in answer.text for answer in answers)
        orders.add(1)
        assert "orders_total 2.0" in (await http.get("/metrics")).text


async def test_scrapes_of_both_formats_at_once_each_get_theirs(observed):
    app, _ = observed
    accepts = ["text/plain", "application/openmetrics-text; version=1.0.0"] * 10
    async with client(app) as http:
        answers = await asyncio.gather(*(http.get("/metrics", headers={"accept": each}) for each in accepts))
    kinds = [answer.headers["content-type"].partition(";")[0] for answer in answers]
    assert kinds == ["text/plain", "application/openmetrics-text"] * 10
    assert all(answer.text.endswith("# EOF\n") for answer in answers[1::2])


async def test_a_scrape_that_fails_does_not_fail_the_next():
    metrics, faults = Metrics(), [OSError("gone")]

    def totals(series):
        if faults:
            raise faults.pop()
        return own_values(series)

    async with client(MetricsEndpoint(metrics, totals)) as http:
        with pytest.raises(OSError, match="gone"):
            await http.get("/metrics")
        assert (await http.get("/metrics")).status_code == 200


async def test_scrapes_that_are_given_up_do_not_hold_up_others(observed):
    app, _ = observed
    async with client(app) as http:
        for _ in range(5):
            given_up = asyncio.create_task(http.get("/metrics"))
            await asyncio.sleep(0)
            given_up.cancel()
            await asyncio.gather(given_up, return_exceptions=True)
        assert (await http.get("/metrics")).status_code == 200


def test_scrapes_of_one_event_loop_after_the_other_are_answered(observed):
    app, _ = observed

    async def scrape():
        async with client(app) as http:
            answers = await asyncio.gather(*(http.get("/metrics") for _ in range(5)))
        return {answer.status_code for answer in answers}

    assert [asyncio.run(scrape()) for _ in range(3)] == [{200}] * 3


def included(*paths):
    app, router = FastAPI(), APIRouter()
    for path in paths:
        router.add_api_route(path, lambda: PlainTextResponse("the application's own"))
    app.include_router(router)
    return app


async def plain(scope, receive, send):
    is_known = scope["path"] in {"/health", "/metrics"}
    await PlainTextResponse("the application's own", 200 if is_known else 404)(scope, receive, send)


@pytest.mark.parametrize(
    "app",
    [
        included("/health", "/metrics"),
        Starlette(
            routes=[Mount("/", routes=[Route("/health", own_metrics), Route("/metrics", own_metrics)])]
        ),
        Starlette(routes=[Mount("/", app=included("/health", "/metrics"))]),
        Starlette(routes=[Route("/{slug}", own_metrics)]),
        plain,
    ],
    ids=["included", "mount", "sub-application", "any page", "plain"],
)
async def test_in_every_layout_the_application_s_own_answers_go_before(app):
    upshift = Upshift(app)
    async with client(upshift) as http:
        for path in ("/health", "/metrics") * 2:
            assert (await http.get(path)).text == "the application's own"
        assert (await http.get("/readyz")).text == "ok"
    upshift.close()


async def test_where_an_application_without_routes_has_no_answer_upshift_s_is_no_request_of_its():
    upshift = Upshift(PlainTextResponse("nothing here", 404))
    async with client(upshift) as http:
        await http.get("/metrics")
        page = (await http.get("/metrics")).text
    upshift.close()
    assert "http_server_request_duration_seconds_count{" not in page
