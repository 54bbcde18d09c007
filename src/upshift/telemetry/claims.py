"""Whose answer a path is, Upshift's or the application's: the application goes before.

It is asked of the application's routes where it has any, and of the application itself where it has none to
show, or where only a route that takes any path (`/{slug}`) would have the answer.
"""

from __future__ import annotations

import logging
import stat
from enum import Enum
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.routing import BaseRoute, Host, Match, Mount, Router
from starlette.staticfiles import StaticFiles

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

NEVER_PAGES = frozenset({"/livez", "/readyz", "/startupz"})
"""Paths that no route like `/{slug}` gets: nobody's page is called so, and what a page needs, such as a
database, must not decide whether the process lives."""

logger = logging.getLogger("upshift.telemetry")


class Claim(Enum):
    """How far an application has an answer of its own to a path."""

    NONE = "no route takes it"
    PATTERN = "a route takes it, and others like it"
    UNKNOWN = "what takes it shows no routes"
    OWN = "a route names it"


def claim(app: ASGIApp, path: str) -> Claim:
    """Tell what the routes of an application say of a GET for a path, at this moment.

    Mounts and included routers are descended into, and a redirect to the path with a slash counts. Of
    `StaticFiles`, the files decide. Answers of middleware and of exception handlers do not show.

    Args:
        app: the application; one that is not Starlette's or FastAPI's shows no routes.
        path: without what a proxy or a server has put before it.

    Example:
        >>> from starlette.applications import Starlette
        >>> from starlette.routing import Mount, Route
        >>> def page(request): ...
        >>> app = Starlette(routes=[Mount("/", routes=[Route("/health", page), Route("/{slug}", page)])])
        >>> claim(app, "/health").name, claim(app, "/metrics").name, claim(app, "/a/b").name
        ('OWN', 'PATTERN', 'NONE')
    """
    if not isinstance(app, Starlette | Router):
        return Claim.UNKNOWN
    try:
        return _claim_of(app.routes, {"type": "http", "method": "GET", "path": path, "headers": []})
    except Exception:
        logger.warning("it cannot be told from the routes whose %s is", path, exc_info=True)
        return Claim.UNKNOWN


def _claim_of(routes: Iterable[BaseRoute], scope: dict[str, Any]) -> Claim:
    routes = tuple(routes)
    for route in routes:
        if isinstance(route, Host):  # takes some of the requests
            if _claim_below(route, scope) is not Claim.NONE:
                return Claim.UNKNOWN
            continue
        match, child = route.matches(dict(scope))
        if match is not Match.FULL:
            continue
        return _claim_below(route, {**scope, **child}) if isinstance(route, Mount) else _named(route, scope)
    slashed = scope | {"path": scope["path"] + "/"}
    for route in routes:
        if route.matches(dict(slashed))[0] is not Match.NONE:
            return _named(route, slashed)
    return Claim.NONE


def _claim_below(mount: Mount | Host, scope: dict[str, Any]) -> Claim:
    """Ask what is mounted, where it lets itself be asked."""
    if mount.routes and all(isinstance(route, BaseRoute) for route in mount.routes):
        return _claim_of(mount.routes, scope)
    if isinstance(mount.app, StaticFiles):
        name = scope["path"].removeprefix(scope.get("root_path", "")).lstrip("/")
        found = mount.app.lookup_path(name)[1]
        is_there = found is not None and (stat.S_ISREG(found.st_mode) or mount.app.html)
        return Claim.OWN if is_there else Claim.NONE
    return Claim.UNKNOWN


def _named(route: BaseRoute, scope: dict[str, Any]) -> Claim:
    """Tell a route that names the path from one that would take another in its place as well."""
    path = scope["path"]
    stem = path.removesuffix("/")
    other = scope | {"path": stem + "x" + path[len(stem) :]}
    return Claim.OWN if route.matches(dict(other))[0] is Match.NONE else Claim.PATTERN


def after_application(
    app: ASGIApp, paths: Mapping[str, ASGIApp], *, recorded: ASGIApp, unrecorded: ASGIApp
) -> dict[str, ASGIApp]:
    """Return what answers each path, for `Endpoints`, with the application going before.

    Args:
        app: the application, whose routes are asked.
        paths: Upshift's answers.
        recorded: the application with what records its requests.
        unrecorded: the application without.
    """
    return {
        path: AfterApplication(path, answer, app, recorded=recorded, unrecorded=unrecorded)
        for path, answer in paths.items()
    }


class AfterApplication:
    """Answers a path unless the application does.

    It is decided when somebody first asks for the path, as routes may still be added while the application
    starts. Where the routes cannot tell, the application is asked each time, and an answer of Upshift's takes
    the place of its 404, of which nothing is sent and nothing recorded. Once it has answered with success,
    the path is the application's for good.

    Args:
        path: the path.
        answer: Upshift's answer.
        app: the application, whose routes are asked.
        recorded: the application with what records its requests.
        unrecorded: the application without.
    """

    def __init__(
        self, path: str, answer: ASGIApp, app: ASGIApp, *, recorded: ASGIApp, unrecorded: ASGIApp
    ) -> None:
        self._path = path
        self._answer = answer
        self._app = app
        self._recorded = recorded
        self._unrecorded = unrecorded
        self._chosen: ASGIApp = self._choose

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or have the application answer."""
        await self._chosen(scope, receive, send)

    async def _choose(self, scope: Scope, receive: Receive, send: Send) -> None:
        claimed = claim(self._app, self._path)
        if claimed is Claim.OWN:
            self._leave()
        elif claimed is Claim.NONE or (claimed is Claim.PATTERN and self._path in NEVER_PAGES):
            self._chosen = self._answer
        else:
            self._chosen = self._ask
        await self._chosen(scope, receive, send)

    async def _ask(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_held = True  # until the application begins to answer, and when it does with 404

        async def hold(message: Message) -> None:
            nonlocal is_held
            if message["type"] == "http.response.start":
                status = message["status"]
                is_held = status == HTTPStatus.NOT_FOUND
                is_success = HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES
                if is_success and self._chosen == self._ask:
                    self._leave()
            if not is_held:
                await send(message)

        await self._unrecorded(dict(scope), receive, hold)
        if is_held:
            await self._answer(scope, receive, send)

    def _leave(self) -> None:
        """Let the application have the path."""
        logger.info("the application answers %s itself, so Upshift does not", self._path)
        self._chosen = self._recorded
