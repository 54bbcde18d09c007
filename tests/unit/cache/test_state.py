"""What a cache tells of what it is made of."""

from __future__ import annotations

import sqlalchemy as sa

from upshift import Cache
from upshift.cache.statistics import MAX_REASONS, OTHER_REASONS, Statistics


def test_engines_are_told_without_passwords_until_it_is_closed(tmp_path):
    cache = Cache(page=tmp_path / "cache.page")
    cache.watch([sa.create_engine("postgresql+psycopg://shop:secret@localhost/shop")])

    state = cache.state()
    cache.close()

    assert (state.place, state.page) == ("page", str(tmp_path / "cache.page"))
    assert state.watched == ("postgresql+psycopg://shop:***@localhost/shop",)
    assert cache.state().watched == ()


def test_what_is_kept_now_is_counted():
    cache = Cache()
    cache.set("rate", "x" * 1_000)
    assert (cache.state().entries, cache.state().bytes > 1_000) == (1, True)


def test_a_redis_that_is_not_there_says_why():
    cache = Cache("redis://127.0.0.1:1", name="away")
    state = cache.state().redis
    cache.close()

    assert (state.name, state.server, state.is_usable) == ("away", "127.0.0.1:1", False)
    assert state.reason


def test_reasons_that_name_values_take_no_more_and_more_memory():
    statistics = Statistics()
    for number in range(MAX_REASONS + 10):
        statistics.refuse(f"the value takes {number} bytes")
    statistics.refuse("the value takes 0 bytes")

    assert len(statistics.refused) == MAX_REASONS + 1
    assert statistics.refused[OTHER_REASONS] == 10
    assert statistics.refused["the value takes 0 bytes"] == 2
