"""Puts a middleware outermost around an application that is already built, and takes it off again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.types import ASGIApp, Receive, Scope, Send


class Attachment:
    """A middleware around one application.

    Starlette and FastAPI build their middleware stack at the first request, inside the object that the server
    already holds; there the built stack is wrapped, so that even their error handling lies inside. Any other
    application is wrapped from outside, and has to be served through `app`.

    Args:
        app: the application.
        wrap: makes the middleware around an application.
        at_first: called once, before the application is first asked for anything: in the process that serves
            it and, under asyncio, in its event loop.

    Attributes:
        app: what to serve.
    """

    def __init__(
        self, app: ASGIApp, wrap: Callable[[ASGIApp], ASGIApp], at_first: Callable[[], None] = lambda: None
    ) -> None:
        self._bare = app
        self._wrap = wrap
        self._at_first: Callable[[], None] | None = at_first
        self._layers: list[_Layer] = []
        if not isinstance(app, Starlette):
            self.app: ASGIApp = self._layer(app)
            return
        self.app = app
        self._build = app.build_middleware_stack
        app.build_middleware_stack = self._build_wrapped  # type: ignore[method-assign]
        if app.middleware_stack is not None:
            app.middleware_stack = self._layer(app.middleware_stack)

    def detach(self) -> None:
        """Take the middleware off; calling it twice does nothing more.

        The application's own middleware objects stay, with what they remember. Where somebody has wrapped the
        application again meanwhile, the layer stays inside that and passes requests through.
        """
        app = self._bare
        self.app = app
        for layer in self._layers:
            layer.outer = layer.inner
        if isinstance(app, Starlette):
            if vars(app).get("build_middleware_stack") == self._build_wrapped:
                del app.build_middleware_stack
            # Another one may have been detached before, from inside of this one.
            while (top := _layer_of(app.middleware_stack)) and top.outer is top.inner:
                app.middleware_stack = top.inner

    def _build_wrapped(self) -> ASGIApp:
        return self._layer(self._build())

    def _layer(self, inner: ASGIApp) -> ASGIApp:
        layer = _Layer(inner, self._wrap(inner))
        self._layers.append(layer)
        if self._at_first is not None:
            self._prepare(layer)
        return layer.serve

    def _prepare(self, layer: _Layer) -> None:
        """Have the first call of a layer call `at_first`, and later ones pay nothing for it."""
        outer = layer.outer

        def first(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
            layer.outer = outer
            at_first, self._at_first = self._at_first, None
            if at_first is not None:
                at_first()
            return outer(scope, receive, send)

        layer.outer = first


class _Layer:
    """The middleware while it is attached, and after that what it was around."""

    __slots__ = ("inner", "outer")

    def __init__(self, inner: ASGIApp, outer: ASGIApp) -> None:
        self.inner = inner
        self.outer = outer

    # A method, as to call an object costs three times as much, and no coroutine of its own: it is on every
    # request's way.
    def serve(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        outer = self.outer  # CPython 3.11 calls it faster from a local name
        return outer(scope, receive, send)


def _layer_of(app: ASGIApp | None) -> _Layer | None:
    layer = getattr(app, "__self__", None)
    return layer if isinstance(layer, _Layer) else None
