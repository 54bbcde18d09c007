"""Which executions of a recording are kept to be sent again."""

from __future__ import annotations

from upshift.record import Record, Statement
from upshift.record.recording import Unrecorded
from upshift.sql.analysis import workload as module
from upshift.sql.analysis.workload import MAX_SAMPLES, Workload


def record(*statements):
    made = Record("GET", "/", 0.0)
    for sql, fields in statements:
        statement = Statement(sql, 0.0)
        for name, value in fields.items():
            setattr(statement, name, value)
        made.add(statement)
    return made


def gathered(*records):
    workload = Workload()
    for each in records:
        workload.add(each)
    return workload.cases()


def test_samples_are_bounded_and_drawn_from_all_of_a_recording():
    (case,) = gathered(*[record((f"SELECT {number}", {"rows": number})) for number in range(1_000)])
    rows = [each.rows for each in case.samples]
    assert (case.count, len(rows), len(set(rows))) == (1_000, MAX_SAMPLES, MAX_SAMPLES)
    assert max(rows) > 500


def test_the_same_recording_gives_the_same_samples():
    records = [record((f"SELECT {number}", {})) for number in range(100)]
    assert gathered(*records) == gathered(*records)


def test_the_most_expensive_kind_comes_first():
    cases = gathered(record(("SELECT a", {"execute_seconds": 0.1}), ("SELECT b", {"execute_seconds": 0.2})))
    assert [case.digest.text for case in cases] == ["SELECT b", "SELECT a"]


def test_what_failed_or_was_many_at_once_is_not_sent_again():
    assert (
        gathered(record(("SELECT a", {"error": "Timeout"}), ("INSERT INTO t VALUES (?)", {"executions": 5})))
        == ()
    )


def test_parameters_that_were_not_recorded_whole_are_none():
    (case,) = gathered(record(("SELECT ?", {"parameters": (1, Unrecorded("Point"))})))
    assert case.samples[0].parameters is None


def test_kinds_are_bounded(monkeypatch):
    monkeypatch.setattr(module, "MAX_KINDS", 3)
    assert len(gathered(record(*[(f"SELECT a{number}", {}) for number in range(9)]))) == 3
