from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from upshift.errors import ServerUnavailableError
from upshift.testing.servers.supervision import (
    PORT_ATTEMPTS,
    is_open_to_all,
    new_directory,
    retrying_taken_ports,
    server_environment,
)

SHORT = Path("/tmp").resolve()


def test_directory_lies_in_the_users_temporary_directory(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/var")
    assert new_directory().parent == Path("/var").resolve()


def test_directory_is_a_new_one_each_time():
    assert new_directory() != new_directory()


def test_directory_leaves_room_for_the_path_of_a_socket(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("long" * 20)))
    assert new_directory().parent == SHORT


def test_directory_for_another_user_is_not_below_a_private_one(monkeypatch):
    with tempfile.TemporaryDirectory(dir="/tmp") as private:  # made with mode 0700
        monkeypatch.setattr(tempfile, "tempdir", private)
        assert new_directory().parent == Path(private).resolve()
        assert new_directory(for_another_user=True).parent == SHORT


def test_file_is_open_to_all_only_where_every_step_to_it_is(tmp_path):
    program = tmp_path / "program"
    program.touch(mode=0o755)
    tmp_path.chmod(0o700)
    assert not is_open_to_all(program)
    assert is_open_to_all(Path("/bin/sh"))


def test_environment_of_the_caller_does_not_change_the_server(monkeypatch):
    for name in ("PGPORT", "PGDATA", "LC_MESSAGES", "LANG", "LANGUAGE"):
        monkeypatch.setenv(name, "changed")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    environment = server_environment()
    assert "changed" not in environment.values()
    assert (environment["LC_ALL"], environment["TZ"]) == ("C", "UTC")
    assert environment["PATH"] == os.environ["PATH"]


def test_start_is_tried_again_while_its_port_is_taken():
    outcomes = iter([ServerUnavailableError("bind: Address already in use"), None])

    def start() -> str:
        if (error := next(outcomes)) is not None:
            raise error
        return "started"

    assert retrying_taken_ports(start) == "started"


def test_start_is_given_up_after_some_attempts():
    attempts = []

    def start() -> None:
        attempts.append(1)
        raise ServerUnavailableError("bind: Address already in use")

    with pytest.raises(ServerUnavailableError):
        retrying_taken_ports(start)
    assert len(attempts) == PORT_ATTEMPTS


def test_start_that_failed_for_another_reason_is_not_tried_again():
    attempts = []

    def start() -> None:
        attempts.append(1)
        raise ServerUnavailableError("initdb: the disk is full")

    with pytest.raises(ServerUnavailableError, match="the disk is full"):
        retrying_taken_ports(start)
    assert len(attempts) == 1
