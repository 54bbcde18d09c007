"""`upshift index apply`, from a file of findings to a database; hostile files included."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from upshift import Upshift
from upshift.cli.commands import upshift
from upshift.diagnose import get
from upshift.diagnose.finding import Finding, Severity
from upshift.diagnose.formats import json_document
from upshift.diagnose.report import Report
from upshift.sql.indexes.advice import IndexAdvice, Served
from upshift.sql.indexes.index import Index, IndexColumn

INDEX = Index("sqlite", "t", (IndexColumn("a"), IndexColumn("b")))
ADVICE = IndexAdvice(
    INDEX, (Served("SELECT 1", 900, 9, ("SCAN t",), ("SEARCH t",)),), "steps", "copy"
).to_dict()


def document(*data: dict[str, Any], code: str = "UP201") -> dict[str, Any]:
    """Findings as `upshift find --format json` prints them."""
    findings = [
        {
            "code": code,
            "severity": "warning",
            "title": "no index",
            "location": None,
            "routes": [],
            "evidence": [],
            "fix": [],
            "expect": "",
            "fingerprint": "0",
            "data": each,
        }
        for each in data
    ]
    summary = {"findings": {}, "routes": 1, "requests": 1, "skipped": [], "notes": []}
    return {"version": 1, "findings": findings, "summary": summary}


@pytest.fixture
def database(tmp_path: Path) -> str:
    connection = sqlite3.connect(tmp_path / "shop.db")
    connection.execute("CREATE TABLE t (a INT, b INT)")
    connection.close()
    return f"sqlite:///{tmp_path}/shop.db"


def indexes(database: str) -> set[str]:
    connection = sqlite3.connect(database.removeprefix("sqlite:///"))
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'index'")}
    connection.close()
    return names


def run(*arguments: str, findings: object = None, environment: dict[str, str] | None = None) -> Result:
    given = findings if isinstance(findings, bytes) else json.dumps(findings).encode()
    return CliRunner().invoke(upshift, ["index", "apply", *arguments], input=given, env=environment)


def test_it_builds_what_was_advised(database):
    result = run("--from", "-", "--url", database, findings=document(ADVICE))
    assert (result.exit_code, result.stdout) == (0, f"built   {INDEX.name}\n")
    assert indexes(database) == {INDEX.name}


def test_it_reads_what_find_prints(database):
    finding = Finding(
        code="UP201", severity=Severity.WARNING, title="no index", site=None, fix=(), expect="", data=ADVICE
    )
    printed = json_document.json(Report(findings=(finding,), routes=1, requests=1, skipped=(), notes=()))
    assert run("--from", "-", "--url", database, findings=printed).exit_code == 0
    assert indexes(database) == {INDEX.name}


def test_it_builds_an_index_once_though_several_findings_name_it(database):
    assert run("--from", "-", "--url", database, findings=document(ADVICE, ADVICE)).stdout.count("built") == 1


def test_it_keeps_what_is_there(database):
    run("--from", "-", "--url", database, findings=document(ADVICE))
    assert (
        run("--from", "-", "--url", database, findings=document(ADVICE)).stdout == f"kept    {INDEX.name}\n"
    )


def test_it_ends_with_1_when_an_index_cannot_be_built(database):
    lost = IndexAdvice.from_dict(
        ADVICE | {"table": "nowhere", "name": Index("sqlite", "nowhere", INDEX.columns).name}
    )
    result = run("--from", "-", "--url", database, findings=document(lost.to_dict()))
    assert result.exit_code == 1
    assert result.stdout.endswith("no such table: main.nowhere\n")


def test_it_takes_the_database_from_the_environment(database):
    run("--from", "-", findings=document(ADVICE), environment={"UPSHIFT_DATABASE_URL": database})
    assert indexes(database) == {INDEX.name}


def test_it_passes_over_other_findings(database):
    result = run("--from", "-", "--url", database, findings=document({"anything": 1}, code="UP101"))
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "no index is advised\n")


def test_undo_removes_what_was_built(database):
    run("--from", "-", "--url", database, findings=document(ADVICE))
    assert run("--undo", "--url", database).stdout == f"removed {INDEX.name}\n"
    assert indexes(database) == set()


def test_undo_says_when_there_is_nothing(database):
    result = run("--undo", "--url", database)
    assert (result.exit_code, result.stderr) == (0, "Upshift built no index here\n")


def test_a_dry_run_prints_the_sql_and_needs_no_database():
    result = run("--from", "-", "--dry-run", findings=document(ADVICE))
    assert (result.exit_code, result.stdout) == (0, INDEX.create_sql + ";\n")


def test_a_migration_is_printed_and_needs_no_database():
    result = run("--from", "-", "--as-migration", "--down-revision", "1a2b", findings=document(ADVICE))
    assert result.exit_code == 0
    assert "down_revision = '1a2b'" in result.stdout
    compile(result.stdout, "migration.py", "exec")


@pytest.mark.parametrize(
    ("arguments", "missing"),
    [
        ([], "--from FILE is missing"),
        (["--from", "-"], "--url is missing"),
        (["--undo"], "--url is missing"),
        (["--undo", "--dry-run", "--url", "sqlite://"], "--undo removes what was built"),
        (["--undo", "--from", "-", "--url", "sqlite://"], "--undo removes what was built"),
        (["--from", "nowhere.json"], "No such file"),
    ],
)
def test_what_is_missing_is_said(arguments, missing, monkeypatch):
    monkeypatch.delenv("DATABASE_URL", raising=False)
    result = run(*arguments, findings=document(ADVICE))
    assert result.exit_code == 2
    assert missing in result.stderr


@pytest.mark.parametrize(
    "text",
    [b"", b"[", b"null", b"[]", b'{"findings": 1}', b"\xff\xfe", b"[" * 100_000, b'{"version": 2}'],
    ids=["empty", "cut off", "null", "list", "wrong type", "not UTF-8", "deep", "other version"],
)
def test_a_file_that_is_no_findings_is_refused_in_one_line(text):
    result = run("--from", "-", "--dry-run", findings=text)
    assert result.exit_code == 2
    assert "is not what `upshift find --format json` prints" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_file_that_never_ends_is_not_read_to_its_end():
    with Path("/dev/zero").open("rb") as endless:
        result = CliRunner().invoke(upshift, ["index", "apply", "--from", "-", "--dry-run"], input=endless)
    assert "larger than findings ever are" in result.stderr


@pytest.mark.parametrize(
    "change",
    [
        {"create_sql": "DROP TABLE t"},
        {"undo_sql": "DROP TABLE t"},
        {"alembic": "import os"},
        {"served": "'; DROP TABLE t"},
    ],
)
def test_no_sql_of_the_file_is_run(database, change):
    run("--from", "-", "--url", database, findings=document(ADVICE | change))
    assert indexes(database) == {INDEX.name}


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"table": "t (a); DROP TABLE t; --"},
        {"columns": [{"name": "a) ; DROP TABLE t; --"}]},
        {"columns": []},
        {"dialect": "mysql"},
    ],
)
def test_an_index_that_was_tampered_with_is_refused(database, change):
    result = run("--from", "-", "--url", database, findings=document(ADVICE | change))
    assert result.exit_code == 2
    assert indexes(database) == set()


def command(*arguments: str) -> Result:
    return CliRunner().invoke(upshift, ["index", *arguments])


def test_lines_for_the_models_are_printed_and_need_no_database():
    result = run("--from", "-", "--as-models", findings=document(ADVICE))
    assert result.exit_code == 0
    assert f"sa.Index('{INDEX.name}', 'a', 'b')," in result.stdout
    compile(result.stdout, "models.py", "exec")


def test_undo_is_a_command_too(database):
    run("--from", "-", "--url", database, findings=document(ADVICE))
    assert command("undo", "--url", database).stdout == f"removed {INDEX.name}\n"
    assert indexes(database) == set()


def test_list_tells_what_was_built(database):
    assert command("list", "--url", database).stderr == "Upshift built no index here\n"
    run("--from", "-", "--url", database, findings=document(ADVICE))
    listed = command("list", "--url", database).stdout
    assert listed.startswith(INDEX.name)
    assert listed.endswith("on main.t\n")


def test_surplus_prints_what_could_be_dropped_and_drops_nothing(database):
    assert command("surplus", "--url", database).stderr == "no index is in surplus\n"
    connection = sqlite3.connect(database.removeprefix("sqlite:///"))
    connection.execute("CREATE INDEX longer ON t (a, b)")
    connection.execute("CREATE INDEX shorter ON t (a)")
    connection.close()
    told = command("surplus", "--url", database).stdout
    assert told == '-- duplicate: longer serves whatever it serves\nDROP INDEX "main"."shorter";\n'
    assert indexes(database) == {"longer", "shorter"}


def test_advise_seeks_indexes_for_a_recording(tmp_path):
    url = f"sqlite:///{tmp_path}/shop.db"
    recording = record_some(url, tmp_path / "monday.recording")
    result = command("advise", recording, "--url", url, "--format", "json")
    assert result.exit_code == 0, result.output
    (finding,) = json.loads(result.stdout)["findings"]
    assert finding["title"] == "no index on item (owner)"
    assert finding["data"]["figures"]["gain"] > 0
    applied = run("--from", "-", "--url", url, findings=result.stdout.encode())
    assert applied.stdout.startswith("built")
    assert json.loads(command("advise", recording, "--url", url, "--format", "json").stdout)["findings"] == []


def test_advise_without_a_recording_needs_a_database_that_counts(database):
    result = command("advise", "--url", database)
    assert result.exit_code == 2
    assert "only PostgreSQL counts statements itself" in result.stderr


def record_some(url: str, recording: Path) -> str:
    """Record an application that looks items up by their owner."""
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE item (id INTEGER PRIMARY KEY, owner INT)")
        rows = [(n, n % 500) for n in range(5_000)]
        connection.exec_driver_sql("INSERT INTO item VALUES (?, ?)", rows)

    async def owned(_: Any) -> PlainTextResponse:
        with engine.connect() as connection:
            for owner in (7, 8):
                connection.exec_driver_sql("SELECT * FROM item WHERE owner = ?", (owner,)).all()
        return PlainTextResponse("done")

    app = Starlette(routes=[Route("/", owned)])
    observed = Upshift(app, engine=engine, keep_parameters=True, sample_rate=1.0)
    with observed.record_to(recording):
        asyncio.run(get(observed, "/"))
    observed.close()
    engine.dispose()
    return str(recording)
