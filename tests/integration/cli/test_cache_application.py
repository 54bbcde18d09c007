"""`upshift cache stats`, `invalidate --app` and `doctor` on an application that runs under uvicorn."""

from __future__ import annotations

import json
import re
import threading
import time

import pytest
import sqlalchemy as sa
import uvicorn
from click.testing import CliRunner
from fastapi import FastAPI

from upshift import Cache, Upshift
from upshift.cli.commands import upshift
from upshift.testing.servers.supervision import free_port


def command(*arguments):
    return CliRunner().invoke(upshift, ["cache", *arguments], env={"UPSHIFT_CACHE_URL": None})


@pytest.fixture
def engine(tmp_path):
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'shop.db'}")
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE dish (name text)"))
    yield engine
    engine.dispose()


@pytest.fixture
def served(engine):
    """Serve an application with a cache, and give its address, its cache and its cached function."""
    app = FastAPI()
    up = Upshift(app, engine=engine, cache=Cache(), service="shop")

    @up.cache.cached(namespace="menu", tags=["menus"])
    def menu(number: int) -> list[str]:
        with engine.connect() as connection:
            return [*connection.scalars(sa.text("SELECT name FROM dish")), str(number)]

    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    yield f"http://127.0.0.1:{port}", up.cache, menu
    server.should_exit = True
    thread.join(30)
    up.close()


def test_what_a_cache_has_done_is_a_table(served):
    url, _, menu = served
    for _ in range(4):
        menu(7)
    told = command("stats", url)
    assert told.exit_code == 0, told.output
    assert re.search(r"^ +4 +3 +75% +1 ", told.output, re.MULTILINE), told.output
    assert "tokens in this process" in told.output


def test_the_table_says_why_values_are_not_kept(served, engine):
    url, cache, _ = served

    @cache.cached(namespace="writer")
    def writer():
        with engine.begin() as connection:
            connection.execute(sa.text("INSERT INTO dish VALUES ('rice')"))
            return connection.scalar(sa.text("SELECT count(*) FROM dish"))

    writer()
    assert "1 not kept: its transaction writes" in command("stats", url).output


def test_it_is_json_when_asked_for(served):
    url, _, menu = served
    menu(7)
    told = json.loads(command("stats", url, "--format", "json", "--sort", "bytes").output)
    assert (told["service"], told["namespaces"][0]["name"]) == ("shop", "menu")


def test_values_are_ended_in_a_running_application_only_when_told(served):
    url, _, menu = served
    menu(7)
    assert "nothing was done" in command("invalidate", "menus", "--app", url).output
    assert menu.get(7) == ["7"]
    assert command("invalidate", "menus", "--app", url, "--yes").exit_code == 0
    assert not menu.get(7)
    menu(7)
    place = f"{url}/upshift/cache/"
    assert command("invalidate", "--namespace", "menu", "--app", place, "--yes").exit_code == 0
    assert not menu.get(7)


def test_more_tags_than_are_read_at_once_end_none_of_them(served):
    url, _, menu = served
    menu(7)
    told = command("invalidate", "menus", *["x" * 100] * 30, "--app", url, "--yes")
    assert (told.exit_code, "name fewer" in told.output) == (2, True)
    assert menu.get(7) == ["7"]


def test_what_is_no_application_with_a_cache_is_said_to_be_none(served):
    url, *_ = served
    told = command("stats", f"{url}/openapi.json")
    assert (told.exit_code, "does not tell of a cache" in told.output) == (2, True)
    told = command("stats", f"{url}/nowhere")
    assert (told.exit_code, "nothing tells of a cache there" in told.output) == (2, True)


def test_what_is_wrong_with_an_application_s_cache_is_told_with_what_to_do(served, engine):
    url, cache, _ = served
    other = sa.create_engine("postgresql+psycopg://shop:secret@localhost/unwatched")

    @cache.cached(namespace="writer")
    def writer():
        with engine.begin() as connection:
            connection.execute(sa.text("INSERT INTO dish VALUES ('rice')"))
            return connection.scalar(sa.text("SELECT count(*) FROM dish"))

    writer()
    told = command("doctor", url)
    other.dispose()

    assert told.exit_code == 1
    assert "writer: its values are never kept: its transaction writes (1 times)" in told.output
    assert "→ read in a session of its own" in told.output
    assert "not watched: " in told.output
    assert "secret" not in told.output
