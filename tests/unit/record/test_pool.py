"""What is told of one use of a connection."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from upshift.record import Record, Statement
from upshift.record.pool import Checkout


def checkout_of(record, asked=1.0, obtained=1.5, returned=4.0):
    checkout = Checkout("shop", record, asked)
    checkout.obtained, checkout.returned = obtained, returned
    return checkout


def statement_of(execute, fetch=0.0):
    statement = Statement("SELECT 1", 0.0)
    statement.execute_seconds, statement.fetch_seconds = execute, fetch
    return statement


def test_it_waits_until_it_is_obtained_and_is_used_until_it_is_returned():
    checkout = checkout_of(None)
    assert (checkout.wait_seconds, checkout.use_seconds) == (0.5, 2.5)


def test_it_is_idle_while_neither_statement_nor_transaction_runs():
    checkout = checkout_of(Record("GET", "/", 0.0))
    checkout.statements += [statement_of(0.5, 0.25), statement_of(0.5)]
    checkout.ending_seconds = 0.25
    assert checkout.idle_seconds == 1.0


def test_outside_of_a_request_its_idle_time_is_not_known():
    assert checkout_of(None).idle_seconds is None


def test_where_statements_were_dropped_its_idle_time_is_not_known():
    record = Record("GET", "/", 0.0)
    record.statements_dropped = 1
    assert checkout_of(record).idle_seconds is None


@given(st.lists(st.floats(0, 100)))
def test_the_idle_time_is_never_negative_however_much_the_statements_overlap(seconds):
    checkout = checkout_of(Record("GET", "/", 0.0))
    checkout.statements += [statement_of(each, each) for each in seconds]
    assert 0.0 <= checkout.idle_seconds <= checkout.use_seconds
