from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upshift.diagnose.formats.display import (
    MAX_CHARACTERS,
    enclosing,
    evidence,
    explanation,
    one_line,
    relative,
)

any_text = st.text(st.characters())  # lone surrogates among them


@given(any_text)
def test_every_text_comes_out_printable_and_on_one_line(text):
    shown = one_line(text, None)

    assert shown.isprintable()
    assert len(shown.splitlines()) <= 1


@given(st.text(st.characters(blacklist_categories=["C", "Z"])))
def test_printable_text_is_left_as_it_is(text):
    assert one_line(text, None) == text


def test_indentation_is_kept_for_plans_and_code():
    assert one_line("  Index Scan") == "  Index Scan"


def test_long_text_is_cut_and_says_so():
    shown = one_line("x" * 1_000_000)

    assert len(shown) == MAX_CHARACTERS
    assert shown.endswith("x…")


@pytest.mark.parametrize(
    ("file", "shown"),
    [
        ("/srv/shop/orders.py", "shop/orders.py"),
        ("/srv2/orders.py", "/srv2/orders.py"),
        ("/usr/lib/plugin.py", "/usr/lib/plugin.py"),
        ("orders.py", "orders.py"),
    ],
)
def test_paths_below_the_root_are_relative_to_it(file, shown):
    assert relative(file, Path("/srv")) == shown


def test_the_root_is_the_current_folder_where_none_is_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert relative(f"{tmp_path}/orders.py") == "orders.py"


@pytest.mark.parametrize(
    "qualified_name",
    ["list_orders", "list_orders.<locals>.<listcomp>", "list_orders.<locals>.<lambda>.<locals>.<genexpr>"],
)
def test_a_comprehension_is_told_as_the_function_that_it_stands_in(qualified_name):
    assert enclosing(qualified_name) == "list_orders"


def test_facts_beyond_the_bound_are_counted(finding):
    shown = list(evidence(finding(evidence=tuple(map(str, range(10))))))

    assert shown == ["0", "1", "2", "3", "4", "5", "… and 4 more (--format json)"]


def test_a_fix_is_never_cut(finding):
    fix = "CREATE INDEX i ON t (" + ", ".join(f"column_{n}" for n in range(1_000)) + ")"

    assert f"Fix: {fix}\nExpect: " in explanation(finding(fix=(fix,)))
