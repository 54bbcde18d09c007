"""Answers the paths that are Upshift's own, before the application is asked."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

from anyio import CapacityLimiter
from anyio.lowlevel import RunVar
from anyio.to_thread import run_sync

from upshift.telemetry.metrics.exposition import expose

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

    from starlette.types import ASGIApp, Receive, Scope, Send

    from upshift.telemetry.metrics.exposition import Exposition, Totals
    from upshift.telemetry.metrics.registry import Metrics

OPENMETRICS = "application/openmetrics-text"
"""What a scraper names in its Accept header to be told exemplars."""

_READING = frozenset({"GET", "HEAD"})
_COMMANDING = frozenset({"POST"})


class Endpoints:
    """Puts further paths before an application; all others are the application's.

    Args:
        app: the application.
        paths: what answers GET for each path.
        commands: what answers POST; other paths.
    """

    def __init__(
        self, app: ASGIApp, paths: Mapping[str, ASGIApp], commands: Mapping[str, ASGIApp] | None = None
    ) -> None:
        self._app = app
        self._answers = {path: (_READING, answer) for path, answer in paths.items()}
        self._answers |= {path: (_COMMANDING, answer) for path, answer in (commands or {}).items()}

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Answer, or hand on to the application; no coroutine of its own, as it is on every request's way."""
        path = scope.get("path", "")  # the lifespan has none
        if prefix := scope.get("root_path"):
            path = path.removeprefix(prefix)  # a proxy's, which is in it as well, by the ASGI specification
        if path in self._answers and scope["type"] == "http":
            methods, answer = self._answers[path]
            if scope["method"] in methods:
                return answer(scope, receive, send)
        app = self._app  # CPython 3.11 calls it faster from a local name
        return app(scope, receive, send)


class MetricsEndpoint:
    """Answers with the metrics in a format that the scraper reads.

    Scrapes that come while the metrics are being written share the next writing: what each is told is never
    older than itself, and any number of them at once costs two writings a format.

    Args:
        metrics: what is told.
        totals: as `expose` takes it.
    """

    def __init__(self, metrics: Metrics, totals: Totals | None = None) -> None:
        self._metrics = metrics
        self._totals = totals
        self._lock = Lock()
        self._begun = 0
        self._latest: dict[str, tuple[int, Exposition]] = {}
        # A limiter belongs to one event loop. This one takes no threads from the application's.
        self._limiter: RunVar[CapacityLimiter] = RunVar(f"upshift_scrapes_{id(self)}")

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """Write the metrics in a thread, so that requests go on meanwhile."""
        accept = b",".join(value for name, value in scope["headers"] if name == b"accept").decode("latin-1")
        kind = OPENMETRICS if OPENMETRICS in accept else ""
        content_type, body = await run_sync(self._written, kind, self._begun, limiter=self._one_at_a_time())
        headers = [
            (b"content-type", content_type.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    def _written(self, kind: str, begun_before: int) -> Exposition:
        """Return what was begun after `begun_before` writings, or write."""
        with self._lock:  # several event loops may ask
            number, exposition = self._latest.get(kind, (0, None))
            if exposition is None or number <= begun_before:
                self._begun = number = self._begun + 1
                exposition = expose(self._metrics, kind, self._totals)
                self._latest[kind] = (number, exposition)
            return exposition

    def _one_at_a_time(self) -> CapacityLimiter:
        limiter = self._limiter.get(None)
        if limiter is None:
            limiter = CapacityLimiter(1)
            self._limiter.set(limiter)
        return limiter
