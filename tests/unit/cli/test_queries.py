"""`upshift queries` and `upshift replay` on files, good ones and others."""

from __future__ import annotations

import json
import re
import sqlite3
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from rich.cells import cell_len

from upshift.cli.commands import upshift
from upshift.record import CallSite, Record, Statement
from upshift.record.recording import Dialect, RecordingWriter
from upshift.sql.analysis.document import Document


def record(started, *statements, route="/orders", **fields):
    made = Record("GET", "/orders", started)
    made.route, made.status, made.seconds = route, 200, 0.1
    for sql, seconds, line in statements:
        statement = Statement(sql, started, CallSite("shop/orders.py", line, "list_orders"))
        statement.execute_seconds, statement.rows = seconds, 3
        for name, value in fields.items():
            setattr(statement, name, value)
        made.add(statement)
    return made


@pytest.fixture
def recording(tmp_path):
    """Write a recording of a shop, whose statements take `times` as long as usual."""

    def write(name="shop.recording", times=1.0, dialect="sqlite", more=()):
        path = tmp_path / name
        dialects = [Dialect(dialect, "driver", "qmark")]
        with RecordingWriter(path, dialects=dialects, service="shop") as writer:
            for number in range(200):
                slowly = 1 + number % 5 / 100
                writer.take(record(number * 0.5, ("SELECT a FROM t WHERE id = 7", 0.01 * times * slowly, 7)))
            for each in (record(1.0, ("SELECT once", 0.3, 9), route="/reports"), *more):
                writer.take(each)
        return str(path)

    return write


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    return lambda *arguments: CliRunner().invoke(upshift, [*map(str, arguments)])


def test_the_statements_of_a_recording_are_told_with_where_they_come_from(run, recording):
    result = run("queries", recording())
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["total", "share", "count", "mean", "p95", "p99", "rows", "slow", "errors"]
    assert lines[1].split()[:4] == ["2.04", "s", "87%", "200"]
    assert lines[2:5] == [
        "  SELECT a FROM t WHERE id = ?",
        "  at shop/orders.py:7 list_orders",
        "  on GET /orders",
    ]
    assert "recording of shop" in result.stdout


def test_a_table_fits_into_eighty_columns(run, recording):
    long = record(1.0, ("SELECT " + "ünïcödé, " * 60, 12_345.678, 9), route="/" + "x" * 300)
    result = run("queries", recording(more=[long]))
    assert max(map(cell_len, result.stdout.splitlines())) <= 80


def test_json_is_the_document(run, recording):
    result = run("queries", recording(), "--format", "json", "--sort", "mean", "--top", "1")
    told = msgspec.json.decode(result.stdout, type=Document)
    assert [row.text for row in told.statements] == ["SELECT once"]
    assert (told.digests, told.source.kind) == (2, "recording")


def test_a_saved_document_is_read_like_a_recording(run, recording, tmp_path):
    (tmp_path / "saved.json").write_text(run("queries", recording(), "--format", "json").stdout)
    result = run("queries", tmp_path / "saved.json", "--route", "/reports")
    assert "SELECT once" in result.stdout
    assert "SELECT a" not in result.stdout


def test_two_recordings_are_compared(run, recording):
    result = run("queries", "--compare", recording("a"), recording("b", times=3.0))
    assert result.stdout.splitlines()[0].startswith("slower: 10.2 ms → 30.6 ms, 3.00x [")
    assert "1 change among" in result.stdout


def test_a_comparison_is_told_as_json(run, recording):
    result = run("queries", "--compare", recording("a", times=3.0), recording("b"), "--format", "json")
    (change,) = json.loads(result.stdout)["changes"]
    assert (change["kind"], change["sites"][0]["line"]) == ("faster", 7)


@pytest.mark.parametrize("command", [["queries"], ["queries", "--compare"]])
def test_what_a_document_has_no_place_for_is_told_beside_it(run, recording, command):
    torn = recording("torn")
    with Path(torn).open("ab") as file:
        file.write(b'{"kind":"rec')
    result = run(*command, torn, "--format", "json")
    assert json.loads(result.stdout)["version"] == 1
    assert "note: its last line is torn" in result.stderr


def test_a_saved_document_with_times_that_nothing_takes_is_refused(run, recording, tmp_path):
    document = json.loads(run("queries", recording(), "--format", "json", "--top", "100000").stdout)
    for row in document["statements"]:
        row["windows"] = [[window, executions, 1e308] for window, executions, _ in row["windows"]]
    (tmp_path / "saved.json").write_bytes(msgspec.json.encode(document))
    result = run("queries", "--compare", tmp_path / "saved.json")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "times that no statement takes" in result.stderr


def test_two_targets_need_to_be_compared(run, recording):
    result = run("queries", recording("a"), recording("b"))
    assert result.exit_code == 2
    assert "--compare" in result.stderr


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("/nowhere/shop.recording", "cannot be read"),
        ("ftp://127.0.0.1/", "is no address"),
        ("http://", "is no address"),
        ("http://[::1", "is no address"),
        ("http://127.0.0.1:1", "does not answer"),
        ("http://127.0.0.1:99999", "does not answer"),
    ],
)
def test_a_target_that_tells_nothing_is_told_in_a_line(run, target, said):
    result = run("queries", target)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("content", [b"", b"hello", b'{"version":1}', b'{"version":' + b"[" * 100_000])
