"""Connections are told while they are open, and each message once."""

import os
import signal
from contextlib import suppress
from threading import Event, Thread

import pytest

from upshift.record import Socket
from upshift.telemetry.metrics.registry import Metrics
from upshift.telemetry.metrics.sockets import SocketMetrics


class Told:
    """Metrics of connections that the test opens and closes."""

    def __init__(self):
        self.open = set()
        self.metrics = Metrics()
        self.sockets = SocketMetrics(self.metrics, lambda: self.open)

    def accept(self, route="/rooms/{room}"):
        socket = Socket("/rooms/7", 0.0)
        socket.route, socket.status = route, 101
        self.open.add(socket)
        return socket

    def end(self, socket, code=1000):
        self.open.discard(socket)
        socket.close_code, socket.seconds = code, 2.0
        self.sockets.close(socket)

    def values(self, name):
        self.metrics.families()
        return {
            each.labels: list(each.values)
            for each in self.metrics.series()
            if each.family == f"websocket_server_{name}"
        }


def test_open_connections_are_told_by_route():
    told = Told()
    first = told.accept()
    told.accept()
    told.accept("/prices")
    assert told.values("active_connections") == {("/rooms/{room}",): [2.0], ("/prices",): [1.0]}
    told.end(first)
    assert told.values("active_connections") == {("/rooms/{room}",): [1.0], ("/prices",): [1.0]}


def test_the_last_connection_of_a_route_leaves_a_zero():
    told = Told()
    socket = told.accept()
    told.metrics.families()
    told.end(socket)
    assert told.values("active_connections") == {("/rooms/{room}",): [0.0]}


def test_messages_and_bytes_are_told_while_the_connection_is_open_and_never_twice():
    told = Told()
    socket = told.accept()
    socket.messages_received, socket.request_bytes = 2, 20
    expected = {("/rooms/{room}", "received"): [2.0]}
    assert told.values("messages") == expected
    assert told.values("messages") == expected
    socket.messages_received, socket.messages_sent = 3, 1
    told.end(socket)
    assert told.values("messages") == {("/rooms/{room}", "received"): [3.0], ("/rooms/{room}", "sent"): [1.0]}
    assert told.values("message_size_bytes") == {("/rooms/{room}", "received"): [20.0]}


def test_a_connection_that_nobody_asked_about_is_counted_at_its_end():
    told = Told()
    socket = told.accept()
    socket.messages_sent = 5
    told.end(socket)
    assert told.values("messages") == {("/rooms/{room}", "sent"): [5.0]}


def test_the_duration_is_told_by_close_code_and_a_refusal_without_one():
    told = Told()
    told.end(told.accept())
    told.end(told.accept(), None)
    durations = told.values("connection_duration_seconds")
    assert set(durations) == {("/rooms/{room}", "1000", ""), ("/rooms/{room}", "", "")}
    assert durations["/rooms/{room}", "1000", ""][-1] == 2.0


def test_closed_connections_are_forgotten():
    told = Told()
    for _ in range(10):
        socket = told.accept()
        told.metrics.families()
        told.end(socket)
    assert told.sockets._told == {}


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_forked_while_connections_are_told_leaves_them_to_its_parent():
    told, reading, done = Told(), Event(), Event()
    kept = told.accept()
    kept.messages_sent = 3  # not told before the fork

    def opened():
        reading.set()
        done.wait(20)
        return told.open

    told.sockets._opened = opened
    thread = Thread(target=told.metrics.refresh)  # has the lock from here on
    thread.start()
    assert reading.wait(20)
    told.sockets._opened = lambda: told.open
    if (child := os.fork()) == 0:
        with suppress(BaseException):
            signal.alarm(30)
            own = told.accept("/prices")
            own.messages_sent = 1
            assert told.values("messages") == {("/prices", "sent"): [1.0]}
            assert told.values("active_connections") == {("/prices",): [1.0]}
            told.end(kept)
            assert list(told.values("connection_duration_seconds")) == []
            os._exit(0)
        os._exit(1)
    done.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert told.values("messages") == {("/rooms/{room}", "sent"): [3.0]}
