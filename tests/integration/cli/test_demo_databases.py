"""The demo's databases on somebody's server: gone afterwards, whatever moment Ctrl-C comes at."""

import signal

import pytest
from sqlalchemy import create_engine, event, make_url, text
from sqlalchemy.engine import Engine

from upshift.cli.demo.databases import open_databases
from upshift.errors import DatabaseUnavailableError, SettingsError


@pytest.fixture
def server(postgres_database, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", make_url(postgres_database).render_as_string(hide_password=False))
    engine = create_engine(postgres_database)
    yield engine
    engine.dispose()


def left(server):
    with server.connect() as connection:
        return connection.scalars(
            text("SELECT datname FROM pg_database WHERE datname LIKE 'upshift_demo%'")
        ).all()


@pytest.fixture
def press_ctrl_c_when(request):
    """Send this process a real SIGINT before or after each statement that starts so."""
    listening = []

    def when(moment, start):
        def press(connection, cursor, statement, *_):
            if statement.startswith(start):
                signal.raise_signal(signal.SIGINT)

        event.listen(Engine, moment, press)
        listening.append((moment, press))

    yield when
    for moment, press in listening:
        event.remove(Engine, moment, press)


def test_they_are_there_and_then_gone(server):
    with open_databases(sqlite=False) as databases:
        databases.copy()
        assert len(left(server)) == 2

    assert left(server) == []


@pytest.mark.parametrize("moment", ["before_cursor_execute", "after_cursor_execute"])
def test_ctrl_c_while_the_first_is_made_leaves_none(server, press_ctrl_c_when, moment):
    press_ctrl_c_when(moment, "CREATE DATABASE")

    with pytest.raises(KeyboardInterrupt), open_databases(sqlite=False):
        pass

    assert left(server) == []


@pytest.mark.parametrize("moment", ["before_cursor_execute", "after_cursor_execute"])
def test_ctrl_c_while_the_second_is_made_leaves_none(server, press_ctrl_c_when, moment):
    def copy():
        with open_databases(sqlite=False) as databases:
            press_ctrl_c_when(moment, "CREATE DATABASE")
            databases.copy()

    with pytest.raises(KeyboardInterrupt):
        copy()
    assert left(server) == []


def test_ctrl_c_while_they_are_removed_is_answered_and_leaves_none(server, press_ctrl_c_when, capsys):
    with open_databases(sqlite=False):
        names = left(server)
        press_ctrl_c_when("before_cursor_execute", f"DROP DATABASE IF EXISTS {names[0]}")

    assert left(server) == []
    assert f"removing the databases {names[0]} and " in capsys.readouterr().err


def test_the_answer_to_ctrl_c_is_afterwards_as_it_was(server):
    before = signal.getsignal(signal.SIGINT)
    with open_databases(sqlite=False):
        pass

    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("url", ["garbage", "postgresql://host:port/shop", "://"])
def test_a_url_that_is_none_is_told_by_its_variable(monkeypatch, url):
    monkeypatch.setenv("DATABASE_URL", url)

    with pytest.raises(SettingsError, match="DATABASE_URL cannot be read; it looks like postgresql://"):
        open_databases(sqlite=False).__enter__()


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("mysql://u:secret@localhost/shop", "is of mysql"),
        ("postgresql://u:secret@127.0.0.1:1/shop", "cannot create a database on .*refused"),
    ],
)
def test_a_server_that_will_not_do_is_told_without_its_password(monkeypatch, url, told):
    monkeypatch.setenv("DATABASE_URL", url)

    with pytest.raises(DatabaseUnavailableError, match=told) as caught:
        open_databases(sqlite=False).__enter__()
    assert "secret" not in str(caught.value)
