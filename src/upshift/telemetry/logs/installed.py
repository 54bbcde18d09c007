"""Puts the logs of one `Upshift` together, and takes them apart."""

from __future__ import annotations

import atexit
import logging
import os
import time
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from upshift.errors import SettingsError
from upshift.record.writer import EXIT_SECONDS, Writer
from upshift.settings import variable_of
from upshift.telemetry.logs.access import AccessLog
from upshift.telemetry.logs.access_lines import JsonAccess
from upshift.telemetry.logs.console import ConsoleLines, wants_colour
from upshift.telemetry.logs.event import Event
from upshift.telemetry.logs.formatter import Formatter, Lines, StructlogRenderer
from upshift.telemetry.logs.handler import LogHandler
from upshift.telemetry.logs.json_lines import ECS, PLAIN, JsonLines
from upshift.telemetry.logs.stream import StreamSink, say, standard_error
from upshift.telemetry.logs.takeover import Takeover
from upshift.telemetry.logs.values import Values

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import ContextVar

    from upshift.record import Record
    from upshift.settings import LogSettings

_LOGGER = "upshift.telemetry"


class _Installed(NamedTuple):
    """What is there unless logging is left as it is."""

    writers: tuple[Writer, ...]
    handler: LogHandler
    takeover: Takeover


class Logs:
    """The logs of one `Upshift`: see `install`.

    Attributes:
        access: takes closed records; None where there is no access log.
    """

    def __init__(self, lines: Lines, installed: _Installed | None, access: AccessLog | None) -> None:
        self.access = access
        self._lines = lines
        self._installed = installed
        if installed is not None:
            installed.takeover.take()
            atexit.register(self._end)

    @property
    def faults(self) -> int:
        """How often lines could not be made or written."""
        if self._installed is None:
            return 0
        return self._installed.handler.faults + sum(each.faults for each in self._installed.writers)

    @property
    def dropped(self) -> int:
        """Lines that were not written, as those before them could not be written in time."""
        return 0 if self._installed is None else sum(each.dropped for each in self._installed.writers)

    def formatter(self) -> Formatter:
        """Return a formatter for the application's own handlers."""
        return Formatter(self._lines)

    def structlog_renderer(self) -> StructlogRenderer:
        """Return the last processor for structlog, for use with a logger that takes bytes."""
        return StructlogRenderer(self._lines)

    def take_over(self) -> None:
        """Take over again from whoever has configured logging since, as servers do; call it at startup."""
        if self._installed is not None:
            self._installed.takeover.take()
            self._installed.handler.is_prompt = False

    def end(self, deadline_seconds: float = EXIT_SECONDS) -> bool:
        """Write everything, and from now on each line at once: the process may end without another word.

        Uvicorn, when it has shut down, ends by the signal that it was sent, and no exit handlers run.
        """
        if self._installed is not None:
            self._installed.handler.is_prompt = True
        return self.flush(deadline_seconds)

    def flush(self, deadline_seconds: float = EXIT_SECONDS) -> bool:
        """Wait until everything logged before is written; False where that takes too long."""
        if self._installed is None:
            return True
        if self.access is not None:
            self.access.flush()
        deadline = time.monotonic() + deadline_seconds
        done = [each.flush(max(0.0, deadline - time.monotonic())) for each in self._installed.writers]
        return all(done)

    def close(self, deadline_seconds: float = EXIT_SECONDS) -> bool:
        """Put logging back as it was, and write what waits; calling it twice does nothing more.

        Returns:
            False where not everything could be written within the deadline.
        """
        installed, access = self._installed, self.access
        if installed is None:
            return True
        installed.takeover.give_back()
        atexit.unregister(self._end)
        if access is not None:
            access.flush()
        deadline = time.monotonic() + deadline_seconds
        done = [each.close(max(0.0, deadline - time.monotonic())) for each in installed.writers]
        return all(done)

    def _end(self) -> None:
        """The process ends: what cannot be written now will not be waited for once more."""
        if not self.flush() and self._installed is not None:
            self._installed.handler.patience_seconds = 0.0


