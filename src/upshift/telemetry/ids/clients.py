"""Hooks that add the open request's ids to the calls of HTTP clients.

Each is what its client takes, for one client object; nothing is patched. Headers that the caller has set
stay. An id is no secret, but it should not turn up where nobody sent it: a redirect that leaves the origin
goes on without the ids. Outside of a request nothing is added. A fault is logged once and counted, and the
call goes on.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableMapping
    from types import SimpleNamespace

    import aiohttp
    import httpx
    import requests
    from requests.adapters import HTTPAdapter

    from upshift.telemetry.ids.propagation import Propagation

logger = logging.getLogger("upshift.telemetry")


class ClientHooks:
    """Makes the hooks.

    Args:
        propagation: gives the headers.

    Attributes:
        faults: calls that went out without the ids because of an error.
    """

    def __init__(self, propagation: Propagation) -> None:
        self.faults = 0
        self._propagation = propagation
        self._extension = f"upshift.{id(self)}"  # of requests; two applications may share a client

    def httpx(self, request: httpx.Request) -> _Done:
        """Add the ids to a request of httpx, of a sync or an async client.

        Example:
            >>> import httpx
            >>> from contextvars import ContextVar
            >>> from upshift.telemetry.ids.propagation import Propagation
            >>> hooks = ClientHooks(Propagation(ContextVar("current", default=None)))
            >>> client = httpx.Client(event_hooks={"request": [hooks.httpx]})
            >>> client.close()
        """
        try:
            url = request.url
            origin = (url.scheme, url.host, url.port)
            first = request.extensions.get(self._extension)
            if first is None:
                added = self._add(request.headers)
                request.extensions = {**request.extensions, self._extension: (origin, added)}
            elif first[0] != origin:  # redirected: httpx has copied the headers and the extensions
                _take_out(request.headers, first[1])
        except Exception as fault:  # noqa: BLE001 - whatever it is, the call goes on
            self._count(fault)
        return _DONE

    def requests(self, **options: Any) -> HTTPAdapter:  # noqa: ANN401 - as the adapter takes them
        """Return an adapter of requests that adds the ids, to be mounted where they should go.

        A redirect to where it is not mounted goes on without them. One mounted at `https://` sends them
        to any origin of that scheme, redirected or not.

        Args:
            options: as `requests.adapters.HTTPAdapter` takes them.

        Example:
            >>> import requests
            >>> from contextvars import ContextVar
            >>> from upshift.telemetry.ids.propagation import Propagation
            >>> hooks = ClientHooks(Propagation(ContextVar("current", default=None)))
            >>> with requests.Session() as session:
            ...     session.mount("https://billing.internal/", hooks.requests())
        """
        from requests.adapters import HTTPAdapter

        hooks = self

        class Adapter(HTTPAdapter):
            def send(
                self,
                request: requests.PreparedRequest,
                *args: Any,  # noqa: ANN401 - as the session gives them
                **kwargs: Any,  # noqa: ANN401 - likewise
            ) -> requests.Response:
                # A redirect copies the request that the session knows, so that one is left as it was.
                sent = request.copy()
                try:
                    hooks._add(sent.headers)
                except Exception as fault:  # noqa: BLE001 - whatever it is, the call goes on
                    hooks._count(fault)
                return super().send(sent, *args, **kwargs)

        return Adapter(**options)

    def aiohttp(self) -> aiohttp.TraceConfig:
        """Return what aiohttp's client session takes as one of its `trace_configs`.

        Example:
            >>> import aiohttp
            >>> from contextvars import ContextVar
            >>> from upshift.telemetry.ids.propagation import Propagation
            >>> hooks = ClientHooks(Propagation(ContextVar("current", default=None)))
            >>> async def total(order_id):
            ...     async with aiohttp.ClientSession(trace_configs=[hooks.aiohttp()]) as session:
            ...         answer = await session.get(f"https://billing.internal/orders/{order_id}")
            ...         return await answer.json()
        """
        import aiohttp

        async def start(
            _: aiohttp.ClientSession, call: SimpleNamespace, params: aiohttp.TraceRequestStartParams
        ) -> None:
            try:
                call.added = self._add(params.headers)
            except Exception as fault:  # noqa: BLE001 - whatever it is, the call goes on
                self._count(fault)

        async def redirect(
            _: aiohttp.ClientSession, call: SimpleNamespace, params: aiohttp.TraceRequestRedirectParams
        ) -> None:
            try:
                if _leaves_origin(params):
                    _take_out(params.headers, call.added)
            except Exception as fault:  # noqa: BLE001 - likewise
                self._count(fault)

        config: aiohttp.TraceConfig = aiohttp.TraceConfig()
        config.on_request_start.append(start)
        config.on_request_redirect.append(redirect)
        return config

    def _add(self, headers: MutableMapping[str, Any]) -> dict[str, str]:
        """Add the headers that are not there, and return them."""
        added = {name: value for name, value in self._propagation.headers().items() if name not in headers}
        headers.update(added)
        return added

    def _count(self, fault: Exception) -> None:
        self.faults += 1
        if self.faults == 1:
            logger.warning(
                "a call went out without the request's ids; later ones are only counted", exc_info=fault
            )


class _Done:
    """What an async client awaits and a sync one ignores."""

    def __await__(self) -> Iterator[None]:
        return iter(())


_DONE = _Done()


def _take_out(headers: MutableMapping[str, Any], added: dict[str, str]) -> None:
    for name, value in added.items():
        if headers.get(name) == value:
            del headers[name]


def _leaves_origin(params: aiohttp.TraceRequestRedirectParams) -> bool:
    headers = params.response.headers
    target = headers.get("Location") or headers.get("URI") or ""
    try:
        return params.url.join(type(params.url)(target)).origin() != params.url.origin()
    except ValueError:  # no URL that could be followed
        return True
