from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from upshift.diagnose import Severity, Skipped
from upshift.diagnose.formats import github
from upshift.record import CallSite

ROOT = Path("/srv")
_COMMAND = re.compile(r"::(?P<name>\w+) (?P<properties>[^:]*)::(?P<message>.*)")


def run(line):
    """What the runner makes of a line (actions/runner, ActionCommand.cs)."""
    command = _COMMAND.fullmatch(line)
    properties = dict(each.split("=", 1) for each in command["properties"].split(","))
    decoded = {
        key: value.replace("%3A", ":").replace("%2C", ",").replace("%0A", "\n").replace("%25", "%")
        for key, value in properties.items()
    }
    return command["name"], decoded, command["message"].replace("%0A", "\n").replace("%25", "%")


def commands(report):
    return [run(line) for line in github(report, root=ROOT).decode().removesuffix("\n").split("\n")]


def test_a_finding_is_an_annotation_at_its_line(finding, report):
    name, properties, message = commands(report(finding()))[0]

    assert name == "error"
    assert properties == {
        "file": "shop/orders.py",
        "line": "42",
        "title": "UP101 N+1 on Order.customer: 51 statements in one request",
    }
    assert message.split("\n") == [
        "51 times: SELECT name FROM customer WHERE id = ?",
        "Fix: select(Order).options(selectinload(Order.customer))",
        "or Upshift(batching=True)",
        "Expect: 51 → 2 statements",
    ]


def test_the_characters_that_end_a_property_are_escaped(finding, report):
    text = github(report(finding(title="100%: a, b", site=CallSite("/srv/a,b:c%.py", 1, "f"))), root=ROOT)

    assert text.startswith(b"::error file=a%2Cb%3Ac%25.py,line=1,title=UP101 100%25%3A a%2C b::")


def test_the_message_keeps_colons_and_commas(finding, report):
    text = github(report(finding(evidence=("100%: a, b",), fix=("x",), expect="y")))

    assert b"::100%25: a, b%0AFix: x%0AExpect: y\n" in text


@pytest.mark.parametrize(
    ("severity", "name"),
    [(Severity.ERROR, "error"), (Severity.WARNING, "warning"), (Severity.INFO, "notice")],
)
def test_each_severity_has_its_command(finding, report, severity, name):
    assert commands(report(finding(severity=severity)))[0][0] == name


def test_a_finding_without_a_line_names_no_file(finding, report):
    _, properties, _ = commands(report(finding(site=None)))[0]

    assert properties.keys() == {"title"}


def test_notes_and_summary_are_notices(report):
    skipped = (Skipped("GET /me", "needs a login"),)

    assert commands(report(notes=("a note",), skipped=skipped)) == [
        ("notice", {"title": "Upshift"}, "a note"),
        ("notice", {"title": "Upshift"}, "no findings in 14 routes, 1 skipped (needs a login)"),
    ]


@given(text=st.text(st.characters()))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_text_forges_a_command(finding, report, text):
    site = CallSite(f"/srv/{text}", 1, text)
    hostile = finding(title=text, site=site, evidence=(text,), fix=(text,), expect=text)

    found, note, summary = commands(report(hostile, notes=(text,)))

    assert found[0] == "error"
    assert found[1].keys() == {"file", "line", "title"}
    assert (note[0], summary[0]) == ("notice", "notice")


def test_ten_thousand_findings_are_ten_thousand_annotations(finding, report):
    assert github(report(*[finding()] * 10_000)).count(b"::error ") == 10_000
