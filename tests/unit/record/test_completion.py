"""What headers tell of a request when it is over."""

from upshift.record import Record, Statement
from upshift.record.completion import MAX_VALUE, complete, let_go
from upshift.record.pool import Checkout


def completed(request=(), response=()):
    record = Record("GET", "/", 0.0, {"type": "http", "headers": request})
    record.response_headers = response
    complete(record)
    return record


def test_media_type_and_codings_are_read_in_lower_case_without_parameters():
    record = completed(
        [(b"accept-encoding", b"GZIP")],
        [(b"content-type", b" Text/HTML ; charset=utf-8"), (b"content-encoding", b"BR")],
    )
    assert (record.accept_encoding, record.content_type, record.content_encoding) == (
        "gzip",
        "text/html",
        "br",
    )


def test_headers_may_be_lists():
    assert completed(response=([b"content-type", b"text/css"],)).content_type == "text/css"


def test_it_lets_go_of_the_headers_and_twice_changes_nothing():
    record = completed(response=[(b"content-type", b"text/css")])
    assert (record.scope, record.response_headers) == (None, ())
    complete(record)
    assert record.content_type == "text/css"


def test_a_long_value_is_cut():
    record = completed(response=[(b"content-type", b"x" * 1_000_000)])
    assert len(record.content_type) == MAX_VALUE


def test_what_is_let_go_refers_to_no_parameters_connections_or_headers():
    record = Record("GET", "/", 0.0, {"type": "http"})
    record.response_headers = [(b"content-type", b"text/css")]
    record.add(Statement("SELECT 1", 0.0))
    record.statements[0].bound = ("secret",)
    record.checkouts = [Checkout("shop", record, 0.0)]
    let_go(record)
    assert (record.scope, record.response_headers, record.checkouts) == (None, (), None)
    assert (record.statements[0].bound, record.statements[0].fingerprint, record.holds) == (None, None, ())
