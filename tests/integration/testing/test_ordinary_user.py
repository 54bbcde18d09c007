"""The same as an ordinary user, which the other tests only prove where it is one that runs them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import upshift

NOBODY = 65534
SESSION = """
import json, os
from sqlalchemy import create_engine, text
from upshift.testing.servers import postgres, valkey
with postgres() as one, valkey() as two:
    with create_engine(one.url(driver="psycopg")).connect() as connection:
        answer = connection.scalar(text("SELECT 6 * 7"))
    owners = {os.stat(f"/proc/{pid}").st_uid for pid in (one.pid, two.pid)}
    print(json.dumps([os.getuid(), sorted(owners), answer]))
"""


def run_as_nobody(*command: str) -> subprocess.CompletedProcess[str]:
    paths = [
        str(Path(upshift.__file__).parents[1]),
        *(path for path in sys.path if path.endswith("site-packages")),
    ]
    return subprocess.run(
        command,
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        cwd="/",
        env={"PATH": os.defpath, "PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def python_for_nobody() -> str | None:
    """A Python that nobody can run, and that imports what this one does; this one may lie in root's home."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    for candidate in (sys.executable, shutil.which(f"python{version}", path=os.defpath)):
        try:
            if (
                candidate
                and run_as_nobody(candidate, "-c", "import upshift.testing, psycopg").returncode == 0
            ):
                return candidate
        except PermissionError:
            continue
    return None


@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="only root on Linux can become nobody"
)
def test_an_ordinary_user_runs_both_servers_as_itself():
    python = python_for_nobody()
    if python is None:
        pytest.skip("no Python here that `nobody` can run with this environment's packages")
    ended = run_as_nobody(python, "-c", SESSION)
    assert ended.stderr == ""
    assert ended.stdout == "[65534, [65534], 42]\n"
