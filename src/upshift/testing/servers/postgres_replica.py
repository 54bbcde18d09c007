"""A streaming replica of a `PostgresServer`, for as long as a `with` block lasts."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING

from upshift.errors import ServerUnavailableError
from upshift.testing.servers.binaries import find_postgres
from upshift.testing.servers.postgres_server import (
    THROWAWAY,
    USER,
    PostgresServer,
    reachable,
    unprivileged_user,
)
from upshift.testing.servers.supervision import new_directory, supervised

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from upshift.testing.servers.supervisor import Plan

_RELEASE = 'rm -f "$1/standby.signal"; exec "$0" --single -c fsync=off -D "$1" postgres'
"""What a killed server leaves behind, the next one of its directory removes; a standby has to be none
first."""


@contextlib.contextmanager
def postgres_replica(
    primary: PostgresServer, *, settings: Mapping[str, str] | None = None
) -> Iterator[PostgresServer]:
    """A hot standby that streams from the primary, gone with its data when the block ends.

    It is copied by `pg_basebackup` and listens on a unix socket of its own.

    Args:
        primary: a server that listens on a unix socket.
        settings: server settings by name: `{"recovery_min_apply_delay": "2s"}` makes one that lags.

    Raises:
        ServerUnavailableError: the installation has no `pg_basebackup`, the primary listens on TCP (its
            password is not handed on), or the replica did not start.

    Example:
        >>> from upshift.testing.servers import postgres
        >>> with postgres() as primary, postgres_replica(primary) as replica:
        ...     (replica.data_dir / "standby.signal").exists()
        True
    """
    installation = find_postgres()
    if not os.access(installation.programs / "pg_basebackup", os.X_OK):
        raise ServerUnavailableError(f"there is no pg_basebackup in {installation.programs}")
    if primary.password is not None:
        raise ServerUnavailableError("a replica needs a primary that listens on a unix socket")
    owner = unprivileged_user() if os.geteuid() == 0 else None
    directory = new_directory(for_another_user=owner is not None)
    programs, trees = reachable(installation, directory) if owner else (installation.programs, {})
    data_dir = directory / "data"
    address = {"listen_addresses": "", "unix_socket_directories": str(directory), "port": "5432"}
    source = [f"--host={primary.host}", f"--port={primary.port}", f"--username={USER}", "--no-password"]
    options = {**THROWAWAY, **(settings or {}), **address}
    plan: Plan = {
        "caller": os.getpid(),
        "directory": str(directory),
        "owner": owner,
        "trees": trees,
        "files": {},
        "setup": [
            [
                f"{programs}/pg_basebackup",
                f"--pgdata={data_dir}",
                *source,
                "--checkpoint=fast",
                "--no-sync",
                "--write-recovery-conf",
            ]
        ],
        "server": [
            f"{programs}/postgres",
            "-D",
            str(data_dir),
            *(f"--{name}={value}" for name, value in options.items()),
        ],
        "ready": (f"{data_dir}/postmaster.pid", "ready"),
        "stop_signal": signal.SIGQUIT,
        "after_kill": ["/bin/sh", "-c", _RELEASE, f"{programs}/postgres", str(data_dir)],
    }
    with supervised(plan) as pid:
        yield PostgresServer(pid, data_dir, str(directory), 5432, None, installation.programs)
