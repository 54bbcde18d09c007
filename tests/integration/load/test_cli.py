import json
import signal
import subprocess
import sys

import pytest
from click.testing import CliRunner

from upshift.cli.commands import upshift
from upshift.cli.load import duration, rate


def invoke(*arguments):
    return CliRunner().invoke(upshift, ["load", *arguments])


def test_an_open_run_is_reported_as_a_table(serve):
    result = invoke(serve().url, "--rate", "100/s", "--for", "200ms")
    assert result.exit_code == 0
    assert "open model" in result.output
    assert "20: 20 answered, 20 ok" in result.output
    assert "GET /" in result.output


def test_a_closed_run_is_reported_as_json(serve):
    result = invoke(serve().url, "--closed", "--connections", "2", "--for", "100ms", "--format", "json")
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert report["model"] == "closed"
    assert report["connections"] == 2
    assert report["ok"] == report["requests"] > 0


def test_method_headers_body_and_paths_are_sent(serve):
    server = serve()
    result = invoke(
        f"{server.url}/v1", "--rate", "20/s", "--for", "100ms", "--path", "/a", "--path", "/b",
        "--header", "X-Tenant: 7", "--header", "Accept: text/html", "--method", "put", "--body", "ä",
    )  # fmt: skip
    assert result.exit_code == 0
    first, second = sorted(server.requests)
    assert first.startswith(b"PUT /v1/a HTTP/1.1\r\n")
    assert second.startswith(b"PUT /v1/b HTTP/1.1\r\n")
    assert b"\r\nX-Tenant: 7\r\n" in first
    assert b"\r\nAccept: text/html\r\n" in first
    assert first.endswith("\r\n\r\nä".encode())


def test_a_body_alone_is_posted_to_the_url_itself(serve):
    server = serve()
    invoke(f"{server.url}/v1?x=1", "--rate", "1/s", "--for", "100ms", "--body", "{}")
    assert server.requests[0].startswith(b"POST /v1?x=1 HTTP/1.1\r\n")


def test_the_exit_status_is_1_when_nothing_was_answered(serve):
    async def hang_up(server, peer):
        peer.close()

    result = invoke(serve(hang_up).url, "--rate", "50/s", "--for", "200ms")
    assert result.exit_code == 1
    assert "reset 10" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rate", "fast"], "'fast' is no rate; write it as 500/s or 30/m"),
        (["--rate", "5/d"], "'5/d' is no rate"),
        (["--rate", "-5/s"], "'-5/s' is no rate"),
        (["--rate", "5/s", "--for", "soon"], "'soon' is no duration; write it as 30s, 2m or 500ms"),
        (["--rate", "5/s", "--for", "1e9s"], "is no duration"),
        (["--rate", "5/s", "--header", "X"], "'X' is no header; write it as 'Name: value'"),
        ([], "say either --rate 500/s (open model) or --closed"),
        (["--rate", "5/s", "--closed"], "say either --rate"),
        (["--closed", "--arrivals", "poisson"], "--arrivals needs --rate"),
        (["--closed", "--connections", "many"], "'many' is not a valid integer"),
    ],
)
def test_bad_usage_is_explained(arguments, message):
    result = invoke("http://127.0.0.1:1", *arguments)
    assert result.exit_code == 2
    assert message in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rate", "0/s"], "rate is 0.0; it must be above 0"),
        (["--rate", "5/s", "--for", "0s"], "seconds is 0.0; it must be above 0"),
        (["--rate", "5/s", "--path", "a"], "must start with /"),
        (["--rate", "5/s", "--header", "X: a\nb"], "cannot carry"),
        (["--rate", "5/s", "--connections", "0"], "0 connections"),
        (["--rate", "5/s"], "no connection to 127.0.0.1"),
    ],
)
def test_what_cannot_be_run_is_explained(arguments, message, unused_port):
    result = invoke(f"http://127.0.0.1:{unused_port}", *arguments)
    assert result.exit_code == 2
    assert message in result.output
    assert "Traceback" not in result.output


def test_rates_and_durations_have_units():
    assert (rate("500/s"), rate("30/m"), rate("1.5"), rate("3600/h")) == (500, 0.5, 1.5, 1)
    assert (duration("500ms"), duration("2m"), duration("1.5h"), duration("7")) == (0.5, 120, 5400, 7)


def test_ctrl_c_prints_what_was_measured_and_exits_130(serve):
    async def hang_after_ten(server, peer):
        while True:
            await peer.request()
            if len(server.requests) == 11:
                command.send_signal(signal.SIGINT)
            if len(server.requests) > 10:
                await peer.gone()
            await peer.answer()

    server = serve(hang_after_ten)
    command = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "upshift",
            "load",
            server.url,
            "--rate",
            "100/s",
            "--for",
            "10m",
            "--format",
            "json",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    output, errors = command.communicate(timeout=60)
    assert command.returncode == 130
    assert "Traceback" not in errors
    report = json.loads(output)
    assert report["interrupted"]
    assert report["completed"] == 10
    assert report["unfinished"] >= 1
    assert report["requests"] == report["completed"] + report["unfinished"]
