from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from upshift.sql.indexes.index import Index, IndexColumn
from upshift.sql.indexes.selection import choose


def index(columns: str) -> Index:
    return Index("postgresql", "t", tuple(map(IndexColumn, columns)))


DEAR = dict.fromkeys("pqrs", 1e4)


def test_the_narrow_index_is_chosen_where_it_does_about_as_well():
    assert choose({index("a"): {"p": 10.5}, index("ab"): {"p": 10.0}}, DEAR) == [index("a")]


def test_the_wide_index_is_chosen_where_it_does_better():
    assert choose({index("a"): {"p": 12.0}, index("ab"): {"p": 10.0}}, DEAR) == [index("ab")]


def test_a_difference_that_is_negligible_does_not_count():
    gains = {index("a"): {"p": 12.0}, index("ab"): {"p": 9.0}}
    assert choose(gains, DEAR, negligible=4.0) == [index("a")]
    assert choose(gains, DEAR, negligible=1.0) == [index("ab")]


def test_one_index_that_serves_two_statements_is_chosen_before_one_for_each():
    gains = {index("a"): {"p": 10.0}, index("b"): {"q": 10.0}, index("ab"): {"p": 10.0, "q": 10.0}}
    assert choose(gains, DEAR) == [index("ab")]


def test_what_runs_often_decides():
    gains = {index("a"): {"p": 10.0, "q": 9e3}, index("b"): {"q": 10.0}}
    often = {"p": 1.0, "q": 100.0}
    assert choose(gains, DEAR, often.__getitem__) == [index("b"), index("a")]


def test_an_index_that_costs_more_than_it_saves_is_left():
    gains = {index("a"): {"p": 10.0}, index("b"): {"q": 10.0}}
    assert choose(gains, DEAR, upkeep=lambda each: 1e6 if each == index("a") else 0.0) == [index("b")]


def test_a_smaller_index_is_chosen_where_the_larger_one_costs_the_writes_too_much():
    gains = {index("a"): {"p": 100.0}, index("ab"): {"p": 10.0}}
    assert choose(gains, DEAR, upkeep=lambda each: 200.0 * len(each.columns)) == [index("a")]


def test_of_equally_small_ones_that_do_about_as_well_the_first_is_chosen():
    gains = {index("ab"): {"p": 10.1}, index("ba"): {"p": 10.0}}
    assert choose(gains, DEAR) == [index("ab")]


def test_included_columns_count_as_width():
    carrying = replace(index("a"), include=("b",))
    assert choose({carrying: {"p": 10.0}, index("a"): {"p": 10.0}}, DEAR) == [index("a")]


def test_nothing_is_chosen_where_nothing_helps():
    assert choose({}, DEAR) == []
    assert choose({index("a"): {}}, DEAR) == []
    assert choose({index("a"): {"p": 2e4}}, DEAR) == []


COSTS = st.dictionaries(
    st.sampled_from([index(columns) for columns in ("a", "b", "ab", "ba", "abc")]),
    st.dictionaries(st.sampled_from("pqrs"), st.floats(1, 1e4)),
)


@given(COSTS, st.floats(0, 1e3))
def test_no_index_that_was_left_would_have_saved_much_more(gains, negligible):
    chosen = choose(gains, DEAR, negligible=negligible)
    assert len(set(chosen)) == len(chosen)
    standing = {
        key: min([cost, *(gains[each].get(key, cost) for each in chosen)]) for key, cost in DEAR.items()
    }
    assert sum(standing.values()) <= sum(DEAR.values())
    for costs in gains.values():
        better = [key for key, cost in costs.items() if cost < standing[key]]
        saved = sum(standing[key] - costs[key] for key in better)
        assert saved <= sum(negligible + 0.1 * costs[key] + 1e-3 for key in better)
