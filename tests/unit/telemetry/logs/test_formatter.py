"""The standard library's formatter, and structlog's renderer."""

import json
import logging
import sys

import pytest
import structlog

from upshift.telemetry.logs.formatter import Formatter, StructlogRenderer
from upshift.telemetry.logs.json_lines import PLAIN, JsonLines
from upshift.telemetry.logs.values import Values


@pytest.fixture
def lines(current):
    return JsonLines(PLAIN, "shop", current, Values(["password"]))


@pytest.fixture
def render(lines):
    """The fields of the line of a structlog event."""
    renderer = StructlogRenderer(lines)
    return lambda method="info", **event: json.loads(renderer(None, method, event))


def test_a_handler_of_the_applications_own_can_use_the_formatter(lines, tmp_path):
    handler = logging.FileHandler(tmp_path / "own.log")
    handler.setFormatter(Formatter(lines))
    logger = logging.Logger("shop.orders")  # noqa: LOG001 - nobody else has it
    logger.addHandler(handler)
    logger.info("placed %d", 7, extra={"customer": 3})
    logger.warning("again")
    handler.close()

    first, second = map(json.loads, (tmp_path / "own.log").read_text().splitlines())
    assert (first["logger"], first["message"], first["customer"]) == ("shop.orders", "placed 7", 3)
    assert second["level"] == "warning"


def test_structlog_gives_the_same_fields(render, fields, logged, current, closed):
    current.set(closed(context={"user": 7}))
    line = render(event="hello", logger="shop", level="info", timestamp=1_000_000_000.25, password="tulip")
    assert line == fields(logged(password="tulip"))


def test_structlog_without_other_processors_takes_the_level_from_the_method(render):
    line = render("warning", event="hello")
    assert (line["level"], line["logger"]) == ("warning", "")


def test_structlogs_own_time_as_text_gives_way_to_the_lines(render):
    line = render(event="hello", timestamp="2026-01-01T00:00:00Z")
    assert line["timestamp"] != "2026-01-01T00:00:00Z"
    assert "timestamp_" not in line


@pytest.mark.parametrize("form", ["true", "exception", "tuple"])
def test_structlog_tells_an_exception_however_it_is_said(render, form):
    try:
        raise ValueError("odd")  # noqa: TRY301 - there must be one
    except ValueError as error:
        said = {"true": True, "exception": error, "tuple": sys.exc_info()}[form]
        line = render(event="failed", exc_info=said)
    assert (line["error"], line["error_message"]) == ("ValueError", "odd")
    assert line["traceback"].endswith("ValueError: odd")
    assert "exc_info" not in line


def test_structlog_tells_no_exception_where_there_is_none(render):
    assert render(event="fine", exc_info=True).keys() == render(event="fine").keys()


def test_structlog_keeps_a_traceback_that_its_own_processor_made(render):
    assert render(event="x", exception="Traceback: made before")["traceback"] == "Traceback: made before"


def test_structlog_keeps_a_traceback_in_parts_as_a_field(render):
    assert render(event="x", exception=[{"exc_type": "ValueError"}])["exception"] == [
        {"exc_type": "ValueError"}
    ]


def test_structlogs_stack_is_told(render):
    assert render(event="x", stack="Stack:")["stack"] == "Stack:"


def test_an_event_that_is_no_text_is_described(render):
    assert render(event={"a": 1})["message"] == "{'a': 1}"


def test_an_event_stays_as_it_was_for_others(lines):
    event = {"event": "hello", "password": "tulip"}
    StructlogRenderer(lines)(None, "info", event)
    assert event == {"event": "hello", "password": "tulip"}


def test_a_whole_chain_ends_in_bytes_for_a_logger_that_takes_them(lines, tmp_path):
    with (tmp_path / "own.log").open("wb") as file:
        log = structlog.wrap_logger(
            structlog.BytesLogger(file),
            processors=[
                structlog.contextvars.merge_contextvars,
                structlog.processors.add_log_level,
                structlog.processors.StackInfoRenderer(),
                StructlogRenderer(lines),
            ],
        )
        with structlog.contextvars.bound_contextvars(tenant="acme"):
            log.error("failed", order=7)
        log.info("fine", stack_info=True)

    first, second = map(json.loads, (tmp_path / "own.log").read_text().splitlines())
    assert (first["level"], first["message"], first["tenant"], first["order"]) == (
        "error",
        "failed",
        "acme",
        7,
    )
    assert second["stack"].startswith("Stack (most recent call last)")


def test_structlog_before_the_standard_library_gives_the_same_fields(lines, tmp_path):
    handler = logging.FileHandler(tmp_path / "own.log")
    handler.setFormatter(Formatter(lines))
    logger = logging.Logger("shop")  # noqa: LOG001 - nobody else has it
    logger.addHandler(handler)
    log = structlog.wrap_logger(
        logger, processors=[structlog.stdlib.render_to_log_kwargs], wrapper_class=structlog.stdlib.BoundLogger
    )
    log.info("placed", order=7)
    handler.close()

    line = json.loads((tmp_path / "own.log").read_text())
    assert (line["message"], line["order"], line["logger"]) == ("placed", 7, "shop")
