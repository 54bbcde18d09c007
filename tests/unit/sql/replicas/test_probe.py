from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from upshift.sql.replicas.position import Position
from upshift.sql.replicas.probe import MAX_SAMPLES, History, _without_header

PAGE, SEGMENT = 8192, 1 << 24


def at(lsn: int) -> Position:
    return Position(1, lsn)


def test_a_replica_that_has_reached_the_latest_position_has_no_lag():
    history = History(10.0)
    history.add(at(100), 1.0)
    history.add(at(100), 9.0)
    assert history.lag_of(at(100)) == 0.0
    assert history.lag_of(at(200)) == 0.0


def test_lag_is_the_age_of_what_it_has_reached():
    history = History(10.0)
    for second in range(5):
        history.add(at(second), float(second))
    assert history.lag_of(at(1)) == 3.0


def test_lag_is_unknown_where_it_has_reached_nothing_that_is_remembered():
    history = History(3.0)
    for second in range(10):
        history.add(at(second), float(second))
    assert history.lag_of(at(2)) is None
    assert History(3.0).lag_of(at(2)) is None


def test_a_replica_on_an_older_timeline_lags_wherever_it_is():
    history = History(10.0)
    history.add(Position(1, 500), 0.0)
    history.add(Position(2, 400), 4.0)
    assert history.lag_of(Position(1, 10**9)) == 4.0
    assert history.lag_of(Position(2, 400)) == 0.0


def test_samples_do_not_pile_up():
    history = History(1e9)
    for second in range(MAX_SAMPLES + 10):
        history.add(at(second), float(second))
    assert len(history._samples) == MAX_SAMPLES


@given(st.integers(0, 2**40))
def test_the_end_of_the_last_record_is_within_a_header_of_the_end_of_the_log(lsn):
    end = _without_header(lsn, PAGE, SEGMENT)
    assert end == lsn or (end % PAGE == 0 and lsn - end == (40 if end % SEGMENT == 0 else 24))
