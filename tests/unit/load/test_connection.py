"""The protocol without a network: bytes in, outcomes out."""

import gzip
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from upshift.load.connection import MAX_HEAD_BYTES, Connection, Job
from upshift.load.tally import Tally

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nok\r\n0\r\nTrailer: 1\r\n\r\n"
GZIPPED = gzip.compress(b"hello" * 100, mtime=0)  # no time of day: xdist wants equal test names
COMPRESSED = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b" % (
    len(GZIPPED),
    GZIPPED,
)
EARLY_HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Wire:
    """The transport's and the owner's side of one connection, in memory."""

    def __init__(self, *, bodyless=False):
        self.tally = Tally()
        self.job = Job(b"REQUEST", self.tally, bodyless=bodyless)
        self.written = []
        self.aborted = False
        self.ready_again = 0
        self.was_closed = 0
        self.connection = Connection(self)
        self.connection.connection_made(self)
        self.connection.send(self.job, 0.0)

    def write(self, data):
        self.written.append(data)

    def abort(self):
        self.aborted = True

    def ready(self, connection, now):
        self.ready_again += 1

    def closed(self, connection):
        self.was_closed += 1

    def receive(self, *chunks):
        for chunk in chunks:
            if not self.aborted:
                self.connection.data_received(chunk)

    def end(self, error=None):
        self.connection.connection_lost(error)

    @property
    def outcome(self):
        return dict(self.tally.statuses) | dict(self.tally.failures)


def split(data, cuts):
    edges = [0, *sorted({cut % (len(data) + 1) for cut in cuts}), len(data)]
    return [data[start:end] for start, end in pairwise(edges) if end > start]


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (OK, 200),
        (CHUNKED, 200),
        (COMPRESSED, 200),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n", 304),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", 200),
        (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", 503),
        (CONTINUE + OK, 200),
        (EARLY_HINTS + EARLY_HINTS + CHUNKED, 200),
        (b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", 200),
    ],
)
@given(cuts=st.lists(st.integers(0, 10_000)))
def test_an_answer_is_complete_exactly_at_its_end_however_it_arrives(answer, status, cuts):
    wire = Wire()
    *chunks, last = split(answer, cuts)
    wire.receive(*chunks)
    assert wire.outcome == {}
    wire.receive(last)
    assert wire.outcome == {status: 1}
    assert wire.ready_again == 1
    assert not wire.aborted
    assert wire.tally.received_bytes == len(answer)


@given(cuts=st.lists(st.integers(0, 10_000)))
def test_one_answer_after_another_on_one_connection(cuts):
    wire = Wire()
    for number, answer in enumerate([OK, CHUNKED, CONTINUE + OK, COMPRESSED, OK], start=1):
        wire.receive(*split(answer, cuts))
        assert wire.ready_again == number
        wire.connection.send(wire.job, 0.0)
    assert wire.outcome == {200: 5}
    assert wire.tally.sent == 6


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ],
)
def test_a_last_answer_is_complete_and_the_connection_closed(answer):
    wire = Wire()
    wire.receive(answer)
    assert wire.outcome == {200: 1}
    assert wire.aborted
    assert wire.ready_again == 0


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nX-Note: no content-length: 5 here\r\n\r\n",
        EARLY_HINTS + b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
    ],
)
@given(cuts=st.lists(st.integers(0, 10_000)), body=st.binary(max_size=100))
@example(cuts=[], body=b"content-length: 3\r\n\r\n")
def test_an_answer_without_framing_is_complete_when_its_connection_ends(head, cuts, body):
    wire = Wire()
    wire.receive(*split(head + body, cuts))
    assert wire.outcome == {}
    wire.end()
    assert wire.outcome == {200: 1}
    assert wire.was_closed == 1


def test_an_endless_body_is_counted_and_not_kept():
    wire = Wire()
    wire.receive(b"HTTP/1.1 200 OK\r\n\r\n", *[b"x" * 65_536] * 100)
    assert len(wire.connection._head) < 2 * MAX_HEAD_BYTES
    wire.end()
    assert wire.outcome == {200: 1}
    assert wire.tally.received_bytes == 19 + 100 * 65_536


@pytest.mark.parametrize("answer", [OK, CHUNKED, EARLY_HINTS + OK])
@given(data=st.data())
def test_an_answer_that_breaks_off_is_a_reset(answer, data):
    wire = Wire()
    wire.receive(answer[: data.draw(st.integers(0, len(answer) - 1))])
    wire.end()
    assert wire.outcome == {"reset": 1}


def test_a_connection_that_is_reset_is_a_reset_even_without_framing():
    wire = Wire()
    wire.receive(b"HTTP/1.1 200 OK\r\n\r\npart")
    wire.end(ConnectionResetError())
    assert wire.outcome == {"reset": 1}


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"\x16\x03\x01\x02\x00",
        b"HTTP/1.1 20x OK\r\n\r\n",
        b"HTTP/1.1 000 None\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        OK + b"more than its length",
        OK + OK,
        CHUNKED + OK,
    ],
)
def test_an_answer_that_is_none_is_a_protocol_error_and_ends_the_connection(answer):
    wire = Wire()
    wire.receive(answer)
    assert wire.outcome == {"protocol": 1}
    assert wire.aborted


def test_an_endless_head_is_a_protocol_error():
    wire = Wire()
    wire.receive(b"HTTP/1.1 200 OK\r\n", *[b"X: " + b"y" * 1_000 + b"\r\n"] * 100)
    assert wire.outcome == {"protocol": 1}
    assert wire.aborted


def test_endless_interim_answers_are_a_protocol_error():
    wire = Wire()
    wire.receive(*[EARLY_HINTS * 100] * 100)
    assert wire.outcome == {"protocol": 1}


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        CONTINUE + b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
    ],
)
@given(cuts=st.lists(st.integers(0, 1_000)))
def test_the_answer_to_head_ends_with_its_head(head, cuts):
    wire = Wire(bodyless=True)
    for number in (1, 2):
        wire.receive(*split(head, cuts))
        assert wire.outcome == {200: number}
        assert wire.ready_again == number
        wire.connection.send(wire.job, 0.0)


def test_data_that_nobody_asked_for_ends_the_connection():
    wire = Wire()
    wire.receive(OK, b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
    wire.end()
    assert wire.outcome == {200: 1}
    assert wire.aborted


def test_a_request_given_up_is_counted_once():
    wire = Wire()
    wire.connection.fail("timeout", 5.0)
    wire.end()
    assert wire.outcome == {"timeout": 1}
    assert list(wire.tally.latencies) == [5.0]


@given(
    chunks=st.lists(
        st.one_of(
            st.binary(max_size=50),
            st.sampled_from(
                [OK, CHUNKED, EARLY_HINTS, b"HTTP/1.1 200 OK\r\n", b"\r\n", b"0\r\n", b"X: y\r\n"]
            ),
        )
    ),
    bodyless=st.booleans(),
    error=st.sampled_from([None, ConnectionResetError()]),
)
def test_whatever_arrives_a_request_has_exactly_one_outcome(chunks, bodyless, error):
    wire = Wire(bodyless=bodyless)
    for chunk in chunks:
        if wire.ready_again or wire.aborted:
            break
        wire.receive(chunk)
    wire.end(error)
    assert sum(wire.outcome.values()) == 1
    assert wire.was_closed == 1
