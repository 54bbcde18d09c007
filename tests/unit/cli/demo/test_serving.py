"""Serving until Ctrl-C: on a port that is free, told when it answers."""

import socket
import sys
import urllib.request
from contextlib import suppress

import pytest

from upshift.cli.demo.serving import HOST, PORT, keep_serving
from upshift.errors import ServerUnavailableError


def http_server(port):
    return [sys.executable, "-m", "http.server", "--bind", HOST, str(port)]


@pytest.fixture
def asked(tmp_path):
    """What came of asking the server when it was told to be ready, upon which Ctrl-C is pressed."""
    answers = {}

    def ask(url):
        with urllib.request.urlopen(url, timeout=10) as response:
            answers[url] = response.status
        raise KeyboardInterrupt

    ask.answers = answers
    return ask


def test_it_is_told_when_it_answers_and_ctrl_c_ends_it_well(asked):
    keep_serving(http_server, {}, asked)

    (url,) = asked.answers
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(url, timeout=10)


def test_where_the_usual_port_is_taken_another_one_is(asked):
    with suppress(OSError), socket.create_server((HOST, PORT)):  # or somebody else has it, which is as good
        keep_serving(http_server, {}, asked)

    (url,) = asked.answers
    assert not url.endswith(f":{PORT}")


def test_a_server_that_ends_by_itself_is_told_and_never_said_to_be_ready():
    with pytest.raises(ServerUnavailableError, match="ended by itself, with status 3"):
        keep_serving(lambda port: [sys.executable, "-c", "raise SystemExit(3)"], {}, pytest.fail)
