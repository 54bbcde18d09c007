"""Which waits are told of, and as what."""

from __future__ import annotations

import pytest

from upshift.diagnose.holding import idle_times
from upshift.diagnose.writing import is_insert, is_read, is_write
from upshift.record import CallSite, Hold, Record, Statement, Transaction

HERE = CallSite("shop/orders.py", 42, "pay")


def sent(sql, started, ended):
    statement = Statement(sql, started, HERE)
    statement.execute_seconds, statement.ended = ended - started, ended
    return statement


def record_of(*statements, until=10.0, transactions=(), began=0.0, **facts):
    record = Record("GET", "/pay", 0.0)
    record.holds = (Hold("shop", 0.0, 0.0, until, True, list(statements), list(transactions), began),)
    for name, value in facts.items():
        setattr(record, name, value)
    return record


def committed(began, ended, after):
    return Transaction(began, ended, 0.0, "commit", HERE, 0, after)


def test_a_wait_in_a_transaction_that_has_written_is_told_as_one():
    write = sent("UPDATE stock SET left = ?", 0.0, 1.0)
    (idle,) = idle_times(record_of(write, transactions=[committed(0.0, 10.0, 1)]), 5.0)
    assert (idle.has_written, idle.site, idle.gap.seconds) == (True, HERE, 9.0)


def test_a_wait_after_its_commit_is_not():
    write = sent("UPDATE stock SET left = ?", 0.0, 1.0)
    (idle,) = idle_times(record_of(write, transactions=[committed(0.0, 2.0, 1)]), 5.0)
    assert not idle.has_written


def test_what_an_earlier_transaction_wrote_does_not_count():
    write, read = sent("UPDATE stock SET left = ?", 0.0, 1.0), sent("SELECT a FROM t", 2.0, 3.0)
    (idle,) = idle_times(record_of(write, read, transactions=[committed(0.0, 1.5, 1)], began=2.0), 5.0)
    assert not idle.has_written


def test_a_transaction_that_nobody_ended_counts():
    (idle,) = idle_times(record_of(sent("DELETE FROM t", 1.0, 2.0), began=0.5), 5.0)
    assert idle.has_written


def test_a_short_wait_is_none():
    assert list(idle_times(record_of(sent("SELECT a FROM t", 0.0, 9.0)), 5.0)) == []


@pytest.mark.parametrize(("first_byte", "is_streaming"), [(0.5, True), (9.0, False)])
def test_a_wait_after_the_first_byte_of_a_stream_is_streaming(first_byte, is_streaming):
    record = record_of(sent("SELECT a FROM t", 0.0, 1.0), is_streamed=True)
    record.first_byte_seconds = first_byte
    (idle,) = idle_times(record, 5.0)
    assert idle.is_streaming is is_streaming


def test_a_wait_before_the_first_statement_has_no_line():
    (idle,) = idle_times(record_of(sent("SELECT a FROM t", 9.0, 10.0)), 5.0)
    assert idle.site is None


@pytest.mark.parametrize(
    ("sql", "writes", "inserts", "reads"),
    [
        ("INSERT INTO t VALUES (1)", True, True, False),
        ("  update t SET a = 1", True, False, False),
        ("SELECT a FROM t FOR UPDATE", True, False, False),
        ("SELECT a FROM t FOR NO KEY UPDATE", True, False, False),
        ("SELECT a\nFROM t", False, False, True),
        ("SELECT 1", False, False, False),
        ("SELECT updated_at FROM inserts", False, False, True),
        ("SAVEPOINT a", False, False, False),
    ],
)
def test_statements_are_told_apart_by_their_text(sql, writes, inserts, reads):
    assert (is_write(sql), is_insert(sql), is_read(sql)) == (writes, inserts, reads)
