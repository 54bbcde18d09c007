"""Findings as workflow commands, which GitHub Actions shows as annotations beside the code.

The commands and their escapes are those of
https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands and of `command.ts` in
https://github.com/actions/toolkit. Every line is a command, so nothing that an application says can be one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from upshift.diagnose.finding import Severity
from upshift.diagnose.formats.display import explanation, one_line, relative

if TYPE_CHECKING:
    from pathlib import Path

    from upshift.diagnose.finding import Finding
    from upshift.diagnose.report import Report

_COMMANDS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "notice"}
_IN_DATA = str.maketrans({"%": "%25", "\r": "%0D", "\n": "%0A"})
_IN_PROPERTIES = _IN_DATA | str.maketrans({":": "%3A", ",": "%2C"})


def github(report: Report, *, root: Path | None = None) -> bytes:
    """Return a workflow command for each finding and each note, and one for the summary, in UTF-8.

    Args:
        report: what to print.
        root: paths are relative to it; the current folder where none is given. GitHub finds the lines when it
            is the root of the checkout.
    """
    commands = [_annotation(finding, root) for finding in report.findings]
    commands += [
        _command("notice", one_line(text), title="Upshift") for text in (*report.notes, report.summary)
    ]
    return "".join(f"{command}\n" for command in commands).encode("utf-8", "replace")


def _annotation(finding: Finding, root: Path | None) -> str:
    place = {}
    if finding.site is not None:
        place = {"file": one_line(relative(finding.site.file, root), None), "line": str(finding.site.line)}
    title = f"{finding.code} {one_line(finding.title)}"
    return _command(_COMMANDS[finding.severity], explanation(finding), **place, title=title)


def _command(name: str, message: str, **properties: str) -> str:
    listed = ",".join(f"{key}={value.translate(_IN_PROPERTIES)}" for key, value in properties.items())
    return f"::{name} {listed}::{message.translate(_IN_DATA)}"
