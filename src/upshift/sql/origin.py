"""The application's line behind a statement, also across SQLAlchemy's greenlets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from greenlet import getcurrent

if TYPE_CHECKING:
    from types import FrameType

    from upshift.record import CallSite, CallSites


def origin(call_sites: CallSites, frame: FrameType | None) -> CallSite | None:
    """Return the nearest application line at or above `frame`, or None.

    With an async driver the statement runs in a greenlet of SQLAlchemy's. Its own stack ends at the
    greenlet's start; the coroutine that awaits it is the frame of the greenlet that was switched away from.
    """
    site = call_sites.find(frame)
    if site is None:
        parent = getcurrent().parent
        while site is None and parent is not None:
            site = call_sites.find(parent.gr_frame)
            parent = parent.parent
    return site
