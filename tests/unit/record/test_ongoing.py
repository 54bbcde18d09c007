"""Records that go on hand on their statements, each once, and keep few."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st

from upshift.record import Record, Statement
from upshift.record.ongoing import SIZE, Excerpt, Ongoing, unless_excerpt


def ongoing():
    record, taken = Ongoing("GET", "/prices", 0.0), []
    record.route, record.trace_id = "/prices", "0af7651916cd43dd8448eb211c80319c"
    record.hand_on = taken.append
    return record, taken


@given(st.lists(st.sampled_from(["add", "hand_on_known", "hand_on_all"]), max_size=300))
def test_every_statement_is_handed_on_once_and_in_its_order(calls):
    record, taken = ongoing()
    statements = [Statement("SELECT 1", float(number)) for number in range(calls.count("add"))]
    waiting = iter(statements)
    for call in calls:
        record.add(next(waiting)) if call == "add" else getattr(record, call)()
        assert len(record._waiting) <= SIZE
    record.hand_on_all()
    assert [each for excerpt in taken for each in excerpt.statements] == statements
    assert record.statements == []
    assert record.statements_dropped == len(statements)


def test_an_excerpt_tells_where_it_belongs():
    record, taken = ongoing()
    record.add(Statement("SELECT 1", 7.0))
    record.hand_on_all()
    (excerpt,) = taken
    assert isinstance(excerpt, Excerpt)
    assert (excerpt.operation, excerpt.started, excerpt.trace_id) == ("JOB /prices", 7.0, record.trace_id)
    assert excerpt.is_closed


def test_the_last_statement_stays_while_its_rows_may_be_read():
    record, taken = ongoing()
    record.add(Statement("SELECT 1", 0.0))
    record.hand_on_known()
    assert taken == []


def test_where_nobody_takes_them_statements_are_only_counted():
    record = Ongoing("GET", "/prices", 0.0)
    for _ in range(500):
        record.add(Statement("SELECT 1", 0.0))
    record.hand_on_all()
    assert (record.statements_dropped, len(record._waiting)) == (500, 0)


def test_several_threads_hand_on_each_statement_once():
    record, taken = ongoing()
    record.hand_on = lambda excerpt: taken.extend(excerpt.statements)

    def work():
        for _ in range(2_000):
            record.add(Statement("SELECT 1", 0.0))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    record.hand_on_all()
    assert len(taken) == len(set(map(id, taken))) == 8_000


def test_parameters_are_let_go_of():
    record, taken = ongoing()
    for _ in range(2):
        statement = Statement("SELECT ?", 0.0)
        statement.bound = (7,)
        record.add(statement)
    record.hand_on_all()
    assert [each.bound for each in taken[0].statements] == [None, None]


def test_who_takes_no_excerpts_takes_all_else():
    taken = []
    take = unless_excerpt(taken.append)
    record = Record("GET", "/", 0.0)
    take(record)
    take(Excerpt("JOB", "/", 0.0))
    assert taken == [record]
