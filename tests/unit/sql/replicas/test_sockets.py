"""Only connections to the server that hangs are cut, whatever a file's number has come to mean."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from upshift.sql.replicas.sockets import Sockets


@pytest.fixture
def server():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def connect(server) -> tuple[socket.socket, socket.socket]:
    client = socket.create_connection(server.getsockname())
    return client, server.accept()[0]


def test_whoever_waits_is_let_go(server):
    client, peer = connect(server)
    sockets = Sockets()
    sockets.add(client)
    received = []
    waiting = threading.Thread(target=lambda: received.append(client.recv(1)))
    waiting.start()

    assert sockets.cut() == 1
    waiting.join(5)
    assert received == [b""]
    client.close()
    peer.close()


def test_a_closed_connection_is_left_alone(server):
    client, peer = connect(server)
    sockets = Sockets()
    sockets.add(client)
    client.close()
    peer.close()

    assert sockets.cut() == 0


def test_a_connection_that_is_about_to_be_closed_is_forgotten(server):
    client, peer = connect(server)
    sockets = Sockets()
    sockets.add(client)
    sockets.discard(client)

    assert sockets.cut() == 0
    client.close()
    peer.close()


def test_a_number_that_means_another_file_now_is_left_alone(server):
    client, peer = connect(server)
    sockets = Sockets()
    sockets.add(client)
    with socket.create_server(("127.0.0.1", 0)) as other_server:
        other, other_peer = connect(other_server)
        os.dup2(other.fileno(), client.fileno())

        assert sockets.cut() == 0
        other_peer.sendall(b"x")
        assert other.recv(1) == b"x"
        other.close()
        other_peer.close()
    with Path(os.devnull).open("rb") as file:
        sockets.add(SimpleNamespace(fileno=file.fileno))
        assert sockets.cut() == 0
    client.close()
    peer.close()


def test_a_driver_that_tells_no_file_is_left_alone():
    sockets = Sockets()
    sockets.add(object())
    assert sockets.cut() == 0
