"""The pages say what the code says."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from upshift import errors
from upshift.diagnose.catalogue import CATALOGUE
from upshift.settings import Settings, explain_settings

DOCS = Path(__file__).parents[2] / "docs"
_LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)#]+)[^)]*\)")


def test_every_exception_has_a_section_in_the_order_of_the_module():
    page = (DOCS / "errors.md").read_text("utf-8")
    sections = re.findall(r"^## (\w+)$", page, re.MULTILINE)

    exceptions = [name for name, value in vars(errors).items() if inspect.isclass(value)]
    assert sections == exceptions


def test_the_index_lists_every_finding_with_its_title_and_severity():
    index = (DOCS / "findings" / "README.md").read_text("utf-8")
    rows = re.findall(r"^\| \[(\w+)\]\((\w+\.md)\) \| ([^|]+) \| (\w+) \|", index, re.MULTILINE)

    assert rows == [
        (entry.code, f"{entry.code}.md", entry.title, entry.severity.label) for entry in CATALOGUE.values()
    ]


def test_every_page_of_a_finding_is_in_the_catalogue():
    assert sorted(page.stem for page in (DOCS / "findings").glob("UP*.md")) == list(CATALOGUE)


def test_links_between_pages_lead_somewhere():
    pages = [page for page in (DOCS.parent / "README.md", *DOCS.glob("**/*.md")) if page.is_file()]
    broken = [
        (page.name, target)
        for page in pages
        for target in _LINK.findall(page.read_text("utf-8"))
        if "://" not in target and not (page.parent / target).exists()
    ]

    assert broken == []


def test_every_setting_has_its_row_with_variable_and_default():
    page = (DOCS / "settings.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| (?:`([^`]+)`|none) \|", page, re.MULTILINE)

    explained = [each for each in explain_settings(Settings(), {}) if each.name != "environment"]
    assert rows == [(each.name, each.variable, each.value) for each in explained]


def test_every_page_is_in_the_index():
    index = (DOCS / "README.md").read_text("utf-8")
    linked = {target for target in _LINK.findall(index) if "/" not in target}

    assert linked == {page.name for page in DOCS.glob("*.md")} - {"README.md"}
