"""`upshift cache keys`, `get`, `delete` and `invalidate` on a real server, whatever lies there."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass

import pytest
from click.testing import CliRunner
from redis import Redis

from tests.unit.cache.redis.conftest import open_at_once
from upshift.cache import Cache
from upshift.cli.commands import upshift
from upshift.testing.servers import valkey


@dataclass
class Dish:
    name: str
    price: float


def command(*arguments):
    return CliRunner().invoke(upshift, ["cache", *arguments], env={"UPSHIFT_CACHE_URL": None})


@pytest.fixture
def name():
    return f"cli{secrets.token_hex(4)}"


@pytest.fixture
def client(valkey_server):
    with Redis.from_url(valkey_server.url) as client:
        yield client


@pytest.fixture
def cache(valkey_server, client, name):
    cache = Cache(valkey_server.url, name=name, timeout="5s")
    open_at_once(cache, client)
    yield cache
    cache.close()


@pytest.fixture
def there(valkey_server, name):
    return "--redis", valkey_server.url, "--name", name


def keys_of(there, *arguments):
    listed = command("keys", *arguments, *there, "--format", "json")
    assert listed.exit_code == 0, listed.output
    return json.loads(listed.output)


def test_keys_are_listed_with_what_they_depend_on(cache, there):
    cache.set("rate:TWD", 32.5, tags=["rates"])
    cache.set("rate:JPY", 157.2, tags=["rates"])
    cache.set("dish", "noodles")

    (first, second) = keys_of(there, "rate:*")["keys"]

    assert {first["key"].partition("|")[0], second["key"].partition("|")[0]} == {"rate:TWD", "rate:JPY"}
    assert first["state"] == "holds"
    assert "name:rates" in first["tags"]
    assert 0 < first["seconds_left"] <= 86_400
    assert "rate:TWD" in command("keys", *there).output


def test_what_has_been_written_since_is_said_to_be_outdated(cache, there):
    cache.set("rate", 32.5, tags=["rates"])
    cache.invalidate("rates")
    (listed,) = keys_of(there)["keys"]
    assert listed["state"] == "outdated"


def test_no_more_are_listed_than_asked_for(cache, there):
    cache.set_many({f"rate:{number}": number for number in range(30)})
    listed = keys_of(there, "--limit", "7")
    assert (len(listed["keys"]), listed["is_all"]) == (7, False)
    assert "more" in command("keys", "--limit", "7", *there).output
    assert len(keys_of(there)["keys"]) == 30


def test_another_caches_keys_are_not_listed(cache, valkey_server):
    cache.set("rate", 32.5)
    assert keys_of(("--redis", valkey_server.url, "--name", "another"))["keys"] == []


def test_a_value_by_name_is_shown(cache, there):
    cache.set("rates[1]*", {"TWD": 32.5, "中": [1, None]}, tags=["rates"])
    shown = command("get", "rates[1]*", *there)
    assert shown.exit_code == 0
    assert '"TWD": 32.5' in shown.output
    assert "中" in shown.output
    assert "name:rates" in shown.output


def test_values_of_functions_are_shown_without_their_classes(cache, there):
    @cache.cached(namespace="menu")
    def menu(number: int) -> list[Dish]:
        return [Dish("mapo tofu", 9.5)] * number

    menu(1)
    told = json.loads(command("get", "menu:1", *there, "--format", "json").output)
    assert told["value"] == [{"name": "mapo tofu", "price": 9.5}]
    assert told["codec"] == "msgpack, by annotation"


def test_a_value_that_cannot_be_read_here_is_told_by_size_and_codec(cache, there):
    @cache.cached(namespace="dish")
    def dish() -> Dish | tuple[int, object]:
        return Dish("mapo tofu", 9.5)

    dish()
    key = keys_of(there, "dish:*")["keys"][0]["key"]
    told = json.loads(command("get", key, *there, "--format", "json").output)
    assert "value" not in told
    assert told["codec"] == "msgpack, with tags"
    assert "cannot be read here" in told["reason"]


def test_nothing_under_a_key_is_not_an_error_of_the_tool(cache, there):
    shown = command("get", "rate", *there)
    assert (shown.exit_code, "nothing is kept" in shown.output) == (1, True)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        b"UC1\xff\xff\xff\xff",
        b"UC1\x00\x00\x00\x05" + b"\x91" * 5,
        b"UC1\x00\x00\x00\x02\xc1\xc1",
        b"\x91" * 5_000,
    ],
)
def test_what_is_no_entry_is_told_as_such(cache, client, there, data):
    prefix = cache._shared._shared.remote.keys.prefix
    client.set(prefix + b"e:rate|0", data)
    client.lpush(prefix + b"e:list|0", "a list")
    listed = keys_of(there)["keys"]
    assert [each["state"] for each in listed] == (["unreadable"] if data else [])
    if data:
        shown = command("get", "rate|0", *there)
        assert (shown.exit_code, "no entry of a cache" in shown.output) == (0, True)
    assert command("get", "list|0", *there).exit_code == 1


def test_names_cannot_write_to_the_terminal(cache, client, there):
    prefix = cache._shared._shared.remote.keys.prefix
    client.set(prefix + b"e:\x1b[31mred\xff\r\n|0", b"nothing")
    listed = command("keys", *there)
    assert listed.exit_code == 0
    assert "\x1b" not in listed.output
    assert "unreadable" in listed.output


def test_a_huge_value_is_not_read(cache, there):
    cache.set("huge", secrets.token_hex(1_500_000))
    shown = command("get", "huge", *there)
    assert shown.exit_code == 0
    assert "are read at most" in shown.output
    assert len(shown.output) < 2_000


def test_entries_are_dropped_only_when_told(cache, there):
    cache.set_many({f"rate:{number}": number for number in range(20)})
    cache.set("dish", "noodles")

    told = command("delete", "rate:*", *there)
    assert (told.exit_code, "20 entries would be dropped" in told.output) == (0, True)
    assert len(keys_of(there)["keys"]) == 21

    assert "20 entries are dropped" in command("delete", "rate:*", *there, "--yes").output
    assert [each["key"].partition("|")[0] for each in keys_of(there)["keys"]] == ["dish"]


def test_tags_and_namespaces_are_ended_for_all_processes(cache, there):
    cache.set("rate", 32.5, tags=["rates"])
    cache.set("menu", "noodles", namespace="menus")

    assert "nothing was done" in command("invalidate", "rates", *there).output
    assert (cache.get("rate"), cache.get("menu", namespace="menus")) == (32.5, "noodles")

    ended = command("invalidate", "rates", "--namespace", "menus", *there, "--yes")
    assert ended.exit_code == 0, ended.output
    assert (cache.get("rate"), cache.get("menu", namespace="menus")) == (None, None)


@pytest.mark.parametrize(
    "arguments",
    [("keys",), ("get", "rate"), ("delete", "rate", "--yes"), ("invalidate", "rates", "--yes")],
)
def test_a_server_that_is_not_there_is_said_to_be(arguments):
    told = command(*arguments, "--redis", "redis://127.0.0.1:1")
    assert told.exit_code == 2
    assert "does not answer" in told.output


def test_a_password_that_is_wrong_is_said_to_be():
    with valkey(listen="tcp") as server:
        place = server.url.rpartition("@")[2]
        told = command("keys", "--redis", f"redis://:wrong@{place}")
        assert told.exit_code == 2
        assert "WRONGPASS" in told.output


def test_a_url_that_is_none_is_said_to_be():
    told = command("keys", "--redis", "http://localhost")
    assert (told.exit_code, "redis+sentinel" in told.output) == (2, True)


def test_what_to_end_and_where_have_to_be_told(there):
    assert command("invalidate", *there).exit_code == 2
    assert command("invalidate", "rates").exit_code == 2
    assert command("invalidate", "", *there).exit_code == 2
