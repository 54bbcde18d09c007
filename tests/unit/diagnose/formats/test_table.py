from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from upshift.diagnose import Severity, Skipped
from upshift.diagnose.formats import table
from upshift.record import CallSite

ROOT = Path("/srv")


def shown(report, width=80, **options):
    return table(report, console=Console(file=io.StringIO(), width=width, **options), root=ROOT)


def test_a_finding_fits_eighty_columns_with_its_title_below_its_place(finding, report):
    assert shown(report(finding(evidence=("SELECT " + "name, " * 12 + "id FROM customer",)))) == (
        "UP101 error   shop/orders.py:42 list_orders\n"
        "              N+1 on Order.customer: 51 statements in one request\n"
        "      on      GET /orders\n"
        "      seen    SELECT name, name, name, name, name, name, name, name, name, name,\n"
        "              name, name, id FROM customer\n"
        "      fix     select(Order).options(selectinload(Order.customer))\n"
        "              or Upshift(batching=True)\n"
        "      expect  51 → 2 statements\n"
        "1 finding in 14 routes\n"
    )


def test_titles_stand_beside_their_places_where_all_of_them_fit(finding, report):
    lines = shown(
        report(
            finding(title="first"),
            finding(title="second", severity=Severity.WARNING, site=CallSite("/srv/shop/a.py", 7, "a")),
        )
    ).splitlines()

    assert lines[0] == "UP101 error   shop/orders.py:42 list_orders  first"
    assert lines[6] == "UP101 warning shop/a.py:7 a                  second"


def test_a_finding_without_a_line_stands_at_its_routes(finding, report):
    lines = shown(report(finding(site=None, routes=tuple(f"GET /{n}" for n in range(9))))).splitlines()

    assert lines[0] == "UP101 error   GET /0, GET /1, GET /2, … and 6 more"
    assert not any(line.startswith("      on") for line in lines)


def test_notes_and_skipped_routes_are_told_last(report):
    text = shown(
        report(notes=("GET /x answered 500",), skipped=(Skipped("GET /me", 'needs a login: --header "…"'),))
    )

    assert text == (
        "      note    GET /x answered 500\n"
        'no findings in 14 routes, 1 skipped (needs a login: --header "…")\n'
    )


def test_without_a_terminal_there_is_no_escape_sequence(finding, report):
    assert "\x1b" not in shown(report(finding()))


def test_a_terminal_gets_colour(finding, report):
    assert "\x1b[1;31merror" in shown(report(finding()), force_terminal=True, color_system="standard")


def test_no_color_is_honoured(finding, report, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")

    text = shown(report(finding()), force_terminal=True)

    assert "\x1b[1m" in text  # bold is no colour
    assert "31m" not in text


@pytest.mark.parametrize("width", [1, 34, 80, 200])
def test_hostile_text_neither_forges_a_line_nor_reaches_beyond_the_column(hostile_finding, report, width):
    lines = shown(report(hostile_finding, hostile_finding), width).splitlines()

    labels = [line[:14].split() for line in lines if not line.startswith(" " * 14)]
    assert labels[:-1] == [["UP101", "error"], ["on"], ["seen"], ["fix"], ["expect"]] * 2
    assert all(line.isprintable() for line in lines)
    assert max(map(cell_len, lines)) <= max(width, 34)


def test_markup_is_text(finding, report):
    assert "[bold]x[/bold] [link=http://a]" in shown(report(finding(expect="[bold]x[/bold] [link=http://a]")))


def test_long_sql_takes_a_few_lines(hostile_finding, report):
    assert len(shown(report(hostile_finding)).splitlines()) < 40


def test_ten_thousand_findings_are_all_shown(finding, report):
    text = shown(report(*[finding()] * 10_000))

    assert text.count("UP101 error") == 10_000
    assert text.endswith("10000 findings in 14 routes\n")


def test_an_output_that_cannot_encode_arrows_gets_question_marks(finding, report):
    code = (
        "import sys\n"
        "from upshift.diagnose import Report\n"
        "from upshift.diagnose.formats import table\n"
        "print(table(Report(findings=(), routes=1, requests=1, notes=('51 → 2',))), end='')\n"
    )
    source = str(Path(__file__).parents[4] / "src")
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONPATH": source},
        capture_output=True,
        check=True,
    )

    assert ran.stdout.splitlines() == [b"      note    51 ? 2", b"no findings in 1 route"]
