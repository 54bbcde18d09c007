"""Keys: requests that an application reads alike have one, others do not."""

from __future__ import annotations

from itertools import groupby
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upshift.cache.responses.keys import MAX_KEY, canonical_query, key_of

from .asking import scope_of

HOST = (b"shop.example", None)
NAMES = st.sampled_from(["a", "b", "a%62", "ab", "%61", "a+", "a%20", "", "%", "%e4%b8", "%ff", "%fe", "é"])
QUERIES = st.lists(st.tuples(NAMES, st.sampled_from(["", "1", "2", "%31"])), max_size=6)


def as_read(query):
    """What Starlette makes of a query: the values of each name, in their order."""
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    named = sorted(pairs, key=lambda pair: pair[0])
    return {name: [value for _, value in values] for name, values in groupby(named, lambda pair: pair[0])}


def query_of(pairs):
    return "&".join(f"{name}={value}" for name, value in pairs).encode("latin-1")


@given(QUERIES, st.randoms(use_true_random=False))
def test_queries_of_one_form_are_read_alike(pairs, random):
    other = [*pairs]
    random.shuffle(other)

    if canonical_query(query_of(pairs)) == canonical_query(query_of(other)):
        assert as_read(query_of(pairs)) == as_read(query_of(other))


@given(QUERIES)
def test_the_form_of_a_query_is_read_as_the_query(pairs):
    assert as_read(canonical_query(query_of(pairs))) == as_read(query_of(pairs))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("page=2&sort=price", "sort=price&page=2"),
        ("page=2&", "page=2&&"),
        ("page=2&&sort=price", "page=2&sort=price&"),
        ("b=1&a%62=2", "a%62=2&b=1"),
    ],
)
def test_the_order_of_names_does_not_matter(one, other):
    first, second = scope_of(f"/things?{one}"), scope_of(f"/things?{other}")

    assert key_of(0, first, None, HOST) == key_of(0, second, None, HOST)


@pytest.mark.parametrize(
    ("target", "about"),
    [
        ("/things?page=2", {}),
        ("/things?page=02", {}),
        ("/thing", {}),
        ("/things/", {}),
        ("/things", {"scheme": "https"}),
        ("/THINGS", {}),
    ],
)
def test_other_addresses_have_other_keys(target, about):
    plain = key_of(0, scope_of("/things"), None, HOST)

    assert key_of(0, scope_of(target, **about), None, HOST) != plain


@pytest.mark.parametrize(
    ("place", "identity", "values"),
    [
        (1, None, HOST),
        (0, "Mei", HOST),
        (0, None, (b"evil.example", None)),
        (0, None, (b"shop.example", b"https://app.example")),
        (0, None, (b"shop.example", b"")),
        (0, None, (None, b"shop.example")),
        (0, None, (*HOST, None)),
    ],
)
def test_other_circumstances_have_other_keys(place, identity, values):
    assert key_of(place, scope_of(), identity, values) != key_of(0, scope_of(), None, HOST)


def test_a_huge_query_is_not_taken_apart():
    huge = b"&".join(b"p%d=1" % number for number in reversed(range(MAX_KEY)))

    assert canonical_query(huge) is huge
