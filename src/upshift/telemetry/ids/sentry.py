"""Names the request in the events that Sentry's SDK sends, where the application uses it.

Nothing happens on a request's way: the tags are looked up when there is an event, which is rare. Sentry's own
integration catches what leaves the application outside of the recorder, where no record is open any more; see
`upshift.record.lookup` for how its record is found.

Upshift does not import `sentry_sdk`: an application that has not done so does not use it.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

from upshift.record import find_record

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import ContextVar

    from upshift.record import Record

MAX_TAG = 200
"""Characters of a tag's value that Sentry takes."""

_MODULE = "sentry_sdk.scope"

logger = logging.getLogger("upshift.telemetry")


def route_when_closed(record: Record) -> str | None:
    """The route of a record, which is known when its request is over."""
    return record.route


class SentryTags:
    """Adds the tags `request_id`, `trace_id` and `http.route` to Sentry's events.

    A tag that the application has set stays. Events of Sentry's performance monitoring ("transactions") are
    made when the request is over, and have none.

    Args:
        current: holds the open record.
        route_of: tells the route of a record, whose request may be open still.

    Attributes:
        is_installed: whether the application uses Sentry, as far as was seen.
        faults: events that were sent without tags because of an error.

    Example:
        >>> from contextvars import ContextVar
        >>> tags = SentryTags(ContextVar("current", default=None))
        >>> tags.close()
        >>> tags.is_installed
        False
    """

    def __init__(
        self,
        current: ContextVar[Record | None],
        route_of: Callable[[Record], str | None] = route_when_closed,
    ) -> None:
        self.is_installed = False
        self.faults = 0
        self._current = current
        self._route_of = route_of
        self._is_closed = False
        self.look()

    def look(self) -> None:
        """Look whether the application has come to use Sentry, in case that it does so after us.

        It costs a look into a dictionary; call it when the application starts, and now and then.
        """
        if self.is_installed or self._is_closed:
            return
        if (processors := _processors()) is not None:
            processors.append(self._tag)
            self.is_installed = True

    def close(self) -> None:
        """Leave Sentry's events alone again; calling it twice does nothing more."""
        self._is_closed = True
        if self.is_installed:
            self.is_installed = False
            processors = _processors() or []
            if self._tag in processors:
                processors.remove(self._tag)

    def _tag(self, event: dict[str, Any], hint: dict[str, Any]) -> dict[str, Any]:
        try:
            record = find_record(self._current, (hint.get("exc_info") or (None, None, None))[1])
            if record is not None:
                tags = {
                    "request_id": record.request_id,
                    "trace_id": record.trace_id,
                    "http.route": (self._route_of(record) or "")[:MAX_TAG],
                }
                told = {name: value for name, value in tags.items() if value}
                event["tags"] = told | dict(event.get("tags") or {})
        except Exception as fault:
            self.faults += 1
            if self.faults == 1:
                # No error, of which Sentry would make the next event.
                logger.warning(
                    "a Sentry event has no request id; later ones are only counted", exc_info=fault
                )
        return event


def _processors() -> list[Callable[[dict[str, Any], dict[str, Any]], Any]] | None:
    """What the SDK runs on each event of any client, if the application has imported it."""
    return getattr(sys.modules.get(_MODULE), "global_event_processors", None)
