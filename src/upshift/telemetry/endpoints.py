"""Answers the paths that are Upshift's own, before the application is asked."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from upshift.telemetry.metrics.exposition import expose

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

    from starlette.types import ASGIApp, Receive, Scope, Send

    from upshift.telemetry.metrics.exposition import Totals
    from upshift.telemetry.metrics.registry import Metrics

_READING = frozenset({"GET", "HEAD"})


class Endpoints:
    """Puts further paths before an application; all others are the application's.

    Args:
        app: the application.
        paths: what answers each path.
    """

    def __init__(self, app: ASGIApp, paths: Mapping[str, ASGIApp]) -> None:
        self._app = app
        self._paths = paths

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Answer, or hand on to the application; no coroutine of its own, as it is on every request's way."""
        answer = self._app
        if scope["type"] == "http" and scope["method"] in _READING:
            # What a proxy has put before the path is in it as well, by the ASGI specification.
            path = scope["path"].removeprefix(scope.get("root_path", ""))
            answer = self._paths.get(path, answer)
        return answer(scope, receive, send)


class MetricsEndpoint:
    """Answers with the metrics in a format that the scraper reads.

    Args:
        metrics: what is told.
        totals: as `expose` takes it.
    """

    def __init__(self, metrics: Metrics, totals: Totals | None = None) -> None:
        self._metrics = metrics
        self._totals = totals

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """Write the metrics in a thread, so that requests go on meanwhile."""
        accept = b",".join(value for name, value in scope["headers"] if name == b"accept").decode("latin-1")
        content_type, body = await asyncio.to_thread(expose, self._metrics, accept, self._totals)
        headers = [
            (b"content-type", content_type.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
