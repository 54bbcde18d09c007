import asyncio
import time

import pytest

from upshift.load import ClosedPlan, Request, run


def test_exactly_count_requests_are_sent(serve):
    server = serve()
    report = run(server.url, ClosedPlan(connections=7, count=1_000))
    assert report.requests == report.sent == report.ok == len(server.requests) == 1_000
    assert report.asked_rate is None
    assert report.lag_p99 is None
    assert not report.lagging
    assert report.cpu_seconds > 0


def test_each_connection_waits_for_its_answer(serve):
    async def strict(server, peer):
        while True:
            await peer.request()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(peer._reader.readexactly(1), 0.01)
            await peer.answer()

    server = serve(strict)
    report = run(server.url, ClosedPlan(connections=3, count=30))
    assert report.ok == 30
    assert server.connections == 3


def test_there_are_as_many_connections_as_asked_for(serve):
    everyone = asyncio.Barrier(5)

    async def wait_for_all(server, peer):
        await peer.request()
        await everyone.wait()
        while True:
            await peer.answer()
            await peer.request()

    server = serve(wait_for_all)
    report = run(server.url, ClosedPlan(connections=5, count=50))
    assert report.ok == 50
    assert server.connections == 5


def test_time_ends_the_run_and_what_is_under_way_is_still_counted(serve):
    async def slow(server, peer):
        while True:
            await peer.request()
            await asyncio.sleep(0.2)
            await peer.answer()

    report = run(serve(slow).url, ClosedPlan(connections=2, seconds=0.3))
    assert report.requests == report.ok
    assert report.requests % 2 == 0
    assert report.unfinished == 0
    assert report.seconds >= 0.3


def test_the_warm_up_is_sent_but_not_counted(serve):
    server = serve()
    report = run(server.url, ClosedPlan(connections=2, count=100, warmup_seconds=0.1))
    assert report.ok == 100
    assert len(server.requests) > 100


def test_a_hung_server_gives_time_outs_and_an_end(serve):
    async def hang(server, peer):
        await peer.request()
        await peer.gone()

    started = time.monotonic()
    report = run(serve(hang).url, ClosedPlan(connections=4, count=8, timeout=0.2))
    assert report.errors == {"timeout": 8}
    assert report.latency.p50 >= 0.2
    assert time.monotonic() - started < 30


def test_a_server_that_dies_leaves_a_report_of_errors(serve):
    async def die_at_last(server, peer):
        while True:
            await peer.request()
            if len(server.requests) == 20:
                server.die()
            await peer.answer()

    report = run(serve(die_at_last).url, ClosedPlan(connections=4, count=40))
    assert report.requests == 40
    assert report.completed >= 15
    assert report.errors["connect"] > 0


def test_requests_with_bodies_arrive_whole(serve):
    server = serve()
    body = bytes(range(256)) * 1_000
    report = run(server.url, ClosedPlan(connections=2, count=6), [Request("POST", "/upload", body=body)])
    assert report.ok == 6
    assert all(request.endswith(b"\r\n\r\n" + body) for request in server.requests)


def test_a_large_answer_arrives_whole(serve):
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5000000\r\n\r\n" + b"x" * 5_000_000
    report = run(serve(answer).url, ClosedPlan(connections=2, count=6))
    assert report.ok == 6
    assert report.received_bytes == 6 * len(answer)


@pytest.mark.parametrize(
    ("answer", "errors"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokgarbage", {"protocol": 20}),
        (b"not HTTP at all\r\n", {"protocol": 20}),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 50_000, {"protocol": 20}),
        (b"HTTP/1.1 500 Oops\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", {"http 500": 20}),
    ],
)
def test_a_broken_answer_is_counted_and_the_run_goes_on(serve, answer, errors):
    report = run(serve(answer).url, ClosedPlan(connections=2, count=20))
    assert report.errors == errors
    assert report.requests == 20


def test_an_answer_that_breaks_off_is_counted_and_the_run_goes_on(serve):
    async def break_off_every_second(server, peer):
        while True:
            await peer.request()
            if len(server.requests) % 2:
                await peer.answer()
            else:
                await peer.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\npart")
                peer.close()
                return

    report = run(serve(break_off_every_second).url, ClosedPlan(connections=1, count=20))
    assert report.ok == 10
    assert report.errors == {"reset": 10}


def test_a_server_that_accepts_and_hangs_up_at_once_ends_the_run_all_the_same(serve):
    async def hang_up(server, peer):
        peer.close()

    report = run(serve(hang_up).url, ClosedPlan(connections=2, count=20))
    assert report.errors == {"reset": 20}


def test_answers_of_every_framing_follow_each_other_on_one_connection(serve):
    answers = [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n",
    ]

    async def each_in_turn(server, peer):
        while True:
            await peer.request()
            await peer.answer(answers[len(server.requests) % len(answers)])

    server = serve(each_in_turn)
    report = run(server.url, ClosedPlan(connections=1, count=40))
    assert report.statuses == {200: 20, 204: 10, 304: 10}
    assert server.connections == 1


def test_an_answer_that_ends_with_its_connection_is_an_answer(serve):
    async def http_1_0(server, peer):
        await peer.request()
        await peer.answer(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil the end")
        peer.close()

    report = run(serve(http_1_0).url, ClosedPlan(connections=2, count=10))
    assert report.ok == 10


def test_head_is_answered_by_its_head(serve):
    server = serve(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    report = run(server.url, ClosedPlan(connections=1, count=10, timeout=5), [Request(method="HEAD")])
    assert report.ok == 10
    assert server.connections == 1