def test_a_file_that_is_neither_is_refused(run, tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    for command in ("queries", "replay"):
        result = run(command, tmp_path / "file")
        assert result.exit_code == 2
        assert result.stderr.startswith("upshift: ")


def test_hostile_text_moves_no_cursor_and_is_no_markup(run, recording):
    hostile = record(
        1.0, ("SELECT '\x1b[2J' AS \"\x1b]0;owned\x07\", [bold red]x[/] \u202e", 9.0, 1), route="/\x1b[1A\r\n"
    )
    path = recording(more=[hostile])
    for command in (("queries", path), ("replay", path), ("queries", path, "--compare")):
        result = run(*command)
        assert result.exit_code == 0
        assert all(line.isprintable() for line in result.stdout.splitlines())
    assert "[bold red]x[/]" in run("queries", path).stdout


@pytest.mark.parametrize(
    "number", ["1e308", "-1", "0", "1e12", "1099511627776", "18446744073709551616", "null", '"x"']
)
@pytest.mark.parametrize(
    "name", ["execute_seconds", "rows", "started", "executions", "site", "sql", "seconds"]
)
def test_hostile_numbers_break_nothing(run, tmp_path, name, number):
    path = tmp_path / "hostile.recording"
    with RecordingWriter(path) as writer:
        for step in range(3):
            writer.take(record(float(step), *[("SELECT a FROM t", 0.5, 7)] * 4))
    header, rest = path.read_bytes().split(b"\n", 1)
    hostile = re.sub(rf'"{name}":[^,}}]+'.encode(), f'"{name}":{number}'.encode(), rest)
    path.write_bytes(header + b"\n" + hostile)
    for command in (("queries", path), ("queries", path, "--compare"), ("replay", path)):
        assert run(*command).exit_code == 0
    told = run("queries", path, "--format", "json")
    msgspec.json.decode(told.stdout, type=Document)


def test_a_recording_is_replayed_as_findings_and_statements(run, recording):
    repeated = record(1.0, *[("SELECT b FROM u WHERE id = 7", 0.01, 3)] * 9)
    result = run("replay", recording(more=[repeated]))
    assert result.exit_code == 0
    assert result.stdout.startswith("UP101 error   shop/orders.py:3")
    assert "SELECT once" in result.stdout


def test_findings_of_a_recording_can_fail_a_build(run, recording):
    repeated = record(1.0, *[("SELECT b FROM u WHERE id = 7", 0.01, 3)] * 9)
    path = recording(more=[repeated])
    result = run("replay", path, "--format", "json", "--fail-on", "error")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["findings"][0]["code"] == "UP101"


def test_a_torn_recording_is_told_and_read(run, recording):
    path = recording()
    with open(path, "rb+") as file:  # noqa: PTH123 - it is truncated
        file.truncate(file.seek(0, 2) - 100)
    result = run("replay", path)
    assert result.exit_code == 0
    assert "last line is torn" in " ".join(result.stdout.split())


def test_selects_are_sent_to_a_database_again(run, recording, tmp_path):
    with sqlite3.connect(tmp_path / "shop.db") as database:
        database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, a)")
        database.execute("INSERT INTO t VALUES (7, 'seven')")
    database.close()
    path = recording(more=[record(1.0, ("DELETE FROM t", 0.1, 1))])
    result = run("replay", path, "--database", f"sqlite:///{tmp_path}/shop.db")
    assert result.exit_code == 0
    assert "other rows than when it was recorded: 60, now 20" in result.stdout
    assert "only SELECTs are sent again" in result.stdout
    told = json.loads(
        run("replay", path, "--database", f"sqlite:///{tmp_path}/shop.db", "--format", "json").stdout
    )
    assert {each["text"]: each["rows"] for each in told["statements"]}["SELECT a FROM t WHERE id = ?"] == 20


def test_a_replay_is_told_beside_an_earlier_one(run, recording, tmp_path):
    sqlite3.connect(tmp_path / "shop.db").close()
    to_database = ("replay", recording(), "--database", f"sqlite:///{tmp_path}/shop.db")
    before = json.loads(run(*to_database, "--format", "json").stdout)
    before["statements"].append(before["statements"][0] | {"digest": "gone"})
    (tmp_path / "before.json").write_text(json.dumps(before))
    result = run(*to_database, "--against", tmp_path / "before.json")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0].split() == ["count", "samples", "before", "now", "times", "rows"]
    assert "compare them" not in result.stdout


@pytest.mark.parametrize("content", ["", "{}", "[" * 100_000, '{"version":2,"database":"","statements":[]}'])
def test_an_earlier_replay_that_is_none_is_refused(run, recording, tmp_path, content):
    (tmp_path / "before.json").write_text(content)
    result = run("replay", recording(), "--database", "sqlite://", "--against", tmp_path / "before.json")
    assert result.exit_code == 2
    assert "is not what `upshift replay --format json` prints" in result.stderr


def test_an_earlier_replay_needs_another_one(run, recording, tmp_path):
    (tmp_path / "before.json").write_text("{}")
    assert run("replay", recording(), "--against", tmp_path / "before.json").exit_code == 2


@pytest.mark.parametrize(
    ("database", "said"),
    [
        ("sqlite:///shop.db", "is of postgresql"),
        ("nonsense", "cannot be read"),
        ("mysql://localhost/x", "mysql"),
    ],
)
def test_another_kind_of_database_is_refused(run, recording, database, said):
    result = run("replay", recording(dialect="postgresql"), "--database", database)
    assert result.exit_code == 2
    assert said in result.stderr


def test_times_are_no_findings(run, recording):
    result = run("replay", recording(), "--database", "sqlite:///shop.db", "--format", "sarif")
    assert result.exit_code == 2
