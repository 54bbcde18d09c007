"""Findings as JSON, for programs.

The types below are the schema, and read a document back: `msgspec.json.decode(text, type=Document)`. Within
one `version` fields are added, never removed and never given another meaning.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING, Any, Literal, cast

import msgspec

from upshift.diagnose.finding import Severity
from upshift.diagnose.formats.display import enclosing, relative
from upshift.diagnose.formats.fingerprint import fingerprints
from upshift.diagnose.report import Skipped  # noqa: TC001 - msgspec reads the types when it decodes
from upshift.record.encodable import encodable

if TYPE_CHECKING:
    from pathlib import Path

    from upshift.diagnose.finding import Finding
    from upshift.diagnose.report import Report
    from upshift.record import CallSite

SeverityName = Literal["error", "warning", "info"]


@dataclass(frozen=True, slots=True)
class Location:
    """A line of the application.

    Attributes:
        file: the path, relative to the folder in which the command ran where it lies below that.
        line: the line number, from 1.
        function: the function's qualified name.
    """

    file: str
    line: int
    function: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One finding.

    Attributes:
        code: the stable code (`UP101`).
        severity: `error`, `warning` or `info`.
        title: what is wrong, in one line.
        location: the application's line; null where a finding belongs to no line.
        also: other lines where the same cause was seen.
        routes: the routes on which it was seen.
        evidence: what was observed, one fact an item.
        fix: what to write or run, one alternative an item.
        expect: the gain to expect.
        fingerprint: equal for the same finding in another run, though its line has moved.
        data: the facts for machines; each code has its own.
    """

    code: str
    severity: SeverityName
    title: str
    location: Location | None
    also: tuple[Location, ...]
    routes: tuple[str, ...]
    evidence: tuple[str, ...]
    fix: tuple[str, ...]
    expect: str
    fingerprint: str
    data: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What was looked at.

    Attributes:
        findings: how many findings there are of each severity.
        routes: how many routes were judged.
        requests: how many requests were sent to them.
        skipped: routes that were not judged, each with the reason.
        notes: what else the reader should know.
    """

    findings: dict[str, int]
    routes: int
    requests: int
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """The whole.

    Attributes:
        version: of the schema.
        findings: the findings, the worst first.
        summary: what was looked at.
    """

    version: Literal[1] = 1
    findings: tuple[Entry, ...]
    summary: Summary


def json(report: Report, *, root: Path | None = None) -> bytes:
    """Return the report as an indented JSON document in UTF-8.

    Args:
        report: what to print.
        root: paths are relative to it; the current folder where none is given.
    """
    found = Counter(finding.severity for finding in report.findings)
    document = Document(
        findings=tuple(map(_entry, report.findings, fingerprints(report.findings, root), repeat(root))),
        summary=Summary(
            findings={severity.label: found[severity] for severity in sorted(Severity, reverse=True)},
            routes=report.routes,
            requests=report.requests,
            skipped=report.skipped,
            notes=report.notes,
        ),
    )
    plain = encodable(msgspec.to_builtins(document))
    return msgspec.json.format(msgspec.json.encode(plain), indent=2) + b"\n"


def _entry(finding: Finding, fingerprint: str, root: Path | None) -> Entry:
    site = finding.site
    return Entry(
        code=finding.code,
        severity=cast("SeverityName", finding.severity.label),
        title=finding.title,
        location=_location(site, root) if site else None,
        also=tuple(_location(each, root) for each in finding.also),
        routes=finding.routes,
        evidence=finding.evidence,
        fix=finding.fix,
        expect=finding.expect,
        fingerprint=fingerprint,
        data=dict(finding.data),
    )


def _location(site: CallSite, root: Path | None) -> Location:
    return Location(relative(site.file, root), site.line, enclosing(site.function))
