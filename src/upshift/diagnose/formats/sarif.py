"""Findings as SARIF 2.1.0, for code scanning (https://docs.oasis-open.org/sarif/sarif/v2.1.0/).

GitHub accepts a subset and asks for more within it
(https://docs.github.com/en/code-security/reference/code-scanning/sarif-files/sarif-support): rules with help,
and a physical location of every result.
"""

from __future__ import annotations

import os
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from upshift.diagnose.catalogue import CATALOGUE
from upshift.diagnose.finding import Severity
from upshift.diagnose.formats.display import enclosing, explanation, one_line, relative
from upshift.diagnose.formats.fingerprint import fingerprints

if TYPE_CHECKING:
    from upshift.diagnose import catalogue
    from upshift.diagnose.finding import Finding
    from upshift.diagnose.report import Report
    from upshift.record import CallSite

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"

NO_FILE = "no file associated with this finding"
"""Stands for the file of a finding without one, as OpenSSF Scorecard has it: GitHub refuses a whole document
for one result without a location."""

_LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}
_RULES = tuple(CATALOGUE)


def sarif(report: Report, *, root: Path | None = None) -> bytes:
    """Return the report as an indented SARIF document in UTF-8.

    Args:
        report: what to print.
        root: URIs are relative to it; the current folder where none is given. GitHub finds the lines when it
            is the root of the checkout.
    """
    run = {
        "tool": {"driver": _driver()},
        "originalUriBaseIds": {"%SRCROOT%": {"description": {"text": "The root of the source tree."}}},
        "invocations": [{"executionSuccessful": True, "toolExecutionNotifications": _notifications(report)}],
        "results": [
            _result(finding, fingerprint, root)
            for finding, fingerprint in zip(report.findings, fingerprints(report.findings, root), strict=True)
        ],
    }
    document = {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def _driver() -> dict[str, Any]:
    driver: dict[str, Any] = {"name": "Upshift", "rules": [_rule(entry) for entry in CATALOGUE.values()]}
    with suppress(PackageNotFoundError):  # it runs from a checkout that is not installed
        driver["version"] = version("upshift")
    return driver


def _rule(entry: catalogue.Entry) -> dict[str, Any]:
    rule: dict[str, Any] = {
        "id": entry.code,
        "shortDescription": {"text": entry.title},
        "fullDescription": {"text": entry.summary},
        "help": {"text": entry.summary, "markdown": entry.page},
        "defaultConfiguration": {"level": _LEVELS[entry.severity]},
        "properties": {"tags": ["performance"], "precision": "high"},
    }
    if entry.url is not None:
        rule["helpUri"] = entry.url
    return rule


def _result(finding: Finding, fingerprint: str, root: Path | None) -> dict[str, Any]:
    return {
        "ruleId": finding.code,
        "ruleIndex": _RULES.index(finding.code),
        "level": _LEVELS[finding.severity],
        "message": _message(f"{one_line(finding.title)}.\n{explanation(finding)}"),
        "locations": [_location(finding.site, root)],
        # GitHub's upload adds `primaryLocationLineHash`, of the line's text, beside ours.
        "partialFingerprints": {"upshiftCause/v1": fingerprint},
        "properties": {"routes": [one_line(route) for route in finding.routes]},
    }


def _location(site: CallSite | None, root: Path | None) -> dict[str, Any]:
    if site is None:
        return {"physicalLocation": {"artifactLocation": {"uri": quote(NO_FILE)}, "region": {"startLine": 1}}}
    return {
        "physicalLocation": {
            "artifactLocation": _artifact(relative(site.file, root)),
            "region": {"startLine": site.line},
        },
        "logicalLocations": [{"fullyQualifiedName": one_line(enclosing(site.function)), "kind": "function"}],
    }


def _artifact(file: str) -> dict[str, str]:
    if Path(file).is_absolute():
        return {"uri": Path(file).as_uri()}
    return {"uri": quote(os.fsencode(file)), "uriBaseId": "%SRCROOT%"}


def _notifications(report: Report) -> list[dict[str, Any]]:
    skipped = (f"{each.route} was skipped: {each.reason}" for each in report.skipped)
    return [
        {"level": "note", "message": _message(one_line(text, None))} for text in (*report.notes, *skipped)
    ]


def _message(text: str) -> dict[str, str]:
    # Braces hold placeholders; doubled they stand for themselves (SARIF 2.1.0 §3.11.5).
    return {"text": text.replace("{", "{{").replace("}", "}}")}
