from __future__ import annotations

from upshift.sql.replicas.visit import Visit


def test_it_reads_from_the_primary_while_it_writes_and_after():
    visit = Visit()
    assert not visit.stays_on_primary
    visit.begin_writing()
    assert visit.stays_on_primary
    visit.end_writing(committed_for=60.0)
    assert visit.stays_on_primary
    assert visit.has_written


def test_what_was_rolled_back_binds_it_to_nothing():
    visit = Visit()
    visit.begin_writing()
    visit.end_writing(committed_for=None)
    assert not visit.stays_on_primary
    assert not visit.has_written


def test_it_comes_back_to_replicas_when_they_must_have_caught_up():
    visit = Visit()
    visit.begin_writing()
    visit.end_writing(committed_for=0.0)
    assert not visit.stays_on_primary


def test_one_of_two_writing_transactions_is_enough():
    visit = Visit()
    visit.begin_writing()
    visit.begin_writing()
    visit.end_writing(committed_for=None)
    assert visit.stays_on_primary
