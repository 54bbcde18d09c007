"""What is said of the cache of an application, by what it tells."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from upshift.cache.document import Choice, Document, namespaces_of
from upshift.cache.state import CacheState, ListenerState, RedisState
from upshift.cache.statistics import Statistics
from upshift.cli.cache_checks import application_remarks, namespace_remarks

STATE = CacheState(place="process", page="", entries=0, bytes=0, watched=("sqlite://",))
REDIS = RedisState(
    name="default",
    server="redis:6379",
    is_usable=True,
    openings=0,
    reason="",
    malformed=0,
    unannounced=0,
    owed=0,
)


def of(state, **facts):
    document = Document(
        version=1,
        service="shop",
        pid=7,
        has_workers=False,
        state=state,
        namespaces=(),
        known=0,
    )
    return {each.about: each for each in application_remarks(replace(document, **facts))}


def namespace(load=0.0, **counted):
    statistics = Statistics(**counted)
    for _ in range(statistics.misses):
        statistics.loads.add(load)
    (told,) = namespaces_of({"menu": statistics}, Choice())
    return told


def levels(*arguments):
    return [each.level for each in namespace_remarks(*arguments)]


def test_workers_without_a_page_are_a_problem_and_with_one_are_not():
    assert of(STATE, has_workers=True)["workers"].level == "problem"
    assert "workers" not in of(replace(STATE, place="page", page="/run/cache.page"), has_workers=True)
    assert "workers" not in of(STATE)


def test_a_circuit_that_is_open_is_a_problem_with_its_reason():
    state = replace(STATE, place="redis", redis=replace(REDIS, is_usable=False, reason="timed out"))
    assert (of(state)["circuit"].level, "timed out" in of(state)["circuit"].found) == ("problem", True)
    assert of(replace(STATE, place="redis", redis=REDIS))["circuit"].level == "ok"


def test_values_that_cannot_be_read_are_told_of():
    assert of(replace(STATE, place="redis", redis=replace(REDIS, malformed=3)))["values"].level == "warning"


def test_a_cache_that_watches_no_engine_is_a_problem():
    assert of(replace(STATE, watched=()))["engines"].level == "problem"
    assert of(STATE, unwatched=("sqlite:///other.db",))["engines"].level == "warning"
    assert of(STATE, unwatched=())["engines"].level == "ok"


def test_a_database_that_is_not_heard_is_a_problem():
    listener = ListenerState("postgresql://db/shop", is_listening=False, heard=0, faults=2)
    assert of(replace(STATE, listeners=(listener,)))["writers"].level == "problem"
    heard = replace(listener, is_listening=True)
    assert of(replace(STATE, listeners=(heard,)))["writers"].level == "ok"
    assert of(STATE)["writers"].level == "note"


def test_values_that_are_never_kept_are_told_with_the_commonest_reason():
    told = namespace(misses=9, refused={"it is a stream": 1, "its transaction writes": 8})
    (remark,) = namespace_remarks(told)
    assert (remark.level, "its transaction writes (8 times)" in remark.found) == ("warning", True)
    assert "session of its own" in remark.advice


def test_values_that_are_kept_at_times_are_no_warning():
    assert levels(namespace(misses=2, fills=1, refused={"its transaction writes": 1})) == []


def test_a_stale_value_is_a_problem():
    assert levels(namespace(hits=1_000, audited=3, stale_served=1)) == ["problem"]


def test_a_cache_that_is_too_small_is_told_of():
    assert levels(namespace(0.01, hits=900, misses=100, fills=100, evictions=80)) == ["warning"]


@pytest.mark.parametrize(
    ("hits", "misses", "load", "redis_seconds", "is_worth_it"),
    [
        (900, 100, 0.001, None, True),
        (1, 999, 0.001, None, False),  # a hit in a thousand
        (900, 100, 0.000_001, None, False),  # a load that takes as long as a hit
        (900, 100, 0.000_1, 0.000_3, False),  # a load that is quicker than Redis
        (900, 100, 0.01, 0.000_3, True),
        (0, 10, 0.001, None, True),  # nothing is known yet
    ],
)
def test_a_hit_ratio_is_judged_by_what_it_saves_and_costs(hits, misses, load, redis_seconds, is_worth_it):
    told = namespace(load, hits=hits, misses=misses, fills=misses)
    assert levels(told, redis_seconds) == ([] if is_worth_it else ["warning"])


def test_a_document_comes_back_as_it_was_told():
    told = Document(
        version=1,
        service="shop",
        pid=7,
        has_workers=True,
        state=replace(
            STATE, redis=REDIS, listeners=(ListenerState("db", is_listening=True, heard=1, faults=0),)
        ),
        namespaces=(namespace(0.1, hits=1, misses=1), namespace()),
        known=2,
        unwatched=("sqlite://",),
    )
    assert msgspec.json.decode(msgspec.json.encode(told), type=Document) == told
