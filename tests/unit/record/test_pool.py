"""What is told of one use of a connection."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from upshift.record import Gap, Hold, Record, Statement, Transaction
from upshift.record.pool import Checkout, hold_of


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


def hold_of_statements(*statements, until=10.0, obtained=0.0, transactions=(), began=0.0):
    return Hold("shop", 0.0, obtained, until, True, list(statements), list(transactions), began)


def sent(started, ended, seconds=None):
    statement = Statement("SELECT 1", started)
    statement.execute_seconds = ended - started if seconds is None else seconds
    statement.ended = ended
    return statement


def ended(began, at, seconds=0.0):
    return Transaction(began, at, seconds, "commit", None, 0, 1)


def test_gaps_are_before_between_and_after_statements():
    first, second = sent(1.0, 2.0), sent(5.0, 6.0)
    assert [gap[:3] for gap in hold_of_statements(first, second).gaps()] == [
        (0.0, 1.0, None),
        (2.0, 3.0, first),
        (6.0, 4.0, second),
    ]


def test_the_end_of_a_transaction_is_work_of_the_database():
    only = sent(0.0, 1.0)
    hold = hold_of_statements(only, transactions=[ended(0.0, 5.0, 1.0)], until=6.0)
    assert [(gap.started, gap.seconds, gap.in_transaction) for gap in hold.gaps()] == [
        (1.0, 3.0, True),
        (5.0, 1.0, False),
    ]


def test_rows_read_some_at_a_time_leave_a_gap_within_their_statement():
    reading = sent(0.0, 9.0, seconds=2.0)
    first, _ = hold_of_statements(reading).gaps()
    assert first == Gap(0.0, 7.0, reading, is_reading=True, in_transaction=False)


def test_a_gap_after_a_transaction_began_that_nobody_ended_is_in_it():
    assert [gap.in_transaction for gap in hold_of_statements(sent(1.0, 2.0), began=0.5).gaps()] == [
        False,
        True,
    ]


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 10)), max_size=8))
def test_gaps_are_within_the_hold_and_never_overlap_however_statements_do(times):
    hold = hold_of_statements(*(sent(min(each), max(each)) for each in times))
    gaps = [gap for gap in hold.gaps() if not gap.is_reading]
    assert all(gap.seconds > 0 for gap in gaps)
    assert sum(gap.seconds for gap in gaps) <= hold.seconds + 1e-9
    assert all(a.started + a.seconds <= b.started + 1e-9 for a, b in pairwise(gaps))


def test_a_connection_that_was_not_given_back_is_held_until_the_request_is_over():
    checkout = checkout_of(None, returned=0.0)
    hold = hold_of(checkout, now=9.0)
    assert (hold.until, hold.is_returned, hold.seconds) == (9.0, False, 7.5)
