import socket
import sys

import pytest
from sqlalchemy import create_engine

from upshift.cli import boot
from upshift.cli.boot import check_databases, find_engines, load_application
from upshift.errors import ApplicationLoadError, DatabaseUnavailableError
from upshift.sql import engine_for
from upshift.sql.plans.aside import aside_engine


@pytest.fixture
def write_module(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))

    def write(source, name="sample_application"):
        monkeypatch.delitem(sys.modules, name, raising=False)
        (tmp_path / f"{name}.py").write_text(source)
        return str(tmp_path)

    return write


def test_an_application_is_imported_from_the_folder_given(write_module):
    folder = write_module("class shop:\n    def app(scope, receive, send): ...")

    assert callable(load_application("sample_application:shop.app", folder))


@pytest.mark.parametrize("target", ["", "module", "module:", ":app"])
def test_a_target_that_names_no_application_is_refused(target):
    with pytest.raises(ApplicationLoadError, match="module:app"):
        load_application(target)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("import nowhere_to_be_found", r"'nowhere_to_be_found' \(.*sample_application.py:1\);"),
        ("1 / 0", r"ZeroDivisionError.*\(.*sample_application.py:1\);"),
        ("\ndef (", r"SyntaxError.*\(.*sample_application.py:2\);"),
        ("raise SystemExit(3)", r"SystemExit: 3 \(.*sample_application.py:1\);"),
        ("import sys; sys.exit()", r"SystemExit \(.*sample_application.py:1\);"),
        ("", "has no 'app'"),
        ("app = 5", "int, not an ASGI application"),
    ],
)
def test_an_application_that_cannot_be_had_is_told_with_the_cause(write_module, source, told):
    folder = write_module(source)

    with pytest.raises(ApplicationLoadError, match=told):
        load_application("sample_application:app", folder)


def test_a_module_that_is_not_there_has_no_place(write_module):
    with pytest.raises(ApplicationLoadError, match="No module named 'nowhere_to_be_found'; modules are"):
        load_application("nowhere_to_be_found:app", write_module(""))


def test_engines_are_found_wherever_they_are_kept():
    hidden = {"deep": [create_engine("sqlite://")]}

    assert hidden["deep"][0] in find_engines()


def test_a_database_that_answers_passes():
    check_databases([create_engine("sqlite://")])


def test_a_database_that_is_down_is_told_without_its_password():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    engine = create_engine(f"postgresql+psycopg://shop:secret@127.0.0.1:{port}/shop")

    with pytest.raises(DatabaseUnavailableError, match="cannot connect to postgresql") as caught:
        check_databases([engine])
    assert "secret" not in str(caught.value)


def test_a_database_that_hangs_is_given_up(monkeypatch):
    monkeypatch.setattr(boot, "CONNECT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        engine = create_engine(
            f"postgresql+psycopg://shop@127.0.0.1:{port}/shop", connect_args={"connect_timeout": 2}
        )

        with pytest.raises(DatabaseUnavailableError, match="did not answer"):
            check_databases([engine])


def test_an_engine_of_upshifts_own_is_none_of_the_applications():
    theirs = create_engine("sqlite:///shop.db")
    ours = (engine_for("sqlite:///shop.db"), aside_engine(theirs))

    found = find_engines()

    assert theirs in found
    assert not set(ours) & set(found)
