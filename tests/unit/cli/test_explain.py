from __future__ import annotations

import pytest
from click.testing import CliRunner

from upshift.cli.explain import explain
from upshift.diagnose.catalogue import CATALOGUE


def run(*arguments, **options):
    return CliRunner().invoke(explain, arguments, **options)


@pytest.mark.parametrize("code", CATALOGUE)
def test_a_code_has_its_page_printed_as_it_is_where_there_is_no_terminal(code):
    result = run(code)

    assert result.exit_code == 0
    assert result.output == CATALOGUE[code].page


def test_a_code_may_be_in_lower_case():
    assert run("up101").output == run("UP101").output


def test_a_terminal_gets_the_page_rendered(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")

    result = run("UP101", color=True)

    assert "# UP101" not in result.output
    assert "UP101: Repeated statement (N+1)" in result.output
    assert "\x1b[" in result.output


def test_without_a_code_the_codes_are_listed():
    lines = run().output.splitlines()

    assert lines[0] == "UP101  Repeated statement (N+1)"
    assert len(lines) == len(CATALOGUE)


def test_an_unknown_code_is_answered_with_near_ones():
    result = run("UP110")

    assert result.exit_code == 2
    assert "no finding has the code 'UP110'; did you mean UP1" in result.output


@pytest.mark.parametrize("code", ["banana", "", "\x1b[31m" + "x" * 100_000, "../../etc/passwd"])
def test_a_code_that_is_like_none_is_answered_with_all_of_them(code):
    result = run(code)

    assert result.exit_code == 2
    assert f"the codes are {', '.join(CATALOGUE)}" in " ".join(result.output.split())
    assert "\x1b" not in result.output
    assert len(result.output) < 1_000
