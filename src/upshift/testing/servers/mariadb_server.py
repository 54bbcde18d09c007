"""MariaDB for as long as a `with` block lasts, where it is installed (Debian's package `mariadb-server`)."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import URL

from upshift.errors import ServerUnavailableError
from upshift.testing.servers.postgres_server import unprivileged_user
from upshift.testing.servers.supervision import new_directory, server_environment, supervised

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from upshift.testing.servers.supervisor import Plan

USER = "root"
PROGRAMS = ("mariadbd", "mariadb-install-db", "mariadb")
THROWAWAY = {"innodb-flush-log-at-trx-commit": "0", "skip-log-bin": "", "innodb-buffer-pool-size": "32M"}
"""The data is deleted with the server, so nothing has to survive a crash of the machine."""


@dataclass(frozen=True, slots=True)
class MariadbServer:
    """A running server.

    Attributes:
        pid: its process id.
        socket: the path of its unix socket, in a directory that only its user and root may enter.
    """

    pid: int
    socket: Path

    def url(self, database: str, *, driver: str) -> str:
        """A database's URL for SQLAlchemy.

        Args:
            database: its name.
            driver: "pymysql" or "aiomysql".
        """
        socket = {"unix_socket": str(self.socket), "charset": "utf8mb4"}
        return URL.create(f"mysql+{driver}", USER, database=database, query=socket).render_as_string()

    def create_database(self, name: str) -> None:
        """Make an empty database.

        Raises:
            ServerUnavailableError: the server refused, or is gone.
        """
        quoted = name.replace("`", "``")
        ended = subprocess.run(  # noqa: S603 - a program of the installation that runs the server
            [
                _program("mariadb"),
                "--no-defaults",
                f"--socket={self.socket}",
                f"--user={USER}",
                "-e",
                f"CREATE DATABASE `{quoted}`",
            ],
            env=server_environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if ended.returncode != 0:
            raise ServerUnavailableError(ended.stderr.strip())


@contextlib.contextmanager
def mariadb() -> Iterator[MariadbServer]:
    """A fresh MariaDB on a private unix socket, gone with its data when the block ends.

    Raises:
        ServerUnavailableError: MariaDB is not installed, or did not start; the message says why.
    """
    server, install = _program("mariadbd"), _program("mariadb-install-db")
    owner = unprivileged_user() if os.geteuid() == 0 else None
    directory = new_directory(for_another_user=owner is not None)
    data_dir, socket = directory / "data", directory / "mariadb.sock"
    options = [f"--{name}={value}" if value else f"--{name}" for name, value in THROWAWAY.items()]
    plan: Plan = {
        "caller": os.getpid(),
        "directory": str(directory),
        "owner": owner,
        "trees": {},
        "files": {},
        "setup": [
            [
                install,
                "--no-defaults",
                f"--datadir={data_dir}",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
                "--skip-name-resolve",
            ]
        ],
        "server": [
            server,
            "--no-defaults",
            f"--datadir={data_dir}",
            f"--socket={socket}",
            f"--pid-file={directory / 'pid'}",
            "--skip-networking",
            *options,
        ],
        # The log goes to standard error, where the supervisor reads that the server is ready.
        "ready": (f"{directory}/log", "ready for connections"),
        "stop_signal": signal.SIGKILL,  # its data is deleted, so nothing has to be written for it
        "after_kill": None,
    }
    with supervised(plan) as pid:
        yield MariadbServer(pid, socket)


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise ServerUnavailableError(
            f"no MariaDB found: {name} is not on the PATH ({', '.join(PROGRAMS)} are needed; Debian's package"
            " mariadb-server has them)"
        )
    return found
