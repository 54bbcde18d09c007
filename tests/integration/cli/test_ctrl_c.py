"""Ctrl-C: real processes, real signals, at moments that the test knows to be bad ones."""

import os
import signal
import subprocess
import sys

import pytest

SECONDS = 30


@pytest.fixture
def start(tmp_path):
    """Start `upshift` in the folder of the application; what is still running at the end is killed."""
    started = []

    def start(*arguments, **variables):
        process = subprocess.Popen(
            [sys.executable, "-m", "upshift", *arguments],
            cwd=tmp_path,
            env={**os.environ, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(("library", "command"), [("click", "explain"), ("sqlalchemy", "find")])
def test_while_libraries_are_imported_it_ends_with_a_message(start, tmp_path, library, command):
    (tmp_path / "slow" / library).mkdir(parents=True)
    slow = f"import time; print('importing', flush=True); time.sleep({SECONDS})"
    (tmp_path / "slow" / library / "__init__.py").write_text(slow)
    process = start(command, "shop:app", PYTHONPATH=str(tmp_path / "slow"))

    assert process.stdout.readline() == "importing\n"
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=SECONDS / 2)

    assert (process.returncode, told) == (130, "upshift: interrupted\n")
