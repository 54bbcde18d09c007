from __future__ import annotations

import json as standard_json
from pathlib import Path

import msgspec

from upshift.diagnose import Severity, Skipped
from upshift.diagnose.formats import json
from upshift.diagnose.formats.json_document import Document

ROOT = Path("/srv")


def test_the_document_has_every_field_of_version_1(finding, report):
    document = standard_json.loads(
        json(report(finding(), notes=("a note",), skipped=(Skipped("GET /me", "needs a login"),)), root=ROOT)
    )

    (found,) = document["findings"]
    fingerprint = found.pop("fingerprint")
    assert isinstance(fingerprint, str)
    assert found == {
        "code": "UP101",
        "severity": "error",
        "title": "N+1 on Order.customer: 51 statements in one request",
        "location": {"file": "shop/orders.py", "line": 42, "function": "list_orders"},
        "also": [],
        "routes": ["GET /orders"],
        "evidence": ["51 times: SELECT name FROM customer WHERE id = ?"],
        "fix": ["select(Order).options(selectinload(Order.customer))", "or Upshift(batching=True)"],
        "expect": "51 → 2 statements",
        "data": {"relationship": "Order.customer", "statements": 51},
    }
    assert document["version"] == 1
    assert document["summary"] == {
        "findings": {"error": 1, "warning": 0, "info": 0},
        "routes": 14,
        "requests": 60,
        "skipped": [{"route": "GET /me", "reason": "needs a login"}],
        "notes": ["a note"],
    }


def test_a_finding_without_a_line_has_no_location(finding, report):
    document = standard_json.loads(json(report(finding(site=None))))

    assert document["findings"][0]["location"] is None


def test_findings_are_counted_by_severity(finding, report):
    severities = [Severity.WARNING, Severity.WARNING, Severity.INFO]
    document = standard_json.loads(json(report(*(finding(severity=each) for each in severities))))

    assert document["summary"]["findings"] == {"error": 0, "warning": 2, "info": 1}


def test_its_types_read_it_back(finding, report):
    document = msgspec.json.decode(json(report(finding()), root=ROOT), type=Document)

    assert document.findings[0].location.file == "shop/orders.py"
    assert document.findings[0].data["statements"] == 51


def test_a_reader_of_version_1_reads_fields_that_came_later(report):
    document = standard_json.loads(json(report()))
    later = standard_json.dumps(document | {"later": True})

    assert msgspec.json.decode(later, type=Document).version == 1


def test_hostile_text_is_kept_whole_but_for_what_utf8_cannot_carry(hostile_finding, hostile, report):
    text = json(report(hostile_finding))

    assert b"\x1b" not in text
    found = standard_json.loads(text)["findings"][0]
    assert found["title"] == hostile.replace("\udcff", "?")
    assert len(found["evidence"][1]) == len(hostile_finding.evidence[1])


def test_numbers_that_json_has_not_become_null(finding, report):
    document = standard_json.loads(json(report(finding(data={"share": float("nan"), "most": float("inf")}))))

    assert document["findings"][0]["data"] == {"share": None, "most": None}


def test_the_document_ends_with_a_line_feed(report):
    assert json(report()).endswith(b"}\n")
