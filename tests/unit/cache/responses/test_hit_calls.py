"""What a hit costs, counted in calls: no clock decides."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from contextvars import ContextVar

import upshift
from upshift.record import Record

from .asking import App, scope_of

OURS = upshift.__path__[0]


async def ignore(message):
    """Nobody listens."""


def calls_of(served, scope):
    """Our own Python calls of one request, and those into C beside them."""
    ours, into_c = Counter(), Counter()

    def note(frame, event, argument):
        if frame.f_code.co_filename.startswith(OURS):
            if event == "call":
                ours[frame.f_code.co_qualname] += 1
            elif event == "c_call":
                into_c[argument.__qualname__] += 1

    coroutine = served(scope, None, ignore)
    sys.setprofile(note)
    try:
        coroutine.send(None)
    except StopIteration:
        pass
    finally:
        sys.setprofile(None)
    return ours, into_c


def served_hit(cache, *headers):
    current = ContextVar("current", default=None)
    current.set(Record("GET", "/things", 0.0))
    cache.responses("/things*")
    app = App((b"vary", b"Accept-Encoding"))
    served = cache.responses.around(app, current, lambda scope: scope["path_template"])
    for _ in range(2):
        asyncio.run(served(scope_of("/things", *headers), None, ignore))
    assert app.runs == 1
    return served


def test_a_hit_costs_three_python_calls(cache):
    headers = [(b"accept-encoding", b"gzip"), (b"user-agent", b"x"), (b"accept", b"*/*")]
    served = served_hit(cache, *headers)

    ours, into_c = calls_of(served, scope_of("/things", *headers))

    assert ours == {
        "AnswersFromStore.__call__": 1,
        "AnswersFromStore._quick": 1,
        "LocalTokens.holds": 1,
    }
    assert into_c.total() <= 10


def test_header_fields_that_do_not_matter_cost_no_call(cache):
    served = served_hit(cache)
    many = [(b"x-field-%d" % number, b"1") for number in range(100)]
    few = calls_of(served, scope_of("/things"))
    more = calls_of(served, scope_of("/things", *many))

    assert more == few


def test_a_request_that_no_rule_is_for_costs_one(cache):
    served = served_hit(cache)
    calls_of(served, scope_of("/others"))  # by which the path is known

    ours, _ = calls_of(served, scope_of("/others"))

    assert ours == {"AnswersFromStore.__call__": 1}
