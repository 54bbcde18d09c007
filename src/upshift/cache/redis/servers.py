"""Where the server is: by URL or from a ready client, alone, behind Sentinels, or as a node of a Cluster.

All keys of a cache are in one slot, so in a Cluster too it has to do with one server at a time.
"""

from __future__ import annotations

import ssl
from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from urllib.parse import urlsplit

from upshift.cache.redis.links import SyncLink
from upshift.cache.redis.wire import Command, Unreachable, checked, greeting, run_of
from upshift.errors import MissingExtraError, SettingsError

try:
    from redis.connection import parse_url
    from redis.crc import key_slot
except ModuleNotFoundError as error:  # pragma: no cover - the extra is installed where tests run
    raise MissingExtraError("a cache in Redis", "redis") from error

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

SENTINEL_PORT = 26_379
FORMS = "redis://, rediss://, unix://, redis+sentinel://, redis+cluster:// (and rediss+…)"


class Server(NamedTuple):
    """A server and how to talk to it.

    Attributes:
        host: its name or address; empty for a unix socket.
        port: its port.
        path: its unix socket; empty for TCP.
        username: the ACL user; empty for the default one.
        password: the password; empty for none.
        database: the number of the database.
        protocol: 2 or 3, for RESP2 or RESP3.
        tls: how TLS is spoken; None for plain text.
    """

    host: str
    port: int
    path: str
    username: str
    password: str
    database: int
    protocol: int
    tls: ssl.SSLContext | None

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}"


class Finder(Protocol):
    """Tells which server to ask.

    Attributes:
        found: the server, where it is known without asking anybody.
    """

    found: Server | None

    def find(self, seconds: float) -> Server:
        """Return the server; it may take so long to ask others for it.

        Raises:
            Unreachable: nobody could tell.
        """

    def lose(self) -> None:
        """Note that the server is not the right one any more."""


class One:
    """A server that is always the same."""

    def __init__(self, server: Server) -> None:
        self.found: Server | None = server
        self._server = server

    def find(self, seconds: float) -> Server:  # noqa: ARG002 - nobody is asked
        """Return the server."""
        return self._server

    def lose(self) -> None:
        """Do nothing: there is no other."""


class _Asked:
    """A server that others are asked for, until it is lost."""

    def __init__(self, others: Sequence[Server]) -> None:
        self.found: Server | None = None
        self._others = list(others)

    def find(self, seconds: float) -> Server:
        """Return the server that the first of the others to answer has named."""
        found = self.found
        if found is None:
            found = self.found = self._ask(seconds)
        return found

    def lose(self) -> None:
        """Ask again the next time."""
        self.found = None

    def _ask(self, seconds: float) -> Server:
        reasons = []
        for other in list(self._others):
            try:
                with closing(SyncLink(other, seconds)) as link:
                    run_of(link.ask(greeting(other)))
                    server = self._read(other, checked(link.ask([self._question()])[0]))
            except Unreachable as error:
                reasons.append(f"{other}: {error}")
            else:
                self._others.remove(other)
                self._others.insert(0, other)
                return server
        raise Unreachable("; ".join(reasons))

    def _question(self) -> Command:
        raise NotImplementedError

    def _read(self, other: Server, reply: Any) -> Server:
        raise NotImplementedError


