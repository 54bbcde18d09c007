"""Logging taken over and given back: levels, handlers, servers' loggers, two instances in one process."""

import asyncio
import io
import json
import logging
import logging.config
import os
import sys
import warnings
from contextlib import contextmanager
from contextvars import ContextVar

import pytest
from uvicorn.config import LOGGING_CONFIG

from upshift.errors import SettingsError
from upshift.record import Backlog
from upshift.settings import LogSettings
from upshift.telemetry.logs import Logs, install
from upshift.telemetry.logs.handler import LogHandler

SERVERS = ("uvicorn", "uvicorn.error", "uvicorn.access", "gunicorn.error")


def state():
    """What a takeover may change; pytest's own handlers come and go between the phases of a test."""
    return [
        (each.level, [handler for handler in each.handlers if not is_pytests(handler)], each.propagate)
        for each in loggers()
    ]


def loggers():
    return [logging.root, *map(logging.getLogger, SERVERS)]


def is_pytests(handler):
    return type(handler).__module__ == "_pytest.logging"


@pytest.fixture(autouse=True)
def unchanged():
    """Whatever is installed is gone in the end."""
    before = state()
    yield
    assert state() == before


@contextmanager
def as_before():
    """Put loggers back that a test configures."""
    before = [(each, each.level, list(each.handlers), each.propagate) for each in loggers()]
    try:
        yield
    finally:
        for logger, level, handlers, propagate in before:
            logger.setLevel(level)
            logger.handlers[:] = handlers
            logger.propagate = propagate


@pytest.fixture
def path(tmp_path):
    return tmp_path / "shop.log"


@pytest.fixture
def start(path, current):
    """Installs logs into a file, and closes them in the end."""
    installed = []

    def make(current=current, service="shop", **settings):
        settings = {"log_format": "json", "log_file": str(path)} | settings
        logs = install(LogSettings(**settings), service=service, current=current, slow_request_seconds=1.0)
        installed.append(logs)
        return logs

    yield make
    for each in installed:
        each.close()


def lines_of(path):
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def test_what_is_logged_is_in_the_file(start, path):
    logs = start()
    logging.getLogger("shop.orders").info("placed %d", 7, extra={"customer": 3})
    assert logs.flush()
    (line,) = lines_of(path)
    assert (line["message"], line["logger"], line["customer"], line["service"]) == (
        "placed 7",
        "shop.orders",
        3,
        "shop",
    )


def test_lines_go_to_standard_error_where_there_is_no_file(start, capfd):
    logs = start(log_file="")
    logging.getLogger("shop").info("hello")
    logs.close()
    assert json.loads(capfd.readouterr().err)["message"] == "hello"


def test_the_console_has_no_colours_where_it_is_no_terminal(start, capfd):
    logs = start(log_file="", log_format="console")
    logging.getLogger("shop").error("hello")
    logs.close()
    assert capfd.readouterr().err.endswith(" ERROR    shop hello\n")


def test_the_level_counts_for_what_is_logged(start, path):
    logs = start(log_level="WARNING")
    logging.getLogger("shop").info("quiet")
    logging.getLogger("shop").warning("loud")
    logs.flush()
    assert [each["message"] for each in lines_of(path)] == ["loud"]


def test_errors_are_in_a_file_of_their_own_as_well(start, path, tmp_path, closed):
    logs = start(log_error_file=str(tmp_path / "errors.log"))
    logging.getLogger("shop").info("fine")
    logging.getLogger("shop").critical("on fire")
    logs.access.take(closed("/fine"))
    logs.access.take(closed("/failed", status=500))
    logs.flush()
    assert [each.get("path") or each["message"] for each in lines_of(tmp_path / "errors.log")] == [
        "on fire",
        "/failed",
    ]
    assert len(lines_of(path)) == 4


def test_off_leaves_logging_as_it_is(start):
    before = state()
    logs = start(log_format="off")
    assert state() == before
    assert logs.access is None
    assert (logs.faults, logs.dropped, logs.flush(), logs.close()) == (0, 0, True, True)


def test_a_formatter_can_be_had_though_logging_is_left_as_it_is(start, logged):
    assert json.loads(start(log_format="off").formatter().format(logged()))["service"] == "shop"


def test_there_is_no_access_log_where_none_is_wanted(start):
    assert start(access_log=False).access is None


def test_records_have_their_lines_by_way_of_a_backlog(start, path, closed):
    logs = start()
    backlog = Backlog([logs.access.take], after=[logs.access.flush])
    for number in range(3):
        backlog.add(closed(f"/{number}"))
    backlog.drain()
    logs.flush()
    assert [each["path"] for each in lines_of(path)] == ["/0", "/1", "/2"]


