"""How commands end that ran code of others: `find` soon, `serve` when that code is done."""

import signal
import subprocess
import sys
import time
import urllib.request

APPLICATION = """
import atexit, threading, time
from fastapi import FastAPI
app = FastAPI()

@app.get("/things")
def things():
    threading.Thread(target=time.sleep, args=[{seconds}]).start()
    return []

def last():
    time.sleep(0.1)
    print("flushed", flush=True)

atexit.register(last)
"""


def test_find_leaves_a_thread_behind_that_does_not_end(run, tmp_path):
    (tmp_path / "shop.py").write_text(APPLICATION.format(seconds=60))

    started = time.monotonic()
    finished = run("find", "shop:app")

    assert (finished.returncode, finished.stderr) == (0, "")
    assert "no findings in 1 route" in finished.stdout
    assert time.monotonic() - started < 30


def test_find_lets_exit_handlers_run(run, tmp_path):
    (tmp_path / "shop.py").write_text(APPLICATION.format(seconds=0))

    finished = run("find", "shop:app")

    assert finished.stdout.endswith("flushed\n")


def test_serve_waits_for_the_applications_threads_and_exit_handlers(tmp_path):
    (tmp_path / "shop.py").write_text(APPLICATION.format(seconds=5))
    server = subprocess.Popen(
        [sys.executable, "-m", "upshift", "serve", "shop:app", "--port", "0"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with server:
        url = next(
            line.partition("running on ")[2].split()[0] for line in server.stderr if " on http" in line
        )
        with urllib.request.urlopen(f"{url}/things", timeout=10):
            server.send_signal(signal.SIGINT)
        assert server.wait(30) == 0
        assert server.stdout.read() == "flushed\n"
