"""Which route answered: its template, read from the ASGI scope after the application ran.

Frameworks leave what they matched in the scope, so nothing is matched a second time: what it costs does not
depend on the number of routes. They do not agree on what they leave:

=====================================  =============================================================
Litestar                               `path_template`
FastAPI, its own routes                `endpoint`, and `route` whose `path` is the template
FastAPI with included routers (2026)   likewise, but `path` lacks the prefix of `include_router`; the
                                       route with its prefix is the `effective_route_context`
Starlette from 1.7 on                  `endpoint` and `route`; `route` is the mount when a mounted
                                       FastAPI serves a plain route
Starlette before, FastAPI's docs       `endpoint` only
=====================================  =============================================================

So a route counts when its endpoint is the one that ran, and an endpoint that has no such route is looked up
once in the application's routes. A mount leaves its prefix in `root_path` as the client wrote it
(`/tenants/acme`), which must not become a label: its template is taken from the mount itself.

A middleware that hands a copy of the scope to the application hides all this; its requests have no route.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from starlette.routing import Mount

if TYPE_CHECKING:
    import re
    from collections.abc import Iterable, Iterator

    from starlette.types import Scope

    from upshift.record.model import Record

MAX_REMEMBERED = 10_000
"""Endpoints and mounts remembered; those of an application that mints more are searched for each time."""


class _Route(Protocol):
    path: str
    path_regex: re.Pattern[str]


class RouteTemplates:
    """Reads route templates from scopes, remembering what had to be searched for.

    Example:
        >>> templates = RouteTemplates()
        >>> templates.find({"type": "http", "path": "/orders/7", "path_template": "/orders/{order_id}"})
        '/orders/{order_id}'
        >>> templates.find({"type": "http", "path": "/nowhere"}) is None
        True
    """

    def __init__(self) -> None:
        # By id, as an endpoint need not be hashable; it is kept beside, so that the id stays its own.
        self._routes: dict[int, tuple[object, list[_Route]]] = {}
        self._static_mounts: set[str] = set()

    def find(self, scope: Scope) -> str | None:
        """Return the template of the route that `scope` was handed to, or None where none matched.

        A path below a mount that none of the mount's own routes matched is `/mount/{path}`.
        """
        endpoint = scope.get("endpoint")
        if endpoint is None:
            return scope.get("path_template") or None
        route: Any = scope.get("route")
        path: str | None
        if "fastapi" in scope and (included := _included(scope["fastapi"], endpoint)):
            path = included.path
        elif getattr(route, "endpoint", None) is endpoint:
            path = route.path
        else:
            path = scope.get("path_template") or self._search(scope, endpoint)
        if "app_root_path" not in scope:  # no mount was passed
            return path
        mount = self._mount(scope, path or "")
        return None if mount is None else mount + (path or "/{path}")

    def of(self, record: Record) -> str | None:
        """Return the template of a record's route, also while its request is open."""
        return record.route if record.is_closed or record.scope is None else self.find(record.scope)

    def _search(self, scope: Scope, endpoint: object) -> str | None:
        """The template of an endpoint that came without its route."""
        known = self._routes.get(id(endpoint))
        if known is None:
            known = (endpoint, _routes_of(endpoint, scope))
            if len(self._routes) < MAX_REMEMBERED:
                self._routes[id(endpoint)] = known
        routes = known[1]
        if len(routes) == 1:
            return routes[0].path
        # One function served at several paths: these few are matched again.
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        return next((route.path for route in routes if route.path_regex.match(path)), None)

    def _mount(self, scope: Scope, path: str) -> str | None:
        """The template of the mounts passed on the way, or None where it cannot be told."""
        prefix: str = scope["root_path"].removeprefix(scope["app_root_path"])
        if prefix in self._static_mounts:
            return prefix
        router = scope.get("router")
        template = _mount_template(getattr(router, "routes", ()), prefix)
        if template == prefix and len(self._static_mounts) < MAX_REMEMBERED:
            self._static_mounts.add(prefix)
        if template is None and all(f"{{{name}" in path for name in scope.get("path_params", ())):
            return prefix  # a mount out of sight, but one without parameters: the client's words are its own
        return template


def _routes_of(endpoint: object, scope: Scope) -> list[_Route]:
    """The routes with this endpoint: of the application that ran, or else of the outermost one."""
    for owner in (scope.get("app"), scope.get("router")):
        routes = _walk(getattr(owner, "routes", ()))
        found = [route for route in routes if getattr(route, "endpoint", None) is endpoint]
        if found:
            return found
    return []


def _walk(routes: Iterable[Any]) -> Iterator[Any]:
    for route in routes:
        yield route
        yield from _walk(getattr(route, "routes", None) or ())


def _included(fastapi: dict[str, Any], endpoint: object) -> _Route | None:
    """FastAPI's route of an included router, with the prefix it was included under."""
    context = fastapi.get("effective_route_context")
    route: Any
    for route in (context, getattr(context, "starlette_route", None)):
        if getattr(route, "endpoint", None) is endpoint:
            found: _Route = route
            return found
    return None


def _mount_template(routes: Iterable[Any], prefix: str) -> str | None:
    """The template of the mount, or chain of mounts, that took all of `prefix`."""
    for route in routes:
        if isinstance(route, Mount) and (match := route.path_regex.match(prefix + "/")):
            rest = match["path"].rstrip("/")
            if not rest:
                return route.path
            below = _mount_template(route.routes, f"/{rest}")
            if below is not None:
                return route.path + below
    return None
