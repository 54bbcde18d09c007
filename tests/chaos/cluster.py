"""A PostgreSQL that can be stopped, killed and started again with its data."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from upshift.testing.servers import PostgresServer
from upshift.testing.servers.supervision import free_port, server_environment

START_SECONDS = 20


class Cluster:
    """A cluster of its own, run with the programs and the user of a server that runs already."""

    def __init__(self, server: PostgresServer) -> None:
        owner = server.data_dir.stat()
        self._programs = Path(f"/proc/{server.pid}/exe").readlink().parent
        self._as = (
            {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []} if os.geteuid() == 0 else {}
        )
        self.directory = Path(tempfile.mkdtemp(prefix="upshift-chaos-", dir="/tmp"))
        os.chown(self.directory, owner.st_uid, owner.st_gid)
        self.port = free_port()
        self._data = self.directory / "data"
        self._postmaster: subprocess.Popen[bytes] | None = None
        self._run(
            "initdb",
            f"--pgdata={self._data}",
            "--username=postgres",
            "--no-sync",
            "--auth=trust",
            "--no-locale",
            "--encoding=UTF8",
        )
        self.start()

    def start(self) -> None:
        """Start, and return when it answers."""
        with (self.directory / "log").open("ab") as log:
            self._postmaster = subprocess.Popen(
                [self._programs / "postgres", "-D", self._data, "-p", str(self.port)]
                + [
                    f"-c{each}"
                    for each in ("listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off")
                ],
                stdout=log,
                stderr=log,
                env=server_environment(),
                **self._as,
            )
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                psycopg.connect(self.url(), connect_timeout=2).close()
            except psycopg.OperationalError:
                assert time.monotonic() < deadline, (self.directory / "log").read_text()
                time.sleep(0.02)
            else:
                return

    def stop(self, *, at_once: bool = False) -> None:
        """Stop it; `at_once` as after a crash, so that it has to recover."""
        self._postmaster.send_signal(signal.SIGQUIT if at_once else signal.SIGINT)
        self._postmaster.wait(START_SECONDS)

    def url(self, port: int | None = None) -> str:
        return f"postgresql://postgres@127.0.0.1:{port or self.port}/postgres"

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [self._programs / program, *arguments],
            check=True,
            capture_output=True,
            env=server_environment(),
            **self._as,
        )


@contextmanager
def cluster(server: PostgresServer) -> Iterator[Cluster]:
    made = Cluster(server)
    try:
        yield made
    finally:
        made.stop(at_once=True)
        shutil.rmtree(made.directory, ignore_errors=True)
