"""Where the server is: resolved once, so that no connection of the run waits for the resolver."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import TYPE_CHECKING, NamedTuple

from upshift.errors import LoadError

if TYPE_CHECKING:
    from upshift.load.request import Target


class Address(NamedTuple):
    """An IP address and port that accepted a connection, and how to speak TLS there (None: plainly)."""

    host: str
    port: int
    tls: ssl.SSLContext | None
    server_name: str | None

    async def connect(self, protocol: asyncio.Protocol) -> asyncio.BaseTransport:
        """Open a connection for `protocol`; raises OSError when it is refused or TLS fails."""
        transport, _ = await asyncio.get_running_loop().create_connection(
            lambda: protocol, self.host, self.port, ssl=self.tls, server_hostname=self.server_name
        )
        return transport


async def reach(target: Target, timeout: float) -> Address:  # noqa: ASYNC109 - ends in a LoadError that says why
    """The target's first address that accepts a connection; `localhost` often has one that does not.

    Raises:
        LoadError: none does within `timeout` seconds.
    """
    tls = ssl.create_default_context() if target.secure else None
    server_name = target.host if target.secure else None
    where = f"{target.host} port {target.port}"
    reason: OSError | None = None
    try:
        async with asyncio.timeout(timeout):
            for host in await _resolve(target):
                address = Address(host, target.port, tls, server_name)
                try:
                    transport = await address.connect(asyncio.Protocol())
                except OSError as error:
                    reason = error
                else:
                    transport.close()
                    return address
    except TimeoutError as error:
        raise LoadError(f"no connection to {where} within {timeout:g} s: is the server up?") from error
    except OSError as error:
        raise LoadError(f"no address for the host {target.host!r}: {error.strerror or error}") from error
    raise LoadError(f"no connection to {where}: {reason}. Is the server running there?") from reason


async def _resolve(target: Target) -> list[str]:
    found = await asyncio.get_running_loop().getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))
