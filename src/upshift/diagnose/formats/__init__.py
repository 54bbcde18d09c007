"""How a report is printed: for people, for programs, for GitHub, for code scanners.

Flows in: a `Report`.
Flows out: the text for a terminal, or the UTF-8 bytes of a document.

What a report says comes from the application: its SQL, paths and function names. None of it may move a
cursor, forge a line or be taken for markup, so each format passes it through `display.one_line` or through
the escapes of its own standard.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from upshift.diagnose.formats.github import github
from upshift.diagnose.formats.json_document import json
from upshift.diagnose.formats.sarif import sarif
from upshift.diagnose.formats.table import table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from upshift.diagnose.report import Report

FORMATS: Mapping[str, Callable[[Report], str | bytes]] = {
    "table": table,
    "json": json,
    "github": github,
    "sarif": sarif,
}
"""The formats, by the name that `--format` takes."""

__all__ = ["FORMATS", "github", "json", "sarif", "table"]
