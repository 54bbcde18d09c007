from __future__ import annotations

import pytest

from upshift.diagnose.catalogue import CATALOGUE
from upshift.diagnose.rules import RULES


def test_every_rule_is_in_the_catalogue_and_nothing_else():
    assert list(CATALOGUE) == sorted(rule.CODE for rule in RULES)


@pytest.mark.parametrize("entry", CATALOGUE.values(), ids=list(CATALOGUE))
def test_a_page_begins_with_the_title_and_the_summary(entry):
    title, summary, *_ = entry.page.split("\n\n")

    assert title == f"# {entry.code}: {entry.title}"
    assert " ".join(summary.split()) == entry.summary


@pytest.mark.parametrize("entry", CATALOGUE.values(), ids=list(CATALOGUE))
def test_a_page_answers_every_question(entry):
    sections = [line.removeprefix("## ") for line in entry.page.splitlines() if line.startswith("## ")]

    assert sections == ["What it means", "How it is found", "Example", "Fix", "When it is no problem"]
