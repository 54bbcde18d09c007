"""`upshift cache doctor` on real servers that have something wrong with them."""

from __future__ import annotations

import json
import secrets
from contextlib import suppress

import pytest
import sqlalchemy as sa
from click.testing import CliRunner
from redis import Redis
from redis.exceptions import ResponseError
from sqlalchemy.pool import NullPool

from tests.unit.cache.redis.conftest import wait_until
from upshift.cache import Cache
from upshift.cli.commands import upshift
from upshift.testing.servers import valkey


def command(*arguments):
    return CliRunner().invoke(
        upshift, ["cache", *arguments], env={"UPSHIFT_CACHE_URL": None, "DATABASE_URL": None}
    )


def remarks(*arguments):
    told = command("doctor", *arguments, "--format", "json")
    assert told.exit_code in {0, 1}, told.output
    found = {each["about"]: each for each in json.loads(told.output)["remarks"]}
    assert told.exit_code == any(each["level"] in {"problem", "warning"} for each in found.values())
    return found


@pytest.fixture
def name():
    return f"cli{secrets.token_hex(4)}"


def test_a_server_that_is_well_is_told_to_be(valkey_server, name):
    cache = Cache(valkey_server.url, name=name, timeout="5s")
    wait_until(cache._shared._shared.remote.circuit.is_usable)
    found = remarks("--redis", valkey_server.url, "--name", name)
    cache.close()

    assert found["version"]["level"] == "ok"
    assert found["scripts"]["level"] == "ok"
    assert found["clock"]["level"] == "ok"
    assert found["cache"]["found"].startswith("processes use it")
    assert "→" not in command("doctor", "--redis", valkey_server.url).output.splitlines()[0]


def test_a_cache_that_nobody_uses_is_left_as_it_is(valkey_server, name):
    found = remarks("--redis", valkey_server.url, "--name", name)
    assert found["cache"]["found"] == "no process uses this cache now"
    with Redis.from_url(valkey_server.url) as client:
        assert not list(client.scan_iter(match=f"*{name}*"))


@pytest.mark.parametrize(
    ("policy", "level"), [("allkeys-lru", "warning"), ("volatile-ttl", "warning"), ("volatile-lfu", "ok")]
)
def test_what_a_full_server_evicts_is_judged(policy, level):
    with valkey(settings={"maxmemory": "64mb", "maxmemory-policy": policy}) as server:
        found = remarks("--redis", server.url)["eviction"]
    assert (found["level"], policy in found["found"]) == (level, True)


def test_a_full_server_that_evicts_nothing_is_told_of():
    with valkey(settings={"maxmemory": "2mb", "maxmemory-policy": "noeviction"}) as server:
        with Redis.from_url(server.url) as client, suppress(ResponseError):
            for number in range(100_000):
                client.set(number, b"x" * 10_000)
        assert remarks("--redis", server.url)["memory"]["level"] == "warning"


def test_a_user_who_may_not_run_scripts_is_told_so():
    with valkey(listen="tcp") as server:
        with Redis.from_url(server.url) as client:
            client.acl_setuser("app", enabled=True, passwords=["+pass"], keys=["*"], commands=["+@all"])
            client.acl_setuser("app", enabled=True, commands=["-eval", "-evalsha", "-info", "-time"])
        url = server.url.replace("redis://:", "redis://app:").replace(
            server.url.split(":")[2].split("@")[0], "pass"
        )
        found = remarks("--redis", url)
    assert (found["scripts"]["level"], "NOPERM" in found["scripts"]["found"]) == ("problem", True)
    assert found["server"]["level"] == "note"
    assert found["clock"]["level"] == "problem"


def test_a_user_who_may_not_look_is_told_so_and_not_that_there_is_nothing():
    with valkey(listen="tcp") as server:
        with Redis.from_url(server.url) as client:
            client.set("{upshift:default}:e:rate|0", "anything")
            client.acl_setuser("app", enabled=True, passwords=["+pass"], keys=["*"], commands=["+@all"])
            client.acl_setuser("app", enabled=True, commands=["-strlen"])
        url = server.url.replace("redis://:", "redis://app:").replace(
            server.url.split(":")[2].split("@")[0], "pass"
        )
        told = command("keys", "--redis", url)
    assert (told.exit_code, "NOPERM" in told.output) == (2, True)


def test_a_replica_is_told_to_be_one(valkey_server):
    with valkey() as server:
        with Redis.from_url(server.url) as client:
            client.replicaof("127.0.0.1", 1)
        found = remarks("--redis", server.url)
    assert found["replication"]["level"] == "problem"


def test_intents_that_were_lost_are_told_of(valkey_server, name):
    with Redis.from_url(valkey_server.url) as client:
        client.set(f"{{upshift:{name}}}:fence", "a fence")
        assert "lost" in remarks("--redis", valkey_server.url, "--name", name)["cache"]["found"]
        client.delete(f"{{upshift:{name}}}:fence")
        client.set(f"{{upshift:{name}}}:intents", "no hash")
        assert remarks("--redis", valkey_server.url, "--name", name)["cache"]["level"] == "problem"
        client.delete(f"{{upshift:{name}}}:intents")


def test_tables_without_triggers_are_told_of(postgres_database):
    engine = sa.create_engine(postgres_database, poolclass=NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE product (id int PRIMARY KEY); CREATE TABLE stock (x int)")
    url = engine.url.render_as_string(hide_password=False)

    assert remarks("--database", url)["triggers"]["level"] == "note"
    command("install-triggers", "--url", url, "--table", "stock")
    found = remarks("--database", url)["triggers"]
    assert (found["level"], "public.product" in found["found"]) == ("warning", True)
    command("install-triggers", "--url", url)
    assert remarks("--database", url)["triggers"]["level"] == "ok"


def test_something_to_look_at_has_to_be_named():
    assert command("doctor").exit_code == 2
    assert command("doctor", "http://127.0.0.1:1").exit_code == 2
    assert command("doctor", "--database", "sqlite://").exit_code == 2
