"""What an application tells of its cache: metrics, health, and answers to callers on the same machine."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import threading

import pytest
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient
from sqlalchemy import create_engine, text
from sqlalchemy.pool import StaticPool
from starlette.testclient import TestClient

from upshift import Cache, Upshift

COMMAND = {"x-upshift-command": "1"}


@pytest.fixture
def engine():
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    yield engine
    engine.dispose()


@pytest.fixture
def app():
    return FastAPI()


@pytest.fixture
def observed(app, engine):
    made = []

    def observe(cache=None, **arguments):
        made.append(Upshift(app, engine=engine, cache=cache or Cache(), **arguments))
        return made[-1]

    yield observe
    for each in made:
        each.close()


async def ask(app, path="/upshift/cache", method="GET", client=("127.0.0.1", 50_000), **headers):
    async with AsyncClient(
        transport=ASGITransport(app, client=client), base_url="http://localhost"
    ) as asking:
        return await asking.request(method, path, headers=headers)


async def end(app, body, **headers):
    path = "/upshift/cache/invalidate"
    async with AsyncClient(
        transport=ASGITransport(app, client=("127.0.0.1", 5)), base_url="http://localhost"
    ) as asking:
        return await asking.post(path, params={"request": body}, headers=COMMAND | headers)


def values_of(page, family):
    return {
        labels: float(value)
        for labels, value in re.findall(rf"^{family}(\{{[^}}]*\}})? (\S+)$", page, re.MULTILINE)
    }


def used(upshift, namespace="menu"):
    """A function of one hit, one load, and one value that may not be kept."""

    @upshift.cache.cached(namespace=namespace, tags=["menus"])
    def menu(number):
        if number < 0:
            raise ValueError("no such menu")
        return [number]

    menu(7)
    menu(7)
    with pytest.raises(ValueError, match="no such menu"):
        menu(-1)
    return menu


async def test_what_is_counted_is_in_the_metrics(app, observed, engine):
    upshift = observed()
    used(upshift)

    @upshift.cache.cached(namespace="unread")
    def unread():
        with engine.begin() as connection:
            connection.execute(text("CREATE TABLE dish (name text)"))
            return connection.scalar(text("SELECT count(*) FROM dish"))

    unread()
    page = (await ask(app, "/metrics")).text

    menu = '{cache_name="menu"}'
    assert values_of(page, "upshift_cache_hits_total")[menu] == 1
    assert values_of(page, "upshift_cache_misses_total")[menu] == 2
    assert values_of(page, "upshift_cache_fills_total")[menu] == 1
    assert values_of(page, "upshift_cache_errors_total")[menu] == 1
    assert values_of(page, "upshift_cache_loads_total")[menu] == 2
    assert values_of(page, "upshift_cache_load_seconds_total")[menu] > 0
    assert values_of(page, "upshift_cache_entries")[menu] == 1
    assert values_of(page, "upshift_cache_size_bytes")[menu] > 0
    assert values_of(page, "upshift_cache_stale_served_total")[menu] == 0
    refused = values_of(page, "upshift_cache_refused_total")
    assert refused == {'{cache_name="unread",reason="its transaction writes"}': 1}
    assert "upshift_cache_redis" not in page


async def test_what_has_been_collected_is_not_counted_again(app, observed):
    menu = used(observed())
    await ask(app, "/metrics")
    menu(7)
    page = (await ask(app, "/metrics")).text
    assert values_of(page, "upshift_cache_hits_total") == {'{cache_name="menu"}': 2}


def test_a_forked_child_counts_what_it_does_itself(observed):
    upshift = observed()
    menu = used(upshift)
    menu(7)
    child = os.fork()
    if child == 0:
        menu(7)
        families = {each.name: each for each in upshift.metrics.families()}
        os._exit(int(families["upshift_cache_hits"].series["menu",].values[0]))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    families = {each.name: each for each in upshift.metrics.families()}
    assert families["upshift_cache_hits"].series["menu",].values[0] == 2


async def test_caches_beyond_the_bound_share_a_label_and_what_they_hold_is_added_up(app, observed):
    upshift = observed()
    for number in range(203):
        upshift.cache.set("name", number, namespace=f"space {number}")
    page = (await ask(app, "/metrics")).text
    entries = values_of(page, "upshift_cache_entries")
    assert len(entries) == 201
    assert entries['{cache_name="_OTHER"}'] == 3
    assert values_of(page, "upshift_cache_fills_total")['{cache_name="_OTHER"}'] == 3


async def test_what_write_behinds_count_and_hold_is_in_the_metrics(app, observed, tmp_path):
    upshift, refused = observed(), threading.Event()

    def flush(values):
        if "bad" in values.values():
            refused.set()
            raise ValueError("no such amount")

    assert "upshift_cache_writes" not in (await ask(app, "/metrics")).text
    stock = upshift.cache.writes.behind("stock", flush, folder=tmp_path, delay="1h")
    for number in range(3):
        await stock.aio.put(number, "good")
    assert await stock.aio.flush() == 0
    await stock.aio.put(7, "bad")
    waiting = (await ask(app, "/metrics")).text
    await stock.aio.flush(0.05)
    assert refused.wait(10)
    page = (await ask(app, "/metrics")).text

    def value(page, name):
        return values_of(page, f"upshift_cache_writes_{name}")['{write_behind_name="stock"}']

    assert value(waiting, "failures_total") == 0
    assert value(page, "failures_total") >= 1
    assert (value(page, "flushed_total"), value(page, "given_up_total")) == (3, 0)
    assert (value(page, "pending"), value(page, "pending_size_bytes") > 100) == (1, True)
    assert value(page, "oldest_seconds") > 0


async def test_values_that_are_found_are_hits_of_the_request_that_asked(app, observed):
    upshift = observed(sample_rate=1.0)

    @upshift.cache.cached(namespace="menu")
    async def menu(number):
        return number

    @upshift.cache.cached(namespace="sync")
    def sync(number):
        return number

    @upshift.cache.cached(namespace="outer")
    async def outer(number):
        return await menu(number)

    @app.get("/menu/{number}")
    async def read(number: int):
        return [await menu(number) for _ in range(5)]

    @app.get("/sync")
    def read_in_a_thread():
        return [sync(1), sync(1), sync.get(1)]

    @app.get("/nested")
    async def nested():
        return [await outer(7), await outer(7)]

    @app.get("/name")
    async def name():
        return upshift.cache.get("rate:TWD", 0)

    upshift.cache.set("rate:TWD", 32.5)
    await menu(7)
    await asyncio.gather(*[ask(app, f"/menu/{number}") for number in (7, 8, 9)])
    for path in ("/sync", "/nested", "/name"):
        await ask(app, path)
    await menu(7)

    hits = {each.path: each.cache_hits for each in upshift.observation().records}
    assert hits == {"/menu/7": 5, "/menu/8": 4, "/menu/9": 4, "/sync": 2, "/nested": 2, "/name": 1}


async def test_what_is_refreshed_behind_a_request_is_no_hit_of_it(app, observed):
    upshift, is_asked = observed(sample_rate=1.0), asyncio.Event()

    @upshift.cache.cached(namespace="inner")
    async def inner():
        return 7

    @upshift.cache.cached(ttl="1h", refresh_ahead=0.5, namespace="outer")
    async def outer():
        for _ in range(10):
            await inner()
        if upshift.cache.statistics()["outer"].hits:
            is_asked.set()
        return 7

    @app.get("/outer")
    async def read():
        found = await outer()
        await is_asked.wait()
        return found

    await outer()
    for entry in tuple(upshift.cache._memory.entries.values()):
        entry.renew_from(0.0)
    await ask(app, "/outer")

    assert [each.cache_hits for each in upshift.observation().records] == [1]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
async def test_prometheus_has_nothing_to_say_against_them(app, observed):
    upshift = observed()
    used(upshift, 'me"nu\\\n{}')
    page = (await ask(app, "/metrics")).text
    checked = await asyncio.to_thread(
        subprocess.run,
        ["promtool", "check", "metrics"],
        input=page,
        text=True,
        capture_output=True,
        check=False,
    )
    assert (checked.returncode, checked.stderr) == (0, "")
    assert "upshift_cache_hits_total" in page


async def test_without_metrics_nothing_is_declared(app, observed):
    upshift = observed(metrics=False)
    assert not [each for each in upshift.metrics.families() if "cache" in each.name]


async def test_callers_on_the_same_machine_are_told(app, observed, engine):
    upshift = observed(service="shop")
    used(upshift)
    told = (await ask(app)).json()

    assert (told["service"], told["state"]["place"], told["known"]) == ("shop", "process", 1)
    assert told["state"]["watched"] == ["sqlite://"]
    (menu,) = told["namespaces"]
    assert (menu["name"], menu["hits"], menu["loads"]["count"]) == ("menu", 1, 2)


async def test_namespaces_are_chosen_and_bad_choices_refused(app, observed):
    upshift = observed()
    for number in range(5):
        upshift.cache.set("name", "x" * number * 100, namespace=f"space {number}")
    told = (await ask(app, "/upshift/cache?top=2&sort=bytes")).json()
    assert [each["name"] for each in told["namespaces"]] == ["space 4", "space 3"]
    assert told["known"] == 5
    assert (await ask(app, "/upshift/cache?top=0")).status_code == 400
    assert (await ask(app, "/upshift/cache?sort=colour")).status_code == 400


async def test_engines_that_are_not_watched_are_named_when_asked_for(app, observed):
    observed()
    other = create_engine("postgresql+psycopg://shop:secret@localhost/other")
    assert (await ask(app)).json()["unwatched"] is None
    unwatched = (await ask(app, "/upshift/cache?engines=true")).json()["unwatched"]
    assert "postgresql+psycopg://shop:***@localhost/other" in unwatched
    other.dispose()


async def test_an_engine_with_other_options_is_the_watched_one(app, tmp_path):
    engine = create_engine(f"sqlite:///{tmp_path / 'watched.db'}")
    upshift = Upshift(app, engine=engine, cache=Cache())
    other = engine.execution_options(isolation_level="SERIALIZABLE")
    unwatched = (await ask(app, "/upshift/cache?engines=true")).json()["unwatched"]
    upshift.close()
    assert str(other.url) not in unwatched


async def test_values_are_ended_by_tag_and_by_namespace(app, observed):
    upshift = observed()
    menu = used(upshift)
    upshift.cache.set("rate", 32.5, namespace="rates")

    assert (await end(app, json.dumps({"tags": ["menus"]}))).status_code == 200
    assert not menu.get(7)
    assert upshift.cache.get("rate", namespace="rates") == 32.5
    assert (await end(app, json.dumps({"namespaces": ["rates"]}))).json()["dropped"] == 1
    assert upshift.cache.get("rate", namespace="rates") is None


@pytest.mark.parametrize(
    "body", ["", "{", "[]", '{"tags":[7]}', '{"tags":[""]}', '{"keys":["menu"]}', "1" * 3_000]
)
async def test_a_request_that_cannot_be_read_ends_nothing(app, observed, body):
    menu = used(observed())
    assert (await end(app, body)).status_code == 400
    assert menu.get(7) == [7]


@pytest.mark.parametrize(
    "headers", [{"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}, {"cookie": "a=b"}]
)
async def test_a_browser_ends_nothing(app, observed, headers):
    menu = used(observed())
    assert (await end(app, '{"tags":["menus"]}', **headers)).status_code == 403
    assert menu.get(7) == [7]


async def test_others_end_nothing_and_are_told_nothing(app, observed):
    observed()
    path = '/upshift/cache/invalidate?request={"tags":["menus"]}'
    assert (await ask(app, client=("10.0.0.7", 1))).status_code == 403
    assert (await ask(app, path, "POST", client=("10.0.0.7", 1), **COMMAND)).status_code == 403
    assert (await ask(app, path, "POST")).status_code == 403  # a form of a page has no such header


async def test_nothing_is_ended_by_reading(app, observed):
    observed()
    assert (await ask(app, "/upshift/cache/invalidate", **COMMAND)).status_code == 404


async def test_an_empty_path_is_nowhere(app, observed):
    observed(cache_path="")
    assert (await ask(app)).status_code == 404
    assert (await end(app, "{}")).status_code == 404


async def test_without_a_redis_nothing_is_checked(app, observed):
    observed()
    assert "upshift-cache" not in (await ask(app, "/health")).text


def test_a_redis_that_is_away_degrades_and_the_application_is_ready(app, observed):
    observed(Cache("redis://127.0.0.1:1", name="away"))
    with TestClient(app) as client:
        told = client.get("/health").json()
        checked = next(each[0] for name, each in told["checks"].items() if name.startswith("upshift-cache"))
        assert (told["status"], checked["status"]) == ("warn", "warn")
        assert "the circuit is open, functions run uncached" in checked["output"]
        assert client.get("/readyz").status_code == 200
        assert values_of(client.get("/metrics").text, "upshift_cache_redis_away") == {"": 1}
