from __future__ import annotations

import pytest

from upshift.diagnose import Finding, Report, Severity, Skipped

FINDING = Finding(code="UP101", severity=Severity.ERROR, title="", site=None, fix=(), expect="", data={})


def summary(findings=0, routes=14, reasons=()):
    skipped = tuple(Skipped(f"GET /{n}", reason) for n, reason in enumerate(reasons))
    return Report(findings=(FINDING,) * findings, routes=routes, requests=60, skipped=skipped).summary


@pytest.mark.parametrize(
    ("findings", "routes", "expected"),
    [
        (0, 0, "no findings in no routes"),
        (1, 1, "1 finding in 1 route"),
        (2, 14, "2 findings in 14 routes"),
    ],
)
def test_findings_and_routes_are_counted(findings, routes, expected):
    assert summary(findings, routes) == expected


def test_one_reason_is_told_once():
    assert summary(2, reasons=["needs a login"] * 3) == "2 findings in 14 routes, 3 skipped (needs a login)"


def test_several_reasons_are_told_with_their_counts_the_most_frequent_first():
    reasons = ["a", "b", "b", "c", "d", "e", "e"]

    assert summary(reasons=reasons).endswith(", 7 skipped (2: b; 2: e; 1: a; 2: other reasons)")
