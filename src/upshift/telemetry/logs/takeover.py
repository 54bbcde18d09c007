"""Puts the handler where all logging passes, and everything back at the end."""

from __future__ import annotations

import logging
import sys
from typing import NamedTuple

from upshift.telemetry.logs.handler import LogHandler

_SERVERS = ("uvicorn", "uvicorn.error", "gunicorn.error")
"""Loggers of servers that have handlers of their own and do not pass on to the root logger."""

_ACCESS = "uvicorn.access"
"""The logger whose lines the access log replaces."""


class _Before(NamedTuple):
    """What was changed about one logger."""

    logger: logging.Logger
    handlers: tuple[logging.Handler, ...]
    propagate: bool


class Takeover:
    """The root logger and those of servers, as long as a handler of ours has them.

    On the root logger, handlers that write to standard output or standard error are put aside, as their lines
    would double ours. Others, such as those of an error tracker or of tests, stay.

    Args:
        handler: ours.
        level: the level from which on it gets records.
        silence_access: whether the server's own access lines are silenced.
    """

    def __init__(self, handler: LogHandler, level: int, *, silence_access: bool) -> None:
        self._handler = handler
        self._level = level
        self._silence_access = silence_access
        self._before: list[_Before] = []
        self._root_level_before: int | None = None
        handler.takeover = self

    def take(self) -> None:
        """Take over, or take over again from whoever has configured logging meanwhile."""
        root = logging.root
        terminals = [each for each in root.handlers if _is_terminal(each)]
        self._put_aside(root, terminals, propagate=root.propagate)
        if self._handler not in root.handlers:
            root.addHandler(self._handler)
        if root.level > self._level:
            if self._root_level_before is None:
                self._root_level_before = root.level
            root.setLevel(self._level)
        for name in _SERVERS:
            logger = logging.getLogger(name)
            self._put_aside(logger, logger.handlers, propagate=True)
        if self._silence_access:
            logger = logging.getLogger(_ACCESS)
            self._put_aside(logger, logger.handlers, propagate=False)

    def give_back(self) -> None:
        """Put everything back, or leave that to another handler of ours that is still there."""
        root = logging.root
        root.removeHandler(self._handler)
        heir = next((each.takeover for each in root.handlers if isinstance(each, LogHandler)), None)
        if heir is not None:
            heir._inherit(self)
        else:
            for logger, handlers, propagate in reversed(self._before):
                logger.propagate = propagate
                for handler in handlers:
                    logger.addHandler(handler)
            if self._root_level_before is not None and root.level == self._level:
                root.setLevel(self._root_level_before)
        self._before = []
        self._root_level_before = None

    def _inherit(self, other: Takeover) -> None:
        self._before = other._before + self._before
        # Levels are only ever lowered, so the highest is the one from before all.
        levels = [each for each in (self._root_level_before, other._root_level_before) if each is not None]
        if levels:
            self._root_level_before = max(levels)
            logging.root.setLevel(self._level)

    def _put_aside(self, logger: logging.Logger, handlers: list[logging.Handler], *, propagate: bool) -> None:
        if handlers or logger.propagate != propagate:
            self._before.append(_Before(logger, tuple(handlers), logger.propagate))
            for handler in tuple(handlers):
                logger.removeHandler(handler)
            logger.propagate = propagate


def _is_terminal(handler: logging.Handler) -> bool:
    streams = (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)
    return isinstance(handler, logging.StreamHandler) and any(handler.stream is each for each in streams)
