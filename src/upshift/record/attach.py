"""Puts a middleware outermost around an application that is already built, and takes it off again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp


class Attachment:
    """A middleware around one application.

    Starlette and FastAPI build their middleware stack at the first request, inside the object that the server
    already holds; there the built stack is wrapped, so that even their error handling lies inside. Any other
    application is wrapped from outside, and has to be served through `app`.

    Args:
        app: the application.
        wrap: makes the middleware around an application.

    Attributes:
        app: what to serve.
    """

    def __init__(self, app: ASGIApp, wrap: Callable[[ASGIApp], ASGIApp]) -> None:
        self._bare = app
        self._inner: ASGIApp | None = None
        self._outer: ASGIApp | None = None
        self._wrap = wrap
        if not isinstance(app, Starlette):
            self.app = wrap(app)
            return
        self.app = app
        self._build = app.build_middleware_stack
        app.build_middleware_stack = self._build_wrapped  # type: ignore[method-assign]
        if app.middleware_stack is not None:
            app.middleware_stack = self._around(app.middleware_stack)

    def detach(self) -> None:
        """Take the middleware off; calling it twice does nothing more.

        The application's own middleware objects stay, with what they remember.
        """
        app = self._bare
        self.app = app
        if isinstance(app, Starlette):
            if vars(app).get("build_middleware_stack") == self._build_wrapped:
                del app.build_middleware_stack
            if self._outer is not None and app.middleware_stack is self._outer:
                app.middleware_stack = self._inner

    def _build_wrapped(self) -> ASGIApp:
        return self._around(self._build())

    def _around(self, stack: ASGIApp) -> ASGIApp:
        self._inner = stack
        self._outer = self._wrap(stack)
        return self._outer
