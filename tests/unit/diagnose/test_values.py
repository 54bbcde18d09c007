from hypothesis import given
from hypothesis import strategies as st

from upshift.diagnose.values import MAX_VALUES, Values, singular, spread

json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.text(), json)
def test_any_json_under_any_template_can_be_gathered(template, answer):
    Values().gather(template, answer)


def test_no_more_than_a_bounded_number_of_values_is_kept():
    values = Values()

    values.gather("/things", [{"id": i} for i in range(10 * MAX_VALUES)])

    assert len(values.of("thing_id", "/things/{thing_id}")) == MAX_VALUES


def test_a_deeply_nested_answer_is_read_without_recursion():
    answer = {"id": 1}
    for _ in range(5_000):
        answer = {"child": answer}

    Values().gather("/trees", answer)


def test_booleans_and_nulls_are_no_identifiers():
    values = Values()

    values.gather("/things", [{"id": None}, {"id": True}])

    assert values.of("thing_id", "/things/{thing_id}") == []


@given(st.lists(st.integers(), unique=True), st.integers(1, 20))
def test_a_spread_keeps_the_order_and_the_bound(values, most):
    chosen = spread(values, most)

    assert len(chosen) == min(len(values), most)
    assert chosen == [value for value in values if value in chosen]


def test_common_plurals_become_singular():
    plurals = ["boxes", "classes", "batches", "dishes", "stations", "status"]

    assert [singular(plural) for plural in plurals] == ["box", "class", "batch", "dish", "station", "statu"]
