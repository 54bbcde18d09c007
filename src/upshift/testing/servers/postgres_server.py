"""PostgreSQL for as long as a `with` block lasts."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, assert_never

from sqlalchemy import URL

from upshift.errors import ServerUnavailableError
from upshift.testing.servers.binaries import Postgres, find_postgres
from upshift.testing.servers.supervision import (
    free_port,
    is_open_to_all,
    new_directory,
    retrying_taken_ports,
    server_environment,
    supervised,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from upshift.testing.servers.supervisor import Plan

USER = "postgres"
THROWAWAY = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}
"""The data is deleted with the server, so nothing has to survive a crash of the machine."""
UNPRIVILEGED = ("nobody", "postgres")
"""Whom to run as where the caller is root, which PostgreSQL refuses. `postgres` may own other clusters."""
INITDB_OPTIONS = ("--encoding=UTF8", "--no-locale", "--no-sync", "--auth=trust")


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """A running server.

    Attributes:
        pid: process id of the postmaster.
        data_dir: the cluster's directory; deleted with the server.
        host: 127.0.0.1, or the directory of the unix socket.
        port: the TCP port; with a unix socket it is merely a part of the socket's name.
        password: the superuser's; None on a unix socket, where the directory's mode is the gate.
        programs: the directory of the client programs (`createdb`, `psql`, …).
    """

    pid: int
    data_dir: Path
    host: str
    port: int
    password: str | None
    programs: Path

    def url(self, database: str = "postgres", *, driver: str | None = None) -> str:
        """A database's URL for SQLAlchemy, with the password in clear.

        Args:
            database: its name.
            driver: "psycopg" or "asyncpg"; None for a URL that these and psql read without SQLAlchemy.
        """
        name = "postgresql" if driver is None else f"postgresql+{driver}"
        if self.password is None:
            socket = {"host": self.host, "port": str(self.port)}
            url = URL.create(name, USER, database=database, query=socket)
        else:
            url = URL.create(name, USER, self.password, self.host, self.port, database)
        return url.render_as_string(hide_password=False)

    def create_database(self, name: str) -> None:
        """Make an empty database.

        Raises:
            ServerUnavailableError: the server refused, or is gone.
        """
        self._ask("createdb", "--", name)

    def drop_database(self, name: str) -> None:
        """Delete a database, and end the connections to it.

        Raises:
            ServerUnavailableError: the server refused, or is gone.
        """
        self._ask("dropdb", "--force", "--", name)

    def _ask(self, program: str, *arguments: str) -> None:
        # PostgreSQL's own client programs need no driver, and quote the names.
        ended = subprocess.run(  # noqa: S603 - a program of the installation that runs the server
            [
                self.programs / program,
                f"--host={self.host}",
                f"--port={self.port}",
                f"--username={USER}",
                "--no-password",
                *arguments,
            ],
            env=server_environment() | {"PGPASSWORD": self.password or ""},
            capture_output=True,
            text=True,
            check=False,
        )
        if ended.returncode != 0:
            raise ServerUnavailableError(ended.stderr.strip())


@contextlib.contextmanager
def postgres(
    *, listen: Literal["socket", "tcp"] = "socket", settings: Mapping[str, str] | None = None
) -> Iterator[PostgresServer]:
    """A fresh PostgreSQL cluster (UTF-8, collation C, time zone UTC), gone with its data when the block ends.

    Durability is off (`THROWAWAY`); everything else is as PostgreSQL has it by default.

    Args:
        listen: "socket" for a private unix socket, "tcp" for a free port of 127.0.0.1 and a random password.
        settings: server settings by name, which replace those defaults, but not where the server listens:
            `{"shared_preload_libraries": "pg_stat_statements"}`.

    Raises:
        ServerUnavailableError: PostgreSQL is not installed, or did not start; the message says why.
    """
    installation = find_postgres()
    with contextlib.ExitStack() as stack:
        yield retrying_taken_ports(
            lambda: stack.enter_context(_started(installation, listen, {**THROWAWAY, **(settings or {})}))
        )


@contextlib.contextmanager
def _started(
    installation: Postgres, listen: Literal["socket", "tcp"], settings: Mapping[str, str]
) -> Iterator[PostgresServer]:
    owner = unprivileged_user() if os.geteuid() == 0 else None
    directory = new_directory(for_another_user=owner is not None)
    if listen == "socket":
        host, port, password = str(directory), 5432, None
        address = {"listen_addresses": "", "unix_socket_directories": host, "port": str(port)}
    elif listen == "tcp":
        host, port, password = "127.0.0.1", free_port(), secrets.token_urlsafe(16)
        address = {"listen_addresses": host, "unix_socket_directories": "", "port": str(port)}
    else:
        assert_never(listen)
    programs, trees = reachable(installation, directory) if owner else (installation.programs, {})
    data_dir, password_file = directory / "data", directory / "password"
    initdb = [f"{programs}/initdb", f"--pgdata={data_dir}", f"--username={USER}", *INITDB_OPTIONS]
    server = [f"{programs}/postgres", "-D", str(data_dir)]
    plan: Plan = {
        "caller": os.getpid(),
        "directory": str(directory),
        "owner": owner,
        "trees": trees,
        "files": {str(password_file): password} if password else {},
        "setup": [
            [*initdb, "--auth-host=scram-sha-256", f"--pwfile={password_file}"] if password else initdb
        ],
        "server": server + [f"--{name}={value}" for name, value in {**settings, **address}.items()],
        "ready": (f"{data_dir}/postmaster.pid", "ready"),
        "stop_signal": signal.SIGQUIT,
        # A killed postmaster leaves its shared memory behind; the next server of that directory removes it.
        "after_kill": [f"{programs}/postgres", "--single", "-D", str(data_dir), "postgres"],
    }
    with supervised(plan) as pid:
        yield PostgresServer(pid, data_dir, host, port, password, installation.programs)


def unprivileged_user() -> tuple[int, int]:
    """Whom to run as where the caller is root: user and group id.

    Raises:
        ServerUnavailableError: there is no such user.
    """
    import pwd  # not on Windows, where this module can be imported all the same

    for name in UNPRIVILEGED:
        with contextlib.suppress(KeyError):
            account = pwd.getpwnam(name)
            return account.pw_uid, account.pw_gid
    raise ServerUnavailableError(
        "PostgreSQL refuses to run as root, and there is no user `nobody` or `postgres` to run it as: "
        "run as an ordinary user, or set DATABASE_URL to a server that runs"
    )


def reachable(installation: Postgres, directory: Path) -> tuple[Path, dict[str, str]]:
    """Where an unprivileged user can run the programs, and which trees have to be copied there for that."""
    if not installation.trees or is_open_to_all(installation.programs / "postgres"):
        return installation.programs, {}
    home, copy = installation.trees[0].parent, directory / "software"
    trees = {str(tree): str(copy / tree.relative_to(home)) for tree in installation.trees}
    return copy / installation.programs.relative_to(home), trees
