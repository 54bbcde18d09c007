"""How batches grow, what is remembered of walks, and when a session is looked at."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upshift.sql.loading import cohorts as module
from upshift.sql.loading.cohorts import SCHEDULE, Cohorts, Experience, Walk

COUNTS = st.integers(0, 2_000)


class Session:
    """Stands for an identity map of so many objects, and counts the looks at it."""

    def __init__(self, *runs):
        self.states = [SimpleNamespace(runid=run) for run in runs]
        self.looks = 0

    def __len__(self):
        return len(self.states)

    def all_states(self):
        self.looks += 1
        return list(self.states)

    def of(self, run):
        return [state for state in self.states if state.runid == run]


def test_a_walk_steps_along_the_schedule_and_stays_at_its_end():
    walk = Walk("here", 0)
    assert [walk.next_size() for _ in range(6)] == [1, 8, 64, 500, 500, 500]


def test_a_walk_may_start_further_on():
    walk = Walk("here", 2)
    assert [walk.next_size() for _ in range(3)] == [64, 500, 500]


@given(st.integers(0, len(SCHEDULE) - 1), st.integers(1, 20))
def test_batches_never_shrink_along_a_walk(level, steps):
    walk = Walk("here", level)
    sizes = [walk.next_size() for _ in range(steps)]
    assert sizes == sorted(sizes)
    assert set(sizes) <= set(SCHEDULE)


class TestExperience:
    @pytest.mark.parametrize(
        ("used", "size"),
        [(0, 1), (1, 1), (2, 8), (8, 8), (9, 64), (64, 64), (65, 500), (500, 500), (9_999, 500)],
    )
    def test_one_walk_teaches_the_batch_that_would_have_sufficed(self, used, size):
        experience = Experience()
        experience.learn("here", used)
        assert SCHEDULE[experience.first_level("here")] == size

    def test_a_place_never_seen_starts_at_one(self):
        assert SCHEDULE[Experience().first_level("nowhere")] == 1

    def test_it_shrinks_one_step_a_lesson(self):
        experience = Experience()
        experience.learn("here", 500)
        sizes = []
        for _ in range(5):
            experience.learn("here", 1)
            sizes.append(SCHEDULE[experience.first_level("here")])
        assert sizes == [64, 8, 1, 1, 1]

    def test_a_page_read_whole_nine_times_of_ten_keeps_most_of_its_batch(self):
        experience = Experience()
        for walk in range(50):
            experience.learn("here", 1 if walk % 10 == 9 else 50)
            assert SCHEDULE[experience.first_level("here")] >= 8

    def test_places_do_not_know_each_other(self):
        experience = Experience()
        experience.learn("here", 500)
        assert experience.first_level("there") == 0

    def test_the_place_unused_for_longest_makes_room(self, monkeypatch):
        monkeypatch.setattr(module, "MAX_PLACES", 3)
        experience = Experience()
        for place in ("a", "b", "c", "a", "d"):
            experience.learn(place, 500)
        assert [experience.first_level(place) for place in "abcd"] == [3, 0, 3, 3]

    @given(st.lists(st.tuples(st.integers(0, 5_000), COUNTS), max_size=200))
    def test_a_level_is_always_one_of_the_schedules(self, lessons):
        experience = Experience()
        for place, used in lessons:
            before = experience.first_level(place)
            experience.learn(place, used)
            after = experience.first_level(place)
            assert 0 <= after < len(SCHEDULE)
            assert after >= before - 1
            assert SCHEDULE[after] >= min(used, SCHEDULE[-1])

    @given(COUNTS)
    def test_what_a_place_always_does_is_learned_for_good(self, used):
        experience = Experience()
        experience.learn("here", used)
        level = experience.first_level("here")
        for _ in range(3):
            experience.learn("here", used)
            assert experience.first_level("here") == level

    def test_places_are_bounded(self):
        experience = Experience()
        for place in range(module.MAX_PLACES + 100):
            experience.learn(place, 1)
        assert len(experience._levels) == module.MAX_PLACES


class TestCohorts:
    def test_a_walk_is_given_the_objects_of_its_own_query_in_the_order_they_came(self):
        session, walk = Session(1, 2, 1, None, 2, 1), Walk("here", 0)
        Cohorts().refill(walk, 1, session)
        assert [walk.mates.pop() for _ in range(3)] == session.of(1)
        assert walk.mates == []

    def test_the_first_look_is_free_and_serves_all_walks(self):
        session, cohorts = Session(1, 2), Cohorts()
        one, other = Walk("here", 0), Walk("there", 0)
        cohorts.refill(one, 1, session)
        cohorts.refill(other, 2, session)
        assert (one.mates, other.mates) == (session.of(1), session.of(2))
        assert session.looks == 1

    def test_a_walk_sees_no_look_twice(self):
        session, cohorts, walk = Session(*[1] * 1_000), Cohorts(), Walk("here", 0)
        cohorts.refill(walk, 1, session)
        walk.mates.clear()
        cohorts.refill(walk, 1, session)
        assert walk.mates == []
        assert session.looks == 1

    def test_a_further_look_has_to_be_paid_for_by_lazy_loads(self):
        session, cohorts, walk = Session(*[1] * 1_000), Cohorts(), Walk("here", 0)
        cohorts.refill(walk, 1, session)
        cohorts.count_loads(1)
        cohorts.refill(walk, 1, session)
        assert session.looks == 1
        cohorts.count_loads(1)
        cohorts.refill(walk, 1, session)
        assert session.looks == 2

    def test_no_look_is_taken_while_the_last_has_something_new(self):
        session, cohorts = Session(1, 2), Cohorts()
        cohorts.refill(Walk("here", 0), 1, session)
        cohorts.count_loads(100)
        cohorts.refill(Walk("there", 0), 2, session)
        assert session.looks == 1

    def test_objects_of_a_later_query_are_found_by_a_paid_look(self):
        session, cohorts, walk = Session(1), Cohorts(), Walk("here", 0)
        cohorts.refill(Walk("there", 0), 1, session)
        session.states += Session(2, 2).states
        cohorts.count_loads(1)
        cohorts.refill(walk, 2, session)
        assert walk.mates[::-1] == session.of(2)

    def test_a_query_that_left_nothing_gives_no_mates(self):
        walk = Walk("here", 0)
        Cohorts().refill(walk, 7, Session(1, None))
        assert walk.mates == []

    @given(
        st.lists(st.integers(0, 3), min_size=1, max_size=50),
        st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=60),
    )
    def test_looks_stay_in_proportion_to_the_loads_and_mates_to_their_query(self, runs, steps):
        session, cohorts = Session(*(runs * 100)), Cohorts()
        loads, walks = 0, [Walk(run, 0) for run in range(4)]
        for run, count in steps:
            cohorts.count_loads(count)
            loads += count
            walks[run].mates.clear()
            cohorts.refill(walks[run], run, session)
            assert all(state.runid == run for state in walks[run].mates)
            assert (session.looks - 1) * len(session) <= loads * Cohorts.OBJECTS_PER_LOAD
