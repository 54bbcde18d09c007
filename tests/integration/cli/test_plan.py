"""`upshift plan` on real databases."""

from __future__ import annotations

import json

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result
from sqlalchemy.pool import NullPool

from upshift.cli.commands import upshift
from upshift.record import Record, Statement
from upshift.sql import Digests, StatementTable
from upshift.sql.analysis.document import Source, document, encode


def command(*arguments: str, text: str | None = None) -> Result:
    return CliRunner().invoke(upshift, ["plan", *arguments], input=text)


@pytest.fixture
def url(postgres_database: str) -> str:
    engine = sa.create_engine(postgres_database, poolclass=NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE event (id int PRIMARY KEY, kind text)")
        rows = "INSERT INTO event SELECT i, 'k' || i FROM generate_series(1, 5000) i"
        connection.exec_driver_sql(rows)
    return postgres_database


def test_a_statement_is_shown_as_a_tree(url):
    result = command("--url", url, "--sql", "SELECT * FROM event WHERE kind LIKE '%7' ORDER BY id")
    assert result.exit_code == 0, result.output
    assert "Filter: (event.kind ~~ ?)" in result.stdout
    assert sum(line.startswith("> ") for line in result.stdout.splitlines()) == 1


def test_it_is_executed_only_when_asked_and_safe(url):
    asked = command("--url", url, "--analyze", "--sql", "SELECT count(*) FROM event")
    assert "executed in" in asked.stdout
    refused = command("--url", url, "--analyze", "--sql", "DELETE FROM event")
    assert "not executed: it writes" in refused.stdout
    assert "executed in" not in command("--url", url, "--sql", "SELECT count(*) FROM event").stdout


def test_a_statement_comes_from_a_file_or_standard_input(url):
    assert "Seq Scan on event" in command("--url", url, "--file", "-", text="SELECT * FROM event;").stdout


def test_placeholders_of_postgresql_get_the_plan_for_any_values(url):
    result = command("--url", url, "--sql", "SELECT * FROM event WHERE id = $1")
    assert "for any parameters" in result.stdout
    assert "event_pkey" in result.stdout


def test_json_is_for_programs(url):
    document = json.loads(command("--url", url, "--format", "json", "--sql", "SELECT * FROM event").stdout)
    assert document["tree"]["nodes"][0]["relation"] == "event"


@pytest.fixture
def saved(tmp_path) -> str:
    """What `upshift queries --format json` saved of two statements."""
    table = StatementTable(slow_seconds=0.5)
    record = Record("GET", "/", 0.0)
    for sql in ("SELECT * FROM event WHERE id IN (1, 2) AND kind = 'k'", "SELECT count(*) FROM event"):
        record.add(Statement(sql, 0.0))
    table.fold(record)
    source = Source(service="shop", kind="process", pid=7, since="2026-11-30T18:00:00Z", seconds=60.0)
    file = tmp_path / "statements.json"
    file.write_bytes(encode(document(table, source, 0.5)))
    return str(file)


def test_a_digest_is_looked_up_where_it_is_known(url, saved):
    digest = Digests().of("SELECT * FROM event WHERE id IN (7) AND kind = 'x'").id
    result = command(digest, "--from", saved, "--url", url)
    assert result.exit_code == 0, result.output
    assert "for any parameters" in result.stdout
    assert command(digest[:6].upper(), "--from", saved, "--url", url).stdout.count("event_pkey") == 1


@pytest.mark.parametrize(
    ("digest", "told"),
    [("ffffffffffffffff", "no statement there"), ("ab", "too short"), ("\x1b[31m", "no sta")],
)
def test_a_digest_that_is_not_known_there_is_told(url, saved, digest, told):
    result = command(digest, "--from", saved, "--url", url)
    assert (result.exit_code, told in result.stderr, "\x1b" in result.stderr) == (2, True, False)


def test_sqlite_has_plans_too(tmp_path):
    file = f"sqlite:///{tmp_path / 'shop.db'}"
    engine = sa.create_engine(file)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE t (a INTEGER, b TEXT)")
    engine.dispose()
    result = command("--url", file, "--sql", "SELECT * FROM t WHERE a = ? ORDER BY b")
    lines = [line.strip() for line in result.stdout.splitlines()[1:]]
    assert lines == ["> SCAN t", "USE TEMP B-TREE FOR ORDER BY"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--sql", "SELECT 1; DROP TABLE event"], "several statements"),
        (["--sql", "SELEC 1"], "only statements"),
        (["--sql", "SELECT * FROM nowhere"], "does not exist"),
        (["--sql", ""], "only statements"),
        ([], "one of DIGEST, --sql and --file"),
        (["abcd"], "--from is missing"),
        (["--sql", "SELECT 1", "abcd"], "one of DIGEST, --sql and --file"),
    ],
)
def test_what_cannot_be_explained_is_told(url, arguments, told):
    result = command("--url", url, *arguments)
    assert (result.exit_code, told in result.stderr) == (2, True)


def test_a_database_that_is_away_is_told():
    result = command("--url", "postgresql://127.0.0.1:1/nothing", "--sql", "SELECT 1")
    assert (result.exit_code, "cannot connect" in result.stderr) == (2, True)
