"""The work for one line, counted in calls, so that a slow-down fails without a clock.

A count that rises on purpose is changed here, with the reason in the changelog.
"""

import sys
from collections import Counter
from pathlib import Path

import upshift
from upshift.telemetry.logs import AccessLog, Formatter
from upshift.telemetry.logs.access_lines import JsonAccess
from upshift.telemetry.logs.json_lines import PLAIN, JsonLines
from upshift.telemetry.logs.values import Values

OURS = str(Path(upshift.__file__).parent)


def calls_of(work):
    """Python functions and C functions called by Upshift's own code, not for the first time."""
    python, c = Counter(), Counter()

    def count(frame, event, argument):
        if not frame.f_code.co_filename.startswith(OURS):
            return
        if event == "call":
            python[frame.f_code.co_qualname] += 1
        elif event == "c_call":
            c[argument.__qualname__] += 1

    for _ in range(3):
        work()
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return python, c


def access_log():
    return AccessLog(JsonAccess("shop", Values(["password"]), ecs=False).append, lambda lines: None)


def test_the_line_of_a_request_costs_five_python_calls(closed, ran):
    log, record = access_log(), closed(statements=[ran(0.001)] * 3)
    python, c = calls_of(lambda: log.take(record))
    assert python == {
        "AccessLog.take": 1,
        "JsonAccess.append": 1,
        "JsonAccess._line": 1,
        "Timestamps.at": 1,
        "_database_seconds": 1,
    }
    assert sum(c.values()) <= 8, c


def test_statements_cost_no_further_call(closed, ran):
    log = access_log()
    few, many = closed(statements=[ran(0.001)]), closed(statements=[ran(0.001)] * 100)
    assert calls_of(lambda: log.take(few)) == calls_of(lambda: log.take(many))


def test_a_request_that_is_not_in_the_sample_costs_one_call(closed):
    log = AccessLog(lambda *_: None, lambda _: None, sample_rate=0.0)
    record = closed()
    python, _ = calls_of(lambda: log.take(record))
    assert python == {"AccessLog.take": 1}


def test_the_line_of_what_was_logged_costs_six_python_calls(closed, logged, current):
    current.set(closed())
    formatter = Formatter(JsonLines(PLAIN, "shop", current, Values(["password"])))
    record = logged("hello %s", "you")
    python, c = calls_of(lambda: formatter.line(record))
    python.pop("event_of.<locals>.<dictcomp>", None)  # no call of its own since Python 3.12
    assert python == {
        "Formatter.line": 1,
        "event_of": 1,
        "JsonLines.line": 1,
        "Timestamps.at": 1,
        "find_record": 1,
        "_add_request": 1,
    }
    assert sum(c.values()) <= 12, c
