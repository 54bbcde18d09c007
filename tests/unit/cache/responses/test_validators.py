"""Entity tags and conditions: the tables of RFC 9110 §8.8.3.2 and §13.1."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upshift.cache.responses.stored import Stored
from upshift.cache.responses.validators import entity_tag, is_current, names

MODIFIED = b"Sat, 29 Oct 2022 19:43:31 GMT"
LATER = b"Sun, 30 Oct 2022 19:43:31 GMT"
EARLIER = b"Fri, 28 Oct 2022 19:43:31 GMT"


def stored(etag=b'"a"', status=200, modified=MODIFIED):
    headers = ((b"etag", etag), (b"last-modified", modified))
    return Stored.of(status, headers, b"", made=0.0, is_public=False, route=None)


@pytest.mark.parametrize(
    ("if_none_match", "etag", "is_named"),
    [
        (b'"1"', b'"1"', True),
        (b'W/"1"', b'"1"', True),
        (b'"1"', b'W/"1"', True),
        (b'W/"1"', b'W/"1"', True),
        (b'W/"1"', b'W/"2"', False),
        (b'"1"', b'"2"', False),
        (b"*", b'"1"', True),
        (b" * ", b'"1"', True),
        (b'"2", W/"3" ,"1"', b'"1"', True),
        (b'"a, b"', b'"a, b"', True),
        (b'"a, b"', b'"a"', False),
        (b"1", b'"1"', False),
        (b"", b'"1"', False),
        (b'"', b'"1"', False),
        (b'"x"1"', b'"1"', False),
        (b'"1"' * 10_000, b'"2"', False),
    ],
)
def test_tags_are_compared_weakly(if_none_match, etag, is_named):
    assert names(if_none_match, etag) is is_named


@pytest.mark.parametrize(
    ("fields", "is_so"),
    [
        ({}, False),
        ({b"if-none-match": b'"a"'}, True),
        ({b"if-none-match": b'"b"', b"if-modified-since": LATER}, False),
        ({b"if-modified-since": MODIFIED}, True),
        ({b"if-modified-since": LATER}, True),
        ({b"if-modified-since": EARLIER}, False),
        ({b"if-modified-since": b"yesterday"}, False),
        ({b"if-modified-since": b"\xff"}, False),
    ],
)
def test_when_a_client_has_what_it_would_be_sent(fields, is_so):
    assert is_current(fields, stored()) is is_so


def test_conditions_are_for_what_was_found_only():
    assert not is_current({b"if-none-match": b"*"}, stored(status=404))


def test_without_a_date_nothing_is_known_to_be_unmodified():
    assert not is_current({b"if-modified-since": LATER}, stored(modified=b""))


@given(st.binary(), st.binary())
def test_tags_are_equal_where_bytes_are(one, other):
    assert (entity_tag(one) == entity_tag(other)) is (one == other)
    assert names(entity_tag(one), entity_tag(one))