def install(
    settings: LogSettings,
    *,
    service: str,
    current: ContextVar[Record | None],
    slow_request_seconds: float,
    route_of: Callable[[Record], str | None] = attrgetter("route"),
) -> Logs:
    """Log as the settings say: what the application logs, and its requests.

    A handler is put on the root logger, and the loggers of uvicorn and Gunicorn pass on to it. Handlers that
    wrote to standard output or standard error are put aside until `close`.

    Args:
        settings: what is logged, how and where to.
        service: the service's name.
        current: holds the open request, whose ids the lines carry.
        slow_request_seconds: what counts as slow, so that it always has an access line.
        route_of: tells a request's route; where it is not given, that of a closed one.

    Raises:
        SettingsError: a path is one that several processes cannot share safely.
    """
    values = Values(settings.log_redact)
    lines = _lines(settings, service, current, values, route_of)
    if settings.log_format == "off":
        return Logs(lines, None, None)
    level = logging.getLevelNamesMapping()[settings.log_level]
    notice = _notice(lines)
    writer = _writer(settings, "log_file", settings.log_file, notice)
    error_writer = None
    if settings.log_error_file:
        if _place(settings.log_error_file) == _place(settings.log_file):
            raise SettingsError(
                "log_error_file (UPSHIFT_LOG_ERROR_FILE) is log_file as well, so errors would be in it twice"
            )
        error_writer = _writer(settings, "log_error_file", settings.log_error_file, notice)
    handler = LogHandler(Formatter(lines), writer, error_writer, current, _place(settings.log_file))
    handler.setLevel(level)
    access = None
    if settings.access_log:
        access = AccessLog(
            _append(settings, service, lines, values),
            writer.write,
            None if error_writer is None else error_writer.write,
            level=level,
            slow_request_seconds=slow_request_seconds,
            sample_rate=settings.log_sample_rate,
        )
    writers = (writer,) if error_writer is None else (writer, error_writer)
    takeover = Takeover(handler, level, silence_access=access is not None)
    return Logs(lines, _Installed(writers, handler, takeover), access)


def _lines(
    settings: LogSettings,
    service: str,
    current: ContextVar[Record | None],
    values: Values,
    route_of: Callable[[Record], str | None],
) -> JsonLines | ConsoleLines:
    if settings.log_format == "console":
        file = standard_error()
        colour = not settings.log_file and file is not None and wants_colour(file)
        return ConsoleLines(current, values, colour=colour)
    return JsonLines(ECS if settings.log_format == "ecs" else PLAIN, service, current, values, route_of)


def _append(
    settings: LogSettings, service: str, lines: JsonLines | ConsoleLines, values: Values
) -> Callable[[bytearray, Record, str, float], None]:
    if isinstance(lines, ConsoleLines):
        return lines.append
    return JsonAccess(service, values, ecs=settings.log_format == "ecs").append


def _writer(settings: LogSettings, name: str, path: str, notice: Callable[[str], bytes]) -> Writer:
    if not path:
        file = standard_error()
        # A process that was started without standard error has nobody to tell.
        return Writer(StreamSink(os.open(os.devnull, os.O_WRONLY) if file is None else file), notice)
    try:
        from upshift.telemetry.logs.file import FileSink, check_file
    except ImportError as fault:  # no fcntl: not POSIX
        raise SettingsError(
            f"{name} ({variable_of(name)}) is {path!r}, but this platform has no locks that processes could"
            " share a log file by; leave it empty for standard error"
        ) from fault
    absolute = Path(path).absolute()  # the process may go to another folder
    check_file(f"{name} ({variable_of(name)})", absolute)
    return Writer(FileSink(absolute, settings.log_rotate_bytes, settings.log_rotate_count), notice, say)


def _notice(lines: Lines) -> Callable[[str], bytes]:
    return lambda message: lines.line(Event(time.time(), "warning", message, _LOGGER, {}))


def _place(path: str) -> str:
    return os.path.realpath(path) if path else ""
