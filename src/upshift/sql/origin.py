"""The application's line behind what SQLAlchemy does, also across its greenlets.

A stack is walked frame by frame, and each frame that is looked at becomes an object: of a lazy load in the
ORM that is most of what observing it costs. But between a line of the application and the driver lie the same
calls whenever the same text is sent from the same function of a library's. So for each text it is remembered
how deep the library's last frame lay, and which function that was. Where it is there again, with a line of
the application above that is known as such, that is the line. Otherwise the stack is walked.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from greenlet import getcurrent

from upshift.record.callsite import MAX_FRAMES

if TYPE_CHECKING:
    from types import CodeType, FrameType

    from upshift.record import CallSite, CallSites

MAX_TEXTS = 4_096
"""Texts whose depth is remembered; then they are learned anew."""

MAX_TEXT = 20_000
"""Characters of a text that is remembered."""


def origin(call_sites: CallSites, frame: FrameType | None) -> CallSite | None:
    """Return the nearest application line at or above `frame`, or None.

    With an async driver the statement runs in a greenlet of SQLAlchemy's. Its own stack ends at the
    greenlet's start; the coroutine that awaits it is the frame of the greenlet that was switched away from.
    """
    return call_sites.find(frame) or _beyond(call_sites)


def _beyond(call_sites: CallSites) -> CallSite | None:
    """Look on in the stacks of the greenlets that wait for this one."""
    site = None
    parent = getcurrent().parent
    while site is None and parent is not None:
        site = call_sites.find(parent.gr_frame)
        parent = parent.parent
    return site


class Origins:
    """Finds the lines behind calls of one kind, such as sending a statement.

    Args:
        call_sites: tells the application's frames from libraries'.
        first: frames from `of` up to the first that may be the application's; its caller is the first.
    """

    def __init__(self, call_sites: CallSites, first: int) -> None:
        self._call_sites = call_sites
        self._find_known = call_sites.find_known
        self._first = first
        self._depths: dict[str, tuple[int, CodeType]] = {}

    def of(self, text: str) -> CallSite | None:
        """Return the line behind the call of this function; None where there is none.

        Args:
            text: what the line asks for, so that it mostly does so by the same calls: the statement's text.
        """
        known = self._depths.get(text)
        if known is not None:
            depth, code = known
            try:
                frame = sys._getframe(depth)
            except ValueError:
                return self._walk(text)
            if frame.f_code is code:
                above = frame.f_back
                site = _beyond(self._call_sites) if above is None else self._find_known(above)
                if site is not None:
                    return site
        return self._walk(text)

    def _walk(self, text: str) -> CallSite | None:
        below: FrameType | None = None
        frame: FrameType | None = sys._getframe(self._first + 1)
        for depth in range(self._first, MAX_FRAMES):
            site = self._call_sites.find_at(frame) if frame is not None else _beyond(self._call_sites)
            if site is not None and below is not None and len(text) <= MAX_TEXT:
                if len(self._depths) >= MAX_TEXTS:
                    self._depths.clear()
                self._depths[text] = (depth - 1, below.f_code)
            if site is not None or frame is None:
                return site
            below, frame = frame, frame.f_back
        return None