def test_a_line_within_a_request_has_its_id_in_tasks_and_threads_as_well(start, path, current, closed):
    logs = start()

    async def within():
        logging.getLogger("shop").info("in a task")
        await asyncio.to_thread(logging.getLogger("shop").info, "in a thread")

    async def request(request_id):
        current.set(closed(request_id=request_id))
        await asyncio.gather(within(), within())

    async def main():
        await asyncio.gather(*(asyncio.create_task(request(f"r{number}")) for number in range(10)))

    asyncio.run(main())
    logs.flush()
    ids = [each["request_id"] for each in lines_of(path)]
    assert sorted(ids) == sorted(f"r{number}" for number in range(10) for _ in range(4))


def test_handlers_that_write_to_the_terminal_are_put_aside_until_the_end(start):
    with as_before():
        terminal, other = logging.StreamHandler(sys.stderr), logging.StreamHandler(io.StringIO())
        logging.root.addHandler(terminal)
        logging.root.addHandler(other)
        logs = start()
        assert terminal not in logging.root.handlers
        assert other in logging.root.handlers
        logs.close()
        assert terminal in logging.root.handlers
        assert not any(isinstance(each, LogHandler) for each in logging.root.handlers)


def test_a_lower_level_of_the_root_logger_stays(start):
    with as_before():
        logging.root.setLevel(logging.DEBUG)
        logs = start()
        assert logging.root.level == logging.DEBUG
        logs.close()
        assert logging.root.level == logging.DEBUG


def test_a_level_that_was_set_meanwhile_stays(start):
    with as_before():
        logs = start()
        logging.root.setLevel(logging.ERROR)
        logs.close()
        assert logging.root.level == logging.ERROR


def test_uvicorns_messages_are_ours_and_its_access_lines_are_silenced(start, path, capfd):
    with as_before(), warnings.catch_warnings():
        logging.config.dictConfig(LOGGING_CONFIG)
        before = state()
        logs = start()
        logging.getLogger("uvicorn.error").info("Started", extra={"color_message": "\x1b[1mStarted"})
        assert not logging.getLogger("uvicorn.access").hasHandlers()
        logging.getLogger("uvicorn.access").info('%s - "%s %s HTTP/%s" %d', "::1", "GET", "/", "1.1", 200)
        logs.close()
        assert [(each["logger"], each["message"]) for each in lines_of(path)] == [
            ("uvicorn.error", "Started")
        ]
        assert state() == before
    assert capfd.readouterr() == ("", "")


def test_uvicorns_access_lines_stay_where_there_is_no_access_log(start):
    with as_before():
        logging.config.dictConfig(LOGGING_CONFIG)
        logs = start(access_log=False)
        assert logging.getLogger("uvicorn.access").hasHandlers()
        logs.close()


def test_a_server_that_configures_logging_later_is_taken_over_at_startup(start, path):
    with as_before():
        logs = start()
        logging.config.dictConfig(LOGGING_CONFIG)
        logs.take_over()
        logs.take_over()
        logging.getLogger("uvicorn.error").info("Started")
        logs.flush()
        assert [each["message"] for each in lines_of(path)] == ["Started"]
        assert not logging.getLogger("uvicorn.access").hasHandlers()
        logs.close()


def test_a_configuration_that_throws_our_handler_out_is_mended_at_startup(start, path):
    with as_before():
        logs = start()
        logging.config.dictConfig({"version": 1, "disable_existing_loggers": False, "root": {"handlers": []}})
        logs.take_over()
        logging.getLogger("shop").info("hello")
        logs.flush()
        assert [each["message"] for each in lines_of(path)] == ["hello"]
        logs.close()


def test_two_instances_log_their_own_requests_into_files_of_their_own(start, tmp_path, closed):
    shop, bank = ContextVar("shop", default=None), ContextVar("bank", default=None)
    files = {"shop": tmp_path / "shop.log", "bank": tmp_path / "bank.log"}
    both = [
        start(current, service=service, log_file=str(files[service]))
        for service, current in (("shop", shop), ("bank", bank))
    ]

    def serve(logs, current, path):
        record = closed(path, request_id=path)
        token = current.set(record)
        logging.getLogger("any").info("within")
        current.reset(token)
        logs.access.take(record)

    serve(both[0], shop, "/shop")
    serve(both[1], bank, "/bank")
    for each in both:
        each.flush()
    for service, file in files.items():
        lines = lines_of(file)
        assert [each["path"] for each in lines if "path" in each] == [f"/{service}"]
        assert [each["request_id"] for each in lines if each.get("request_id")] == [f"/{service}"] * 2