class Sentinels(_Asked):
    """The master of a service, as Sentinels tell.

    Args:
        sentinels: the Sentinels.
        service: the name of the service.
        server: what the master is like, but for host and port.
    """

    def __init__(self, sentinels: Sequence[Server], service: str, server: Server) -> None:
        super().__init__(sentinels)
        self._service = service
        self._server = server

    def _question(self) -> Command:
        return Command(("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service))

    def _read(self, other: Server, reply: Any) -> Server:  # noqa: ARG002 - it names the whole address
        if not reply:
            raise Unreachable(f"no service {self._service!r} is known")
        host, port = reply
        return self._server._replace(host=_text(host), port=int(port))


class Cluster(_Asked):
    """The node that has a key's slot.

    Args:
        nodes: some nodes of the cluster.
        key: the key.
    """

    def __init__(self, nodes: Sequence[Server], key: bytes) -> None:
        super().__init__(nodes)
        self._slot = key_slot(key)

    def _question(self) -> Command:
        return Command(("CLUSTER", "SLOTS"))

    def _read(self, other: Server, reply: Any) -> Server:
        for first, last, master, *_ in reply:
            if first <= self._slot <= last:
                # An empty host is that of the node that was asked.
                return other._replace(host=_text(master[0]) or other.host, port=int(master[1]))
        raise Unreachable(f"no node has the slot {self._slot}")


def finder_of(where: Any, key: bytes) -> Finder:
    """Return what finds the server of a URL or of a ready client of redis-py.

    Args:
        where: a URL in one of the `FORMS`, or a client, sync or async, for one server, Sentinel or Cluster.
        key: a key that is kept there.

    Raises:
        SettingsError: it is neither.

    Example:
        >>> str(finder_of("redis://localhost/2", b"key").find(1.0))
        'localhost:6379'
    """
    return _of_url(where, key) if isinstance(where, str) else _of_client(where, key)


def _of_url(url: str, key: bytes) -> Finder:
    scheme, _, form = urlsplit(url).scheme.partition("+")
    if scheme not in {"redis", "rediss", "unix"} or form not in {"", "sentinel", "cluster"}:
        raise SettingsError(f"a cache's URL begins with one of {FORMS}, not {urlsplit(url).scheme!r}")
    parts = urlsplit(url)
    login, _, hosts = parts.netloc.rpartition("@")
    default = f":{SENTINEL_PORT}" if form == "sentinel" else ""
    places = []
    for host in hosts.split(","):
        place = host if ":" in host.rpartition("]")[2] or not host else host + default
        places.append(f"{login}@{place}" if login else place)
    path = parts.path
    service = ""
    if form == "sentinel":
        service, _, path = path.strip("/").partition("/")
        if not service:
            raise SettingsError("a URL of Sentinels names the service: redis+sentinel://host/service")
    parse: Callable[[str], dict[str, Any]] = parse_url
    try:
        query = f"?{parts.query}" if parts.query else ""
        servers = [_server(parse(f"{scheme}://{place}{path}{query}")) for place in places]
    except ValueError as error:
        raise SettingsError(f"the cache's URL cannot be read: {error}") from None
    if form == "sentinel":
        # The login is the server's; Sentinels that want one of their own are given by a ready client.
        bare = [each._replace(username="", password="", database=0) for each in servers]
        return Sentinels(bare, service, servers[0])
    return Cluster(servers, key) if form == "cluster" else One(servers[0])


def _of_client(client: Any, key: bytes) -> Finder:
    nodes = getattr(client, "nodes_manager", None)
    if nodes is not None:
        options = nodes.connection_kwargs
        return Cluster(
            [
                _server({**options, "host": node.host, "port": node.port})
                for node in nodes.startup_nodes.values()
            ],
            key,
        )
    pool = getattr(client, "connection_pool", None)
    if pool is None:
        raise SettingsError(f"a cache is given a URL or a client of redis-py, not {client!r:.80}")
    options = {"connection_class": pool.connection_class, **pool.connection_kwargs}
    manager = getattr(pool, "sentinel_manager", None)
    if manager is not None:
        sentinels = [_server(each.connection_pool.connection_kwargs) for each in manager.sentinels]
        return Sentinels(sentinels, pool.service_name, _server(options))
    return One(_server(options))


def _server(options: Mapping[str, Any]) -> Server:
    """Return the server of redis-py's options for a connection."""
    login: Callable[[], tuple[str, ...]] | None = getattr(
        options.get("credential_provider"), "get_credentials", None
    )
    credentials = login() if login is not None else ()
    username, password = (("", *credentials)[-2:]) if credentials else ("", "")
    is_tls = options.get("ssl") or "SSL" in getattr(options.get("connection_class"), "__name__", "")
    return Server(
        host="" if options.get("path") else str(options.get("host") or "localhost"),
        port=int(options.get("port") or 6379),
        path=str(options.get("path") or ""),
        username=str(username or options.get("username") or ""),
        password=str(password or options.get("password") or ""),
        database=int(options.get("db") or 0),
        protocol=int(options.get("protocol") or 3),
        tls=_tls(options) if is_tls else None,
    )


def _tls(options: Mapping[str, Any]) -> ssl.SSLContext:
    context = ssl.create_default_context(
        cafile=options.get("ssl_ca_certs"),
        capath=options.get("ssl_ca_path"),
        cadata=options.get("ssl_ca_data"),
    )
    demanded = options.get("ssl_cert_reqs", "required")
    check = options.get("ssl_check_hostname", True)
    context.check_hostname = demanded in {"required", ssl.CERT_REQUIRED} and check not in {False, "false"}
    if demanded in {"none", None, ssl.CERT_NONE}:
        context.verify_mode = ssl.CERT_NONE
    elif demanded in {"optional", ssl.CERT_OPTIONAL}:
        context.verify_mode = ssl.CERT_OPTIONAL
    if options.get("ssl_certfile"):
        context.load_cert_chain(
            options["ssl_certfile"], options.get("ssl_keyfile"), options.get("ssl_password")
        )
    return context


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
