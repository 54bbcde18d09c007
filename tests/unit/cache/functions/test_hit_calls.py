"""A hit, counted in calls, so that a slow-down fails without a clock.

A count that rises on purpose is changed here, with the reason in the changelog.
"""

from __future__ import annotations

import sys
from collections import Counter
from contextvars import Context

from sqlalchemy import create_engine, text
from sqlalchemy.pool import StaticPool


def counted(work, context=None):
    """Return what some work calls, in Python and in C."""
    calls, in_c = Counter(), Counter()

    def note(frame, event, argument):
        if event == "call":
            calls[frame.f_code.co_name] += 1
        elif event == "c_call":
            in_c[argument.__name__] += 1

    def profiled():
        sys.setprofile(note)
        try:
            work()
        finally:
            sys.setprofile(None)

    (context or Context()).run(profiled)  # other tests have written in the one that is running
    del in_c["setprofile"], calls["<lambda>"]
    return dict(calls), dict(in_c)


HIT_IN_C = {"get": 4, "len": 1, "monotonic": 1}
"""The entry, what is being read, what is being written, the request; the arguments; the time."""


def drive(coroutine):
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise AssertionError("a hit waits for nothing")


async def test_of_an_async_function_with_two_tags_a_time_and_statistics(cache):
    @cache.cached(ttl="1h", tags=["menu:{number}", "menus"], refresh_ahead=0.1, stale_on_error="1d")
    async def menu(number):
        return number

    await menu(7)
    calls, in_c = counted(lambda: drive(menu(7)))
    in_c.pop("send")
    calls.pop("drive")

    assert calls == {"cached_async": 1, "holds": 1}
    assert in_c == HIT_IN_C


def test_of_a_function_that_is_not_awaited(cache):
    @cache.cached(ttl="1h", tags=["menu:{number}", "menus"])
    def menu(number):
        return number

    menu(7)
    calls, in_c = counted(lambda: menu(7))

    assert calls == {"cached": 1, "holds": 1}
    assert in_c == HIT_IN_C


def test_of_one_who_has_written_and_committed_before(cache):
    engine = create_engine("sqlite://", poolclass=StaticPool)
    cache.watch([engine])

    @cache.cached()
    def menu(number):
        return number

    menu(7)

    def write_and_read():
        with engine.begin() as connection:
            connection.execute(text("CREATE TABLE t (a int)"))
        menu(7)

    context = Context()
    context.run(write_and_read)
    calls, in_c = counted(lambda: menu(7), context)
    engine.dispose()

    assert calls == {"cached": 1, "holds": 1}
    assert in_c == HIT_IN_C
