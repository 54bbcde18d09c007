"""What Cache-Control says, also where it is written as nobody should."""

from __future__ import annotations

from email.utils import formatdate
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upshift.cache.responses.directives import ANYTHING, Wish, directives, lifetime_of, wish_of

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("", {}),
        ("no-store", {"no-store": ""}),
        ("Max-Age=60, PUBLIC", {"max-age": "60", "public": ""}),
        ('private="set-cookie, x-user", no-cache', {"private": "set-cookie, x-user", "no-cache": ""}),
        ('max-age="60"', {"max-age": "60"}),
        (", ,max-age=60,,", {"max-age": "60"}),
        ("max-age=60, max-age=5", {"max-age": "60"}),
        ("no-store;max-age=60 public", {"no-store": "", "max-age": "60", "public": ""}),
        ("max-age = 60", {"max-age": "", "60": ""}),
        ('x="a\\", no-store", public', {"x": 'a\\", no-store', "public": ""}),
        ('"no-store"', {"no-store": ""}),
        ("a" * 1_001, {"no-store": ""}),
    ],
)
def test_directives_are_read_as_the_rfc_writes_them(value, said):
    assert directives(value) == said


@given(st.text(max_size=2_000))
def test_no_text_is_too_strange_to_be_read(value):
    assert all(name == name.lower() for name in directives(value))
    assert isinstance(wish_of(value, value), Wish)


@pytest.mark.parametrize(
    ("cache_control", "pragma", "wish"),
    [
        ("", "", ANYTHING),
        ("no-store", "", Wish(may_store=False)),
        ("no-cache", "", Wish(may_reuse=False)),
        ("", "no-cache", Wish(may_reuse=False)),
        ("max-age=60", "no-cache", Wish(max_age=60)),
        ("max-age=0", "", Wish(max_age=0)),
        ("max-age=soon", "", Wish(max_age=0)),
        ("max-age=-1", "", Wish(max_age=0)),
        ("max-age=" + "9" * 5_00, "", Wish(max_age=9_999_999_999)),
        ("min-fresh=10, only-if-cached", "", Wish(min_fresh=10, only_stored=True)),
        ("min-fresh=x", "", Wish(min_fresh=inf)),
        ("max-stale=60, no-transform, stale-if-error", "", ANYTHING),
    ],
)
def test_what_a_request_allows(cache_control, pragma, wish):
    assert wish_of(cache_control, pragma) == wish


@pytest.mark.parametrize(
    ("cache_control", "fields", "is_shared", "seconds"),
    [
        ("", {}, True, inf),
        ("max-age=60", {}, True, 60),
        ("max-age=60, s-maxage=300", {}, True, 300),
        ("max-age=60, s-maxage=300", {}, False, 60),
        ("s-maxage=300", {}, False, inf),
        ("max-age=60", {b"age": b"50"}, True, 10),
        ("max-age=60", {b"age": b"a long time"}, True, 60),
        ("max-age=1.5", {}, True, 0),
        ("max-age", {}, True, 0),
        ("", {b"expires": formatdate(NOW + 90, usegmt=True).encode()}, True, 90),
        ("", {b"expires": b"0"}, True, 0),
        ("", {b"expires": b"Thu, 99 Jan 2026 00:00:00 GMT"}, True, 0),
        ("max-age=60", {b"expires": b"0"}, True, 60),
    ],
)
def test_how_long_a_response_says_that_it_is_good(cache_control, fields, is_shared, seconds):
    assert lifetime_of(directives(cache_control), fields, is_shared=is_shared, now=NOW) == seconds
