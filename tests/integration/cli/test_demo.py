"""`upshift demo` on a small application: the whole loop, and what happens when it is cut short."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

MANIFEST = """
name = "Shop"
app = "shop:app"
app-dir = "."
load = "dataset"
database-url-variable = "DATABASE_URL"
[[endpoint]]
name = "author list"
paths = ["/authors"]
"""
DATASET = """
import os, sys
os.environ["DATABASE_URL"] = sys.argv[sys.argv.index("--url") + 1]
import shop
shop.fill()
"""


@pytest.fixture
def small_shop(shop):
    (shop / "demo.toml").write_text(MANIFEST)
    (shop / "dataset.py").write_text(DATASET)
    return shop


def descendants_gone(pid):
    """Whether no process started by `pid`, or left by it, still works in its name."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if not [each for each in psutil.process_iter(["environ"]) if _is_marked(each, pid)]:
            return True
        time.sleep(0.1)
    return False


def _is_marked(process, mark):
    return (process.info["environ"] or {}).get("UPSHIFT_TEST_MARK") == mark and process.pid != os.getpid()


def test_the_loop_runs_from_finding_to_proof_and_writes_a_report(run, small_shop):
    finished = run("demo", "--app", ".", "--sqlite", "--exit", "--report", "report.html")

    assert finished.returncode == 0, finished.stderr
    assert "UP101 error   shop.py:" in finished.stdout
    assert "all 1 answers are unchanged" in finished.stdout
    assert "author list" in finished.stdout
    page = (small_shop / "report.html").read_text()
    assert "21 → " in page
    assert "http" not in page.replace("http-equiv", "")


def test_what_a_manifest_does_not_name_cannot_be_stored(run, small_shop):
    finished = run("demo", "--app", ".", "--sqlite", "--exit", "--fix", "cache")

    assert finished.returncode != 0
    assert "has no responses, or no write" in " ".join(finished.stderr.split())


@pytest.mark.parametrize("seconds", [0.8, 3.0, 6.0])
def test_ctrl_c_at_any_moment_leaves_a_message_and_no_process(small_shop, seconds):
    mark = f"{os.getpid()}-{seconds}"
    command = [sys.executable, "-m", "upshift", "demo", "--app", ".", "--pairs", "50", "--exit"]
    process = subprocess.Popen(
        command,
        cwd=small_shop,
        env={**os.environ, "UPSHIFT_TEST_MARK": mark},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=30)

    assert process.returncode in {130, -signal.SIGINT}
    assert "Traceback" not in told or process.returncode == -signal.SIGINT
    assert descendants_gone(mark)


def test_a_folder_without_a_manifest_is_told(run, tmp_path):
    finished = run("demo", "--app", ".")

    assert finished.returncode == 2
    assert "demo.toml cannot be read" in finished.stderr


def test_a_data_set_that_fails_to_load_is_told_with_its_last_line(run, small_shop):
    (small_shop / "dataset.py").write_text("raise SystemExit('no space left on device')")

    finished = run("demo", "--app", ".", "--sqlite", "--exit")

    assert finished.returncode == 2
    assert "no space left on device" in finished.stderr


def test_an_application_that_fails_under_load_is_told(run, small_shop):
    (small_shop / "shop.py").write_text(
        (small_shop / "shop.py").read_text().replace("len(author.books)", "1 / 0")
    )

    finished = run("demo", "--app", ".", "--sqlite", "--exit")

    assert finished.returncode == 2
    assert "requests failed under load" in finished.stderr
