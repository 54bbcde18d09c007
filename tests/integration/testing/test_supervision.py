from __future__ import annotations

import subprocess
import sys

import pytest

from upshift.errors import ServerUnavailableError
from upshift.testing.servers import supervisor, valkey


def test_a_supervisor_that_dies_at_once_is_told_with_its_own_words(monkeypatch, tmp_path):
    script = tmp_path / "supervisor.py"
    script.write_text("raise SystemExit('no memory left\\nat all')")
    monkeypatch.setattr(supervisor, "__file__", str(script))
    with pytest.raises(ServerUnavailableError, match=r"supervisor died .* no memory left\nat all"):
        valkey().__enter__()


def test_a_supervisor_whose_caller_is_gone_before_it_asks_ends_quietly():
    ended = subprocess.run(
        [sys.executable, "-I", "-S", supervisor.__file__],
        input=b'{"half a pl',
        capture_output=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")
