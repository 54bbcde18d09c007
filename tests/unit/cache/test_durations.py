"""Times as people write them."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upshift.cache.durations import seconds_of
from upshift.errors import SettingsError


@pytest.mark.parametrize(
    ("text", "seconds"), [("250ms", 0.25), ("30s", 30), (" 5m ", 300), ("1.5h", 5_400), ("7d", 604_800)]
)
def test_texts_are_read(text, seconds):
    assert seconds_of(text) == seconds


@given(st.integers(1, 10**9))
def test_numbers_are_seconds(number):
    assert seconds_of(number) == seconds_of(timedelta(seconds=number)) == seconds_of(f"{number}s") == number


@pytest.mark.parametrize(
    "wrong", ["", "5", "h", "-5m", "5 minutes", "1e3s", 0, -1, float("inf"), float("nan"), timedelta(0)]
)
def test_anything_else_is_refused(wrong):
    with pytest.raises(SettingsError, match="is no duration"):
        seconds_of(wrong)
