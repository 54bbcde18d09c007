import asyncio
import ssl
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

import pytest

from upshift.errors import LoadError, MissingExtraError
from upshift.load import ClosedPlan, OpenPlan, run, run_async


def test_a_port_where_nothing_listens_is_refused_before_the_run(unused_port):
    with pytest.raises(LoadError, match="Is the server running there"):
        run(f"http://127.0.0.1:{unused_port}", ClosedPlan(count=1))


def test_a_host_that_does_not_exist_is_refused_before_the_run():
    with pytest.raises(LoadError, match=r"no address for the host 'nowhere\.invalid'"):
        run("http://nowhere.invalid", ClosedPlan(count=1))


def test_localhost_is_reached_whichever_of_its_addresses_listens(serve):
    assert run(f"http://localhost:{serve().port}", ClosedPlan(count=5)).ok == 5


@pytest.mark.parametrize("module", ["uvloop", "httptools"])
def test_a_missing_dependency_names_the_extra(module):
    program = (
        f"import sys; sys.modules[{module!r}] = None\n"
        "from upshift.errors import MissingExtraError\n"
        "try:\n"
        "    from upshift.load import ClosedPlan, run\n"
        "    run('http://localhost:1', ClosedPlan(count=1))\n"
        "except MissingExtraError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert "pip install 'upshift[load]'" in done.stdout
    assert MissingExtraError("load tests", "load").args[0] == done.stdout.strip()


def test_two_runs_at_once_do_not_mix(serve):
    servers = [serve(), serve(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")]
    with ThreadPoolExecutor() as pool:
        reports = list(pool.map(lambda server: run(server.url, ClosedPlan(count=500)), servers))
    assert [report.statuses for report in reports] == [{200: 500}, {404: 500}]


async def test_runs_share_a_loop(serve):
    server = serve()
    reports = await asyncio.gather(
        run_async(server.url, OpenPlan(rate=100, seconds=0.2)), run_async(server.url, ClosedPlan(count=50))
    )
    assert [report.ok for report in reports] == [20, 50]


async def test_a_cancelled_run_closes_its_connections(serve):
    asked, gone = SimpleQueue(), SimpleQueue()

    async def hang(server, peer):
        asked.put(await peer.request())
        gone.put(await peer.gone())

    server = serve(hang)
    running = asyncio.create_task(run_async(server.url, ClosedPlan(connections=3, seconds=60, timeout=60)))
    for _ in range(3):
        await asyncio.to_thread(asked.get, timeout=30)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    for _ in range(3):
        await asyncio.to_thread(gone.get, timeout=30)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_time_limit_around_a_run_holds(serve):
    async def hang(server, peer):
        await peer.gone()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await run_async(serve(hang).url, OpenPlan(rate=10, seconds=60, timeout=60))


def test_progress_is_told_while_it_runs(serve):
    told = []
    report = run(serve().url, OpenPlan(rate=50, seconds=1.5), watch=told.append)
    assert report.ok == 75
    assert told
    assert told[0].seconds >= 1
    assert 0 < told[0].completed <= 75
    assert told[0].failed == 0


def test_a_fault_of_the_watcher_ends_the_run(serve):
    def fail(progress):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(serve().url, OpenPlan(rate=50, seconds=30), watch=fail)


def test_https_is_spoken_to_a_certificate_that_is_trusted(serve, certificate, monkeypatch):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = serve(ssl=context)
    url = f"https://localhost:{server.port}"
    with pytest.raises(LoadError, match="certificate"):
        run(url, ClosedPlan(count=1))
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert run(url, ClosedPlan(count=20, connections=2)).ok == 20


@pytest.fixture
def certificate(tmp_path):
    """A self-signed certificate for localhost, with its key."""
    path = tmp_path / "localhost.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-days", "1", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command += ["-keyout", str(path), "-out", str(tmp_path / "certificate")]
    try:
        subprocess.run(command, capture_output=True, check=True, timeout=60)
    except FileNotFoundError:
        pytest.skip("needs openssl to make a certificate")
    path.write_bytes(path.read_bytes() + (tmp_path / "certificate").read_bytes())
    return path
