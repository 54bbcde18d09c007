"""The lines of requests, as JSON."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upshift.record import Record
from upshift.record.model import MAX_METHOD, MAX_TEXT
from upshift.telemetry.logs.access_lines import JsonAccess
from upshift.telemetry.logs.json_lines import ECS_VERSION
from upshift.telemetry.logs.values import Values


def line_of(record, level="info", *, ecs=False, ended=1_000_000_000.25):
    buffer = bytearray(b"before\n")
    JsonAccess("shop", Values(["password"]), ecs=ecs).append(buffer, record, level, ended)
    before, line, rest = buffer.split(b"\n")
    assert (before, rest) == (b"before", b"")
    return json.loads(line)


def test_a_line_tells_all_of_a_request(closed, ran):
    record = closed(
        statements=[ran(0.002, 0.001), ran(0.0045)],
        statements_dropped=3,
        cache_hits=2,
        request_bytes=10,
        response_bytes=1_234,
        error="ValueError",
    )
    assert line_of(record, "error") == {
        "timestamp": "2001-09-09T01:46:40.250000Z",
        "level": "error",
        "message": "GET /orders/7 200",
        "logger": "upshift.access",
        "service": "shop",
        "method": "GET",
        "path": "/orders/7",
        "status": 200,
        "duration_ms": 12.5,
        "statements": 5,
        "database_ms": 7.5,
        "cache_hits": 2,
        "request_bytes": 10,
        "response_bytes": 1_234,
        "request_id": record.request_id,
        "trace_id": record.trace_id,
        "span_id": record.span_id,
        "route": "/orders/{order_id}",
        "error": "ValueError",
    }


def test_a_line_has_the_names_of_the_elastic_common_schema_where_asked_for(closed, ran):
    record = closed(statements=[ran(0.002)], error="ValueError", context={"user": 7, "tags": ["a"]})
    assert line_of(record, "error", ecs=True) == {
        "@timestamp": "2001-09-09T01:46:40.250000Z",
        "log.level": "error",
        "message": "GET /orders/7 200",
        "log.logger": "upshift.access",
        "service.name": "shop",
        "ecs.version": ECS_VERSION,
        "event.category": ["web"],
        "event.outcome": "failure",
        "event.duration": 12_500_000,
        "http.request.method": "GET",
        "url.path": "/orders/7",
        "http.response.status_code": 200,
        "upshift.statements": 1,
        "upshift.database.duration": 2_000_000,
        "upshift.cache_hits": 0,
        "http.request.body.bytes": 0,
        "http.response.body.bytes": 0,
        "http.request.id": record.request_id,
        "trace.id": record.trace_id,
        "span.id": record.span_id,
        "http.route": "/orders/{order_id}",
        "error.type": "ValueError",
        "labels": {"user": 7, "tags": '["a"]'},
    }


def test_a_request_that_went_well_is_a_success_in_the_schema(closed):
    assert line_of(closed(), ecs=True)["event.outcome"] == "success"


def test_what_a_request_does_not_have_is_left_out(closed):
    line = line_of(closed(route=None, trace_id="", span_id=""))
    assert line.keys() & {"route", "trace_id", "span_id", "error"} == set()


def test_what_the_application_says_stands_beside_it_and_is_redacted(closed):
    line = line_of(closed(context={"user": 7, "password": "tulip", "form": {"password": "tulip"}}))
    assert (line["user"], line["password"], line["form"]) == (7, "[redacted]", {"password": "[redacted]"})


@pytest.mark.parametrize("name", ["status", "error", "message"])
def test_what_the_application_says_does_not_hide_what_the_line_says(closed, name):
    line = line_of(closed(context={name: "theirs"}))
    assert line[f"{name}_"] == "theirs"
    assert line.get(name) != "theirs"


@pytest.mark.parametrize("ecs", [False, True])
def test_method_and_path_of_any_length_are_shortened(closed, ecs):
    line = line_of(closed("/" * 1_000_000, method="X" * 1_000_000), ecs=ecs)
    asked = "X" * MAX_METHOD, "/" * MAX_TEXT
    assert (
        tuple(line[name] for name in (("http.request.method", "url.path") if ecs else ("method", "path")))
        == asked
    )
    assert line["message"] == " ".join((*asked, "200"))


@pytest.mark.parametrize("ecs", [False, True])
def test_lone_surrogates_are_written_as_escapes(closed, ecs):
    line = line_of(closed("/\ud800", context={"\ud800": "\udfff"}), ecs=ecs)
    assert line["url.path" if ecs else "path"] == "/\\ud800"
    assert (line["labels"] if ecs else line)["\\ud800"] == "\\udfff"


@given(
    st.text(st.characters()), st.text(st.characters()), st.dictionaries(st.text(st.characters()), st.text())
)
def test_whatever_a_client_sends_is_one_line_of_json(method, path, context):
    record = Record(method, path, 0.0)
    record.status, record.context = 404, context
    line = line_of(record)
    assert line["status"] == 404
