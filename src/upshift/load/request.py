"""What is sent, and where: `Request`, `Target`, and their bytes on the wire."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, urlsplit

from upshift.errors import LoadError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A method or a header's name (RFC 9110, section 5.6.2)."""
_PATH = re.compile(r"/[\x21-\x7e]*")
_UNSAFE_IN_VALUE = re.compile(r"[\r\n\0]")
_FRAMING = frozenset({"content-length", "transfer-encoding"})
_METHODS_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})


@dataclass(frozen=True, slots=True)
class Request:
    """One kind of request that a load test sends.

    Attributes:
        method: the HTTP method.
        path: path and query, percent-encoded, below the URL's own path; empty for the URL itself.
        headers: sent besides `Host`, `User-Agent`, `Accept` and `Content-Length`; a name given here replaces
            ours. Send `Accept-Encoding` to be answered compressed, as browsers are.
        body: the body's bytes.
        name: under which the report counts it; "METHOD path" unless given. Requests may share a name.
        weight: how often it is sent compared with the others. Requests of equal weight are sent in turn.

    Raises:
        LoadError: it cannot be written as HTTP/1.1, or would break the framing of the next one.

    Example:
        >>> Request("GET", "/orders?page=2").name
        'GET /orders?page=2'
        >>> Request("GET", "/a b")
        Traceback (most recent call last):
        ...
        upshift.errors.LoadError: the path '/a b' must start with / and be percent-encoded: '/a%20b'
    """

    method: str = "GET"
    path: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    name: str = ""
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not _TOKEN.fullmatch(self.method) or self.method == "CONNECT":
            raise LoadError(f"{self.method!r} is no HTTP method that a load test can send")
        if self.path and not _PATH.fullmatch(self.path):
            encoded = "/" + quote(self.path.lstrip("/"), safe="/?&=%:@!$'()*+,;~#[]")
            raise LoadError(f"the path {self.path!r} must start with / and be percent-encoded: {encoded!r}")
        for name, value in self.headers.items():
            _check_header(name, value)
        if not 0 < self.weight < float("inf"):
            raise LoadError(f"the weight of {self.path} is {self.weight}; it must be a number above 0")
        if self.path and not self.name:
            object.__setattr__(self, "name", f"{self.method} {self.path}")

    def render(self, target: Target) -> bytes:
        """The request as it goes over the wire to `target`; `aim` completes its path.

        Example:
            >>> target, [request] = aim("http://localhost:8000/v1", [Request("GET", "/a")])
            >>> request.render(target).splitlines()[:2]
            [b'GET /v1/a HTTP/1.1', b'Host: localhost:8000']
        """
        headers = {
            "host": ("Host", target.authority),
            "user-agent": ("User-Agent", "upshift-load"),
            "accept": ("Accept", "*/*"),
        }
        if self.body or self.method in _METHODS_WITH_BODY:
            headers["content-length"] = ("Content-Length", str(len(self.body)))
        headers |= {name.lower(): (name, value) for name, value in self.headers.items()}
        lines = [f"{self.method} {self.path} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in headers.values()]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + self.body


def _check_header(name: str, value: str) -> None:
    if not _TOKEN.fullmatch(name):
        raise LoadError(f"{name!r} is no header name")
    if _UNSAFE_IN_VALUE.search(value) or not _is_latin1(value):
        raise LoadError(f"the header {name} has a value that HTTP cannot carry: {value!r}")
    if name.lower() in _FRAMING:
        raise LoadError(f"leave out the header {name}: the body's length decides it")


def _is_latin1(text: str) -> bool:
    return all(ord(character) < 256 for character in text)  # noqa: PLR2004 - the size of Latin-1


class Target(NamedTuple):
    """A server, as its URL names it.

    Attributes:
        host: name or address to resolve.
        port: TCP port.
        secure: whether to speak TLS.
        authority: the `Host` header.
        url: as it was given.
    """

    host: str
    port: int
    secure: bool
    authority: str
    url: str


def aim(url: str, requests: Sequence[Request]) -> tuple[Target, list[Request]]:
    """The server that a URL names, and the requests with their whole paths; without any, a GET of the URL.

    Raises:
        LoadError: it is no `http://` or `https://` URL, or has a query and requests with paths as well.

    Example:
        >>> target, aimed = aim("http://localhost:8000/v1", [Request(), Request("GET", "/a")])
        >>> target.port, [request.path for request in aimed], [request.name for request in aimed]
        (8000, ['/v1', '/v1/a'], ['GET /v1', 'GET /a'])
    """
    try:
        parts = urlsplit(url)
        port = parts.port
        host = (parts.hostname or "").encode("idna").decode("ascii")
    except ValueError as error:  # a UnicodeError is one as well
        raise LoadError(f"{url!r} is no URL: {error}") from error
    if parts.scheme not in {"http", "https"} or not host:
        raise LoadError(f"{url!r} is no URL to send requests to; write it as http://host:port/path")
    if parts.username is not None:
        raise LoadError("put credentials into a header (Authorization: …), not into the URL")
    if parts.query and any(request.path for request in requests):
        raise LoadError(f"move the query ?{parts.query} from the URL into the paths of the requests")
    authority = f"[{host}]" if ":" in host else host
    target = Target(
        host=host,
        port=(443 if parts.scheme == "https" else 80) if port is None else port,
        secure=parts.scheme == "https",
        authority=authority if port is None else f"{authority}:{port}",
        url=url,
    )
    itself = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    prefix = parts.path.rstrip("/")
    return target, [
        replace(request, path=prefix + request.path if request.path else itself)
        for request in requests or [Request()]
    ]
