"""`upshift find` on the full data set: it finds every seeded defect at its place, and nothing else."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from shopease.tests.seeded import LARGE_RESPONSES, MISSING_INDEXES, N_PLUS_ONES, ROOT, MissingIndex, Site

from upshift.testing.servers import PostgresServer

APPS = ROOT.parent
VALUES = "user_id = [190, 5776, 6356]\nseller_id = [50, 207, 421]\nproduct_id = [1320, 9039, 13649]\n"


@pytest.fixture(scope="module")
def full_database(server: PostgresServer) -> Iterator[str]:
    name = "shopease_full"
    server.create_database(name)
    url = server.url(name, driver="psycopg")
    command = [sys.executable, "-m", "shopease.dataset", "--url", url]
    subprocess.run(command, check=True, env=_environment(url))
    yield url
    server.drop_database(name)


@pytest.fixture(scope="module")
def findings(full_database: str, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    values = tmp_path_factory.mktemp("values") / "values.toml"
    values.write_text(VALUES)
    command = ("find", "shopease.main:app", "--app-dir", str(APPS), "--values", str(values))
    finished = subprocess.run(
        [sys.executable, "-m", "upshift", *command, "--format", "json", "--fail-on", "warning"],
        capture_output=True,
        check=False,
        env=_environment(full_database),
    )
    assert finished.returncode == 1, finished.stderr.decode()
    document = json.loads(finished.stdout)
    assert document["summary"]["skipped"] == []
    return [each for each in document["findings"] if each["severity"] != "info"]


def _environment(url: str) -> dict[str, str]:
    return {**os.environ, "DATABASE_URL": url, "PYTHONPATH": str(APPS)}


def _place(finding: dict[str, Any]) -> tuple[str, int]:
    return str(Path(finding["location"]["file"]).resolve()), finding["location"]["line"]


def _line(site: Site) -> tuple[str, int]:
    return str(site.path), site.line


def _of(findings: list[dict[str, Any]], code: str) -> list[dict[str, Any]]:
    return [each for each in findings if each["code"] == code]


def test_every_n_plus_one_is_found_at_its_line_and_no_other(findings):
    found = {(each["data"]["relationship"], _place(each)) for each in _of(findings, "UP101")}

    assert found == {(each.relationship, _line(each.site)) for each in N_PLUS_ONES}


def test_every_n_plus_one_is_reported_once(findings):
    assert len(_of(findings, "UP101")) == len(N_PLUS_ONES)


@pytest.mark.parametrize("seeded", N_PLUS_ONES, ids=lambda each: each.relationship)
def test_the_cure_of_an_n_plus_one_is_told_for_the_query_that_needs_it(findings, seeded):
    (fix,) = (
        each["fix"][0]
        for each in _of(findings, "UP101")
        if each["data"]["relationship"] == seeded.relationship
    )

    places = ", ".join(f"{site.file}:{site.line}" for site in seeded.queries)
    assert fix == f"{seeded.cure}  # at {places}"


def _answers(finding: dict[str, Any], missing: MissingIndex) -> bool:
    """An index that begins with the missing columns answers, whatever the planner likes after them."""
    columns = [column["name"] for column in finding["data"]["columns"]]
    return finding["data"]["table"] == missing.table and columns[: len(missing.columns)] == [*missing.columns]


def test_every_missing_index_is_found_and_no_other(findings):
    found = _of(findings, "UP201")

    answers = [[_answers(each, missing) for each in found].count(True) for missing in MISSING_INDEXES]
    assert answers == [1] * len(found)


@pytest.mark.parametrize("missing", MISSING_INDEXES, ids=lambda each: f"{each.table}-{each.columns[0]}")
def test_a_missing_index_is_told_of_a_line_that_needs_it(findings, missing):
    (finding,) = (each for each in _of(findings, "UP201") if _answers(each, missing))

    assert _place(finding) in {_line(site) for site in missing.sites}


def test_every_large_response_is_found_and_no_other(findings):
    found = [route for each in _of(findings, "UP301") for route in each["routes"]]

    assert sorted(found) == sorted(f"GET {each.route}" for each in LARGE_RESPONSES)


def test_nothing_else_is_a_warning_or_worse(findings):
    assert {each["code"] for each in findings} == {"UP101", "UP201", "UP301"}
