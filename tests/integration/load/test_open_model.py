import asyncio
import time

import pytest

from upshift.load import OpenPlan, Request, run, run_async


def balanced(report):
    """Whether every request that came due has exactly one outcome."""
    lost = sum(count for kind, count in report.errors.items() if not kind.startswith("http "))
    return report.requests == report.completed + report.unfinished + lost


def test_every_request_of_the_schedule_is_sent_and_answered(serve):
    server = serve()
    report = run(server.url, OpenPlan(rate=200, seconds=0.5))
    assert report.requests == report.sent == report.completed == report.ok == 100
    assert report.errors == {}
    assert report.statuses == {200: 100}
    assert report.received_bytes == 100 * len(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    assert report.seconds >= 0.5
    assert report.achieved_rate <= report.asked_rate == 200
    assert len(server.requests) == 100


def test_the_warm_up_is_sent_but_not_counted(serve):
    server = serve()
    report = run(server.url, OpenPlan(rate=100, seconds=0.25, warmup_seconds=0.25))
    assert report.requests == 25
    assert len(server.requests) == 50


def test_what_waits_for_a_stalled_server_is_counted_from_when_it_was_due(serve):
    """One connection; its first answer comes after all 50 requests are due. The last waited least, but the
    first waited for the whole schedule, and each in between for its part of it."""
    due = 0.5

    async def stall_once(server, peer):
        await peer.request()
        await asyncio.sleep(due)
        while True:
            await peer.answer()
            await peer.request()

    report = run(serve(stall_once).url, OpenPlan(rate=100, seconds=0.5, connections=1))
    assert report.ok == 50
    assert report.latency.max >= due
    assert report.latency.p50 >= due / 2
    assert report.latency.p90 >= due * 0.9 - 0.01


def test_requests_over_the_connection_limit_wait_in_turn(serve):
    async def slow(server, peer):
        while True:
            await peer.request()
            await asyncio.sleep(0.02)
            await peer.answer()

    server = serve(slow)
    report = run(server.url, OpenPlan(rate=200, seconds=0.2, connections=2))
    assert report.ok == 40
    assert server.connections <= 2
    assert report.latency.max >= 40 / 2 * 0.02 - 0.2


def test_what_exceeds_the_backlog_is_counted_as_such(serve):
    async def hang(server, peer):
        await peer.request()
        await peer.gone()

    plan = OpenPlan(rate=100, seconds=0.5, connections=1, backlog=10, timeout=2)
    report = run(serve(hang).url, plan)
    assert report.requests == 50
    assert report.errors == {"backlog": 39, "timeout": 11}


def test_a_hung_server_gives_time_outs_counted_from_when_each_was_due(serve):
    async def hang(server, peer):
        await peer.request()
        await peer.gone()

    started = time.monotonic()
    report = run(serve(hang).url, OpenPlan(rate=100, seconds=0.3, timeout=0.2))
    assert report.errors == {"timeout": 30}
    assert report.completed == 0
    assert report.latency.p50 >= 0.2
    assert time.monotonic() - started < 30


def test_a_server_that_never_accepts_gives_time_outs(serve):
    """After the generator's first look, the server stops accepting and its queue fills."""

    async def accept_no_more(server, peer):
        server._server.close()
        await peer.gone()

    report = run(serve(accept_no_more).url, OpenPlan(rate=50, seconds=0.2, timeout=0.3))
    assert report.requests == 10
    assert report.completed == 0
    assert set(report.errors) <= {"connect", "reset", "timeout"}


def test_a_server_that_dies_leaves_a_report_of_errors(serve):
    async def die_at_last(server, peer):
        while True:
            await peer.request()
            if len(server.requests) == 20:
                server.die()
            await peer.answer()

    report = run(serve(die_at_last).url, OpenPlan(rate=200, seconds=0.5))
    assert report.requests == 100
    assert 0 < report.completed < 100
    assert report.errors["connect"] > 0
    assert balanced(report)


def test_a_server_that_closes_each_connection_is_asked_over_new_ones(serve):
    server = serve(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    report = run(server.url, OpenPlan(rate=100, seconds=0.3))
    assert report.ok == 30
    assert server.connections == 30


def test_idle_connections_that_the_server_closes_are_replaced(serve):
    async def answer_one(server, peer):
        await peer.request()
        await peer.answer()

    report = run(serve(answer_one).url, OpenPlan(rate=10, seconds=0.5))
    assert report.requests == 5
    assert balanced(report)
    assert report.ok >= 1


def test_equal_seeds_give_equal_poisson_runs(serve):
    plan = OpenPlan(rate=200, seconds=0.2, arrivals="poisson", seed=3)
    counts = {run(serve().url, plan).requests for _ in range(2)}
    assert len(counts) == 1
    assert counts != {40}


def test_requests_are_sent_in_turn_and_counted_by_name(serve):
    server = serve()
    requests = [
        Request("GET", "/a"),
        Request("GET", "/b", name="second"),
        Request("GET", "/c", name="second"),
    ]
    report = run(f"{server.url}/v1", OpenPlan(rate=100, seconds=0.3), requests)
    assert {name: counts.completed for name, counts in report.by_request.items()} == {
        "GET /a": 10,
        "second": 20,
    }
    paths = [request.split()[1] for request in server.requests]
    assert sorted(paths) == sorted([b"/v1/a", b"/v1/b", b"/v1/c"] * 10)


def test_weights_are_kept_and_the_seed_decides_the_draw(serve):
    requests = [Request("GET", "/rare", weight=1), Request("GET", "/often", weight=9)]
    plan = OpenPlan(rate=500, seconds=0.4, seed=7)
    first, second = (run(serve().url, plan, requests).by_request for _ in range(2))
    assert first["GET /rare"].requests == second["GET /rare"].requests
    assert 1 <= first["GET /rare"].requests <= 60
    assert first["GET /rare"].requests + first["GET /often"].requests == 200


async def test_a_generator_that_is_late_itself_says_so(serve):
    async def hog():
        while True:
            time.sleep(0.02)  # noqa: ASYNC251 - a host that blocks its loop
            await asyncio.sleep(0)

    hogging = asyncio.create_task(hog())
    report = await run_async(serve().url, OpenPlan(rate=500, seconds=0.3))
    hogging.cancel()
    assert report.lagging
    assert report.lag_p99 > 0.001
    assert report.requests == report.ok == 150


def test_http_errors_are_answers_and_counted_by_status(serve):
    answers = [
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n",
    ]

    async def alternate(server, peer):
        while True:
            await peer.request()
            await peer.answer(answers[len(server.requests) % 2])

    report = run(serve(alternate).url, OpenPlan(rate=100, seconds=0.2))
    assert report.completed == 20
    assert report.ok == 0
    assert report.errors == {"http 404": 10, "http 503": 10}


@pytest.mark.parametrize("rate", [0.5, 3])
def test_slow_rates_send_their_first_request_at_once(serve, rate):
    report = run(serve().url, OpenPlan(rate=rate, seconds=0.3))
    assert report.requests == 1
