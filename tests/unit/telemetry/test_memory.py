"""Hostile requests leave nothing behind: what is kept is as large after them as before.

`benchmarks/memory.py` asks the same of a million requests and of the process's size.
"""

import gc
import math
import random
import tracemalloc
from collections import Counter
from contextlib import suppress
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Mount, Route

from upshift import Upshift
from upshift.record import Histogram
from upshift.settings import RecordSettings, Settings

MEGABYTE = 1_000_000
RING = 32
HEADERS = (b"accept", b"accept-encoding", b"content-type", b"traceparent", b"x-request-id", b"tracestate")
LONG = [bytes([letter]) * MEGABYTE for letter in b"abcd"]
VALUES = (
    lambda draw: b"%032x" % draw.getrandbits(128),
    lambda draw: b"00-%032x-%016x-%02x" % (draw.getrandbits(128), draw.getrandbits(64), draw.getrandbits(8)),
    lambda draw: b"application/x-%d; q=%d" % (draw.getrandbits(64), draw.getrandbits(64)),
    lambda draw: draw.randbytes(60),
    lambda draw: draw.choice(LONG),
    lambda draw: b"\r\n\0" + draw.randbytes(2_000),
)
METHODS = (
    lambda _: "GET",
    lambda _: "POST",
    lambda draw: f"BREW{draw.getrandbits(64)}",
    lambda draw: f"{draw.getrandbits(64)}" + "X" * 60_000,
)
PLACES = (
    "/orders/{}",
    "/nowhere/{}",
    "/tenants/{}/cart",
    "/fails/{}",
    f"/{'long' * 2_000}/{{}}",
    "/\ud800\0/{}",
)


def hostile_requests(draw):
    while True:
        yield {
            "type": "http",
            "method": draw.choice(METHODS)(draw),
            "path": draw.choice(PLACES).format(draw.getrandbits(64)),
            "headers": [(name, draw.choice(VALUES)(draw)) for name in HEADERS],
            "query_string": b"",
            "root_path": "",
        }


async def order(request):
    return Response(b"ok", headers={"content-type": request.headers["content-type"]})


async def fails(request):
    raise type(f"Error{int(request.path_params['number']) % 12}", (Exception,), {})


async def cart(_request):
    return Response(b"empty")


@pytest.fixture
def shop():
    app = Starlette(
        routes=[
            Route("/orders/{order_id}", order, methods=["GET", "POST"]),
            Route("/fails/{number}", fails),
            Mount("/tenants/{tenant}", routes=[Route("/cart", cart)]),
        ]
    )
    # Every record is kept, so that the ring is full soon.
    upshift = Upshift(app, settings=Settings(record=RecordSettings(ring_size=RING, sample_rate=1.0)))
    yield app, upshift
    upshift.close()


async def answer(app, requests):
    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        pass

    for scope in requests:
        with suppress(Exception):  # those of the application
            await app(scope, receive, send)


def kept():
    """Bytes that Python holds, and how many objects there are of each of our types."""
    gc.collect()
    types = Counter(type(each) for each in gc.get_objects())
    ours = {kind: number for kind, number in types.items() if str(kind.__module__).startswith("upshift")}
    return tracemalloc.get_traced_memory()[0], ours


async def test_hostile_requests_leave_no_more_memory_objects_or_series_behind(shop):
    app, upshift = shop
    requests = hostile_requests(random.Random(7))
    tracemalloc.start()
    try:
        await answer(app, islice(requests, 1_500))
        upshift.observation()
        series = len(upshift.metrics.series())
        bytes_before, objects_before = kept()
        await answer(app, islice(requests, 1_500))
        upshift.observation()
        bytes_after, objects_after = kept()
    finally:
        tracemalloc.stop()

    assert len(upshift.metrics.series()) == series
    # A bucket may have got its first exemplar; of nothing else are there more.
    assert max(number - objects_before.get(kind, 0) for kind, number in objects_after.items()) < 20
    assert bytes_after - bytes_before < MEGABYTE / 2  # half of one such header
    assert bytes_before < 4 * MEGABYTE


async def test_what_is_kept_of_a_hostile_request_is_small(shop):
    app, upshift = shop
    await answer(app, islice(hostile_requests(random.Random(7)), 500))
    for record in upshift.observation().records:
        texts = [getattr(record, name) for name in dir(record) if isinstance(getattr(record, name), str)]
        assert sum(map(len, texts)) < 10_000


@settings(max_examples=30)
@given(st.lists(st.floats(1e-6, 3600), min_size=1, max_size=500), st.floats(0, 1))
def test_a_quantile_is_within_two_percent_of_the_exact_one(durations, q):
    histogram = Histogram()
    for seconds in durations:
        histogram.add(seconds)
    exact = sorted(durations)[max(1, math.ceil(q * len(durations))) - 1]
    assert histogram.quantile(q) == pytest.approx(exact, rel=0.02)
