"""The metrics of WebSocket connections, which are told while they are open."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

from upshift.record.fork import after_fork
from upshift.telemetry.metrics.http import MAX_ERRORS, MAX_ROUTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from upshift.record import Socket
    from upshift.telemetry.metrics.registry import LabelBounds, Metrics

LIFETIME_BUCKETS = (0.1, 1.0, 10.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 86_400.0)
"""Upper bounds in seconds: connections live from moments to days."""

MAX_CODES = 50
"""Close codes with a label of their own; an application may send any of some thousands."""


class SocketMetrics:
    """Counts WebSocket connections and what goes through them.

    OpenTelemetry's conventions have no names for these, so they are named in the manner of those for HTTP.
    A forked child leaves to its parent the connections that were open, and what went through them.

    Args:
        metrics: where the families are declared.
        opened: tells the connections that are open.

    Example:
        >>> from upshift.record import Socket
        >>> from upshift.telemetry.metrics.registry import Metrics
        >>> metrics, socket = Metrics(), Socket("/prices", 0.0)
        >>> sockets = SocketMetrics(metrics, opened=lambda: [socket])
        >>> socket.route, socket.messages_sent = "/prices", 3
        >>> sent = {family.name: family for family in metrics.families()}["websocket_server_messages"]
        >>> {labels: series.values[0] for labels, series in sent.snapshot()}
        {('/prices', 'sent'): 3.0}
    """

    def __init__(self, metrics: Metrics, opened: Callable[[], Iterable[Socket]]) -> None:
        self._opened = opened
        route: LabelBounds = {"http_route": MAX_ROUTES}
        directions: LabelBounds = {**route, "direction": ("received", "sent")}
        self._active = metrics.gauge(
            "websocket_server_active_connections",
            "WebSocket connections that are open",
            labels=route,
            own=True,
        )
        self._seconds = metrics.histogram(
            "websocket_server_connection_duration",
            "Duration of WebSocket connections, from the handshake to the close; refused ones have no code",
            labels={**route, "close_code": MAX_CODES, "error_type": MAX_ERRORS},
            buckets=LIFETIME_BUCKETS,
            own=True,
        )
        self._messages = metrics.counter(
            "websocket_server_messages",
            "Messages of WebSocket connections",
            unit="messages",
            labels=directions,
            own=True,
        )
        self._bytes = metrics.counter(
            "websocket_server_message_size",
            "Bytes of the messages of WebSocket connections",
            unit="bytes",
            labels=directions,
            own=True,
        )
        self._told: dict[Socket, tuple[int, int, int, int]] = {}
        self._parents: frozenset[Socket] = frozenset()
        # A scrape reads in a thread while connections close in the event loop's.
        self._lock = Lock()
        after_fork(self._forget)
        metrics.before_collecting(self._refresh)

    def close(self, socket: Socket) -> None:
        """Count a connection that has ended."""
        if socket in self._parents:
            return
        with self._lock:
            self._add_new(socket)
            self._told.pop(socket, None)
        code = "" if socket.close_code is None else str(socket.close_code)
        self._seconds.at((socket.route or "", code, socket.error or "")).observe(socket.seconds)

    def _refresh(self) -> None:
        active = dict.fromkeys((labels[0] for labels, _ in self._active.snapshot()), 0)
        with self._lock:
            for socket in frozenset(self._opened()) - self._parents:
                route = socket.route or ""
                active[route] = active.get(route, 0) + 1
                self._add_new(socket)
        for route, count in active.items():
            self._active.at((route,)).set(count)

    def _forget(self) -> None:
        """In a forked child: the open connections are the parent's, and so is who may hold the lock."""
        self._lock = Lock()
        self._parents = frozenset(self._opened())
        self._told = {}

    def _add_new(self, socket: Socket) -> None:
        now = (
            socket.messages_received,
            socket.messages_sent,
            socket.request_bytes,
            socket.response_bytes,
        )
        new = [value - told for value, told in zip(now, self._told.get(socket, (0, 0, 0, 0)), strict=True)]
        self._told[socket] = now
        received, sent = (socket.route or "", "received"), (socket.route or "", "sent")
        for family, labels, amount in (
            (self._messages, received, new[0]),
            (self._messages, sent, new[1]),
            (self._bytes, received, new[2]),
            (self._bytes, sent, new[3]),
        ):
            if amount:
                family.at(labels).add(amount)
