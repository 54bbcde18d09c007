"""Lines of JSON, from records of the standard library."""

import json
import logging
from contextvars import ContextVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upshift.telemetry.logs.event import Event, event_of
from upshift.telemetry.logs.json_lines import ECS_VERSION, PLAIN, JsonLines
from upshift.telemetry.logs.values import Values, encodable


def test_a_line_has_the_time_the_level_the_message_the_logger_and_the_service(fields, logged):
    assert fields(logged("hello %s", "you")) == {
        "timestamp": "2001-09-09T01:46:40.250000Z",
        "level": "info",
        "message": "hello you",
        "logger": "shop",
        "service": "shop",
    }


def test_a_line_within_a_request_has_its_ids_and_its_route(fields, logged, current, closed):
    record = closed()
    current.set(record)
    line = fields(logged())
    assert line["request_id"] == line["trace_id"] == record.trace_id
    assert line["span_id"] == record.span_id
    assert line["route"] == "/orders/{order_id}"


def test_what_a_request_does_not_have_is_left_out(fields, logged, current, closed):
    current.set(closed(trace_id="", span_id="", route=None))
    assert fields(logged()).keys() & {"trace_id", "span_id", "route"} == set()


def test_what_the_application_says_stands_beside_it(fields, logged, current, closed):
    current.set(closed(context={"user": 7, "plan": "free", "password": "tulip"}))
    line = fields(logged(plan="paid", size=2))
    assert (line["user"], line["plan"], line["size"], line["password"]) == (7, "paid", 2, "[redacted]")


def test_what_the_application_says_does_not_hide_what_the_line_says(fields, logged):
    line = fields(logged(level="ERROR", service="theirs", timestamp="theirs"))
    assert (line["service"], line["service_"]) == ("shop", "theirs")
    assert (line["timestamp"], line["timestamp_"]) == ("2001-09-09T01:46:40.250000Z", "theirs")


def test_ids_of_the_applications_own_are_said_where_there_is_no_request(fields, logged):
    assert fields(logged(request_id="job-7"))["request_id"] == "job-7"


def test_an_exception_is_told_with_its_traceback(fields, logged):
    try:
        raise ValueError("odd\nindeed")  # noqa: TRY301 - there must be one
    except ValueError as error:
        line = fields(logged(exc_info=(type(error), error, error.__traceback__)))
    assert (line["error"], line["error_message"]) == ("ValueError", "odd\nindeed")
    assert line["traceback"].startswith("Traceback (most recent call last):")
    assert line["traceback"].endswith("ValueError: odd\nindeed")


def test_exc_info_without_an_exception_adds_nothing(fields, logged):
    assert fields(logged(exc_info=(None, None, None))).keys() == fields(logged()).keys()


def test_a_traceback_that_was_made_before_is_taken_over(fields, logged):
    assert fields(logged(exc_text="Traceback: by a queue"))["traceback"] == "Traceback: by a queue"


def test_the_stack_is_told_where_it_was_asked_for(fields, logged):
    assert (
        fields(logged(stack_info="Stack (most recent call last)"))["stack"] == "Stack (most recent call last)"
    )


def test_a_long_traceback_keeps_both_ends(fields, logged):
    line = fields(logged(exc_text="begin" + "x" * 1_000_000 + "end"))
    assert line["traceback"].startswith("begin")
    assert line["traceback"].endswith("end")
    assert len(line["traceback"]) < 33_000


def test_arguments_that_do_not_fit_are_told(fields, logged):
    assert fields(logged("%d %d", "x"))["message"] == "%d %d (its arguments do not fit: ('x',))"


def test_an_argument_that_raises_is_told(fields, logged):
    class Broken:
        def __str__(self):
            raise RuntimeError

        __repr__ = __str__

    assert "do not fit: <unprintable" in fields(logged("%s", Broken()))["message"]
    assert fields(logged(Broken()))["message"].startswith("<unprintable Broken")


def test_an_exception_that_raises_when_it_is_printed_is_told(fields, logged):
    class BrokenError(Exception):
        def __str__(self):
            raise RuntimeError

        __repr__ = __str__

    assert fields(logged(exc_info=(BrokenError, BrokenError(), None)))["error"] == "BrokenError"


def test_a_megabyte_is_shortened_wherever_it_is(fields, logged):
    big = "x" * 1_000_000
    line = fields(logged(big, size=big, exc_info=(ValueError, ValueError(big), None)))
    assert len(json.dumps(line)) < 80_000


def test_a_newline_stays_within_its_line(fields, logged):
    forged = 'x\n{"level":"info","message":"forged"}\r\n'
    assert fields(logged(forged, header=forged, name="a\nb"))["header"] == forged


def test_a_lone_surrogate_is_written_as_an_escape(fields, logged):
    line = fields(logged("a\ud800", header="b\udfff", name="c\ud8ff"))
    assert (line["message"], line["header"], line["logger"]) == ("a\\ud800", "b\\udfff", "c\\ud8ff")


def test_uvicorns_coloured_copy_of_a_message_is_left_out(fields, logged):
    assert "color_message" not in fields(logged(color_message="\x1b[1mhello"))


def test_ecs_names_are_those_of_the_schema(ecs_fields, logged, current, closed):
    record = closed(context={"user": 7})
    current.set(record)
    line = ecs_fields(
        logged(exc_info=(ValueError, ValueError("odd"), None), **{"cart.size": 2, "tags": ["a"]})
    )
    assert line == {
        "@timestamp": "2001-09-09T01:46:40.250000Z",
        "log.level": "info",
        "message": "hello",
        "log.logger": "shop",
        "service.name": "shop",
        "ecs.version": ECS_VERSION,
        "http.request.id": record.request_id,
        "trace.id": record.trace_id,
        "span.id": record.span_id,
        "http.route": "/orders/{order_id}",
        "error.type": "ValueError",
        "error.message": "odd",
        "error.stack_trace": "ValueError: odd",
        "labels": {"user": 7, "cart_size": 2, "tags": '["a"]'},
    }


@given(st.text(st.characters()), st.lists(st.text(st.characters()) | st.integers()), st.text(st.characters()))
def test_whatever_is_logged_is_one_line_of_json(message, arguments, extra):
    lines = JsonLines(PLAIN, "shop", ContextVar("current", default=None), Values())
    record = logging.makeLogRecord({"msg": message, "args": tuple(arguments), "extra_": extra})
    line = lines.line(event_of(record))
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert json.loads(line)["extra_"] == encodable(extra)


@pytest.mark.parametrize("level", ["", "custom", "a\nb"])
def test_a_level_of_any_name_is_written(level, current):
    line = JsonLines(PLAIN, "shop", current, Values()).line(Event(0.0, level, "", "", {}))
    assert json.loads(line)["level"] == level