def test_two_instances_that_write_to_one_file_do_not_double_a_line(start, path, closed):
    shop, bank = ContextVar("shop", default=None), ContextVar("bank", default=None)
    both = [start(shop, service="shop"), start(bank, service="bank")]
    logging.getLogger("any").info("outside")
    for current in (shop, bank):
        token = current.set(closed())
        logging.getLogger("any").info("within")
        current.reset(token)
    for each in both:
        each.flush()
    assert sorted((each["message"], each["service"]) for each in lines_of(path)) == [
        ("outside", "shop"),
        ("within", "bank"),
        ("within", "shop"),
    ]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_two_instances_can_be_closed_in_any_order(start, order):
    with as_before():
        terminal = logging.StreamHandler(sys.stderr)
        logging.root.addHandler(terminal)
        logging.config.dictConfig(LOGGING_CONFIG)
        before = state()
        both = [start(log_level="INFO"), start(log_level="DEBUG")]
        both[order[0]].close()
        assert terminal not in logging.root.handlers
        both[order[1]].close()
        assert state() == before


def test_a_filter_on_the_handler_is_respected(start, path):
    logs = start()
    handler = next(each for each in logging.root.handlers if isinstance(each, LogHandler))
    handler.addFilter(lambda record: "secret" not in record.getMessage())
    logging.getLogger("shop").info("secret")
    logging.getLogger("shop").info("open")
    logs.flush()
    assert [each["message"] for each in lines_of(path)] == ["open"]


def test_a_line_that_cannot_be_made_is_counted_and_the_caller_goes_on(start):
    logs = start()
    record = logging.makeLogRecord({"levelno": logging.INFO, "levelname": None})
    logging.root.handle(record)
    assert logs.faults == 1


def test_a_file_that_cannot_be_written_is_told_on_standard_error_and_counted(start, capfd, tmp_path):
    logs = start(log_file=str(tmp_path / "missing" / "shop.log"))
    logging.getLogger("shop").info("hello")
    assert not logs.flush(0.05)
    assert logs.faults >= 1
    told = capfd.readouterr().err.splitlines()
    assert len(told) == 1
    assert "No such file or directory" in json.loads(told[0])["message"]
    (tmp_path / "missing").mkdir()
    assert logs.flush(5)
    assert [each["message"] for each in lines_of(tmp_path / "missing" / "shop.log")] == ["hello"]


def test_a_process_that_ends_does_not_wait_twice_for_who_does_not_read(start, monkeypatch):
    logs = start()
    handler = next(each for each in logging.root.handlers if isinstance(each, LogHandler))
    logs._end()
    assert handler.patience_seconds > 0
    monkeypatch.setattr(logs, "flush", lambda: False)
    logs._end()
    assert handler.patience_seconds == 0


def test_closing_twice_does_nothing_more(start):
    logs = start()
    assert logs.close()
    assert logs.close()


@pytest.mark.parametrize("setting", ["log_file", "log_error_file"])
def test_a_path_that_cannot_be_shared_is_refused_and_nothing_is_changed(start, tmp_path, setting):
    before = state()
    with pytest.raises(SettingsError, match=f"{setting} .UPSHIFT_{setting.upper()}."):
        start(**{setting: str(tmp_path)})
    assert state() == before


def test_one_file_for_all_and_for_errors_is_refused(start, path):
    with pytest.raises(SettingsError, match="in it twice"):
        start(log_error_file=os.path.join(path.parent, ".", path.name))  # noqa: PTH118 - another spelling


def test_a_platform_without_locks_is_refused(start, monkeypatch):
    monkeypatch.delitem(sys.modules, "upshift.telemetry.logs.file", raising=False)
    monkeypatch.delitem(sys.modules, "upshift.locks", raising=False)
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with pytest.raises(SettingsError, match="no locks"):
        start()


def test_the_public_names_are_what_they_say():
    assert isinstance(
        install(
            LogSettings(), service="shop", current=ContextVar("c", default=None), slow_request_seconds=1.0
        ),
        Logs,
    )


def test_a_relative_path_stays_where_it_was_when_the_process_goes_elsewhere(start, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    logs = start(log_file="relative.log")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    logging.getLogger("shop").info("hello")
    logs.flush()
    assert [each["message"] for each in lines_of(tmp_path / "relative.log")] == ["hello"]
