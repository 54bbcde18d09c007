import resource
from dataclasses import FrozenInstanceError

import pytest

from upshift.errors import LoadError
from upshift.load import ClosedPlan, OpenPlan

NAN = float("nan")


@pytest.mark.parametrize(
    "fields",
    [
        {"rate": 0},
        {"rate": -1},
        {"rate": NAN},
        {"rate": float("inf")},
        {"seconds": 0},
        {"seconds": NAN},
        {"seconds": 1e9},
        {"warmup_seconds": -1},
        {"warmup_seconds": NAN},
        {"timeout": 0},
        {"connections": 0},
        {"backlog": 0},
        {"arrivals": "sometimes"},
        {"rate": 100_000, "seconds": 3600},
    ],
)
def test_an_open_plan_out_of_range_is_refused(fields):
    with pytest.raises(LoadError):
        OpenPlan(**{"rate": 1, "seconds": 1} | fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"seconds": None},
        {"seconds": 0},
        {"count": 0},
        {"count": 10**9},
        {"connections": -1},
        {"timeout": NAN},
    ],
)
def test_a_closed_plan_out_of_range_is_refused(fields):
    with pytest.raises(LoadError):
        ClosedPlan(**{"seconds": 1} | fields)


def test_more_connections_than_files_are_refused_with_the_way_out():
    with pytest.raises(LoadError, match="ulimit -n"):
        ClosedPlan(seconds=1, connections=resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def test_a_closed_plan_may_have_both_bounds():
    assert ClosedPlan(seconds=1, count=5).count == 5


def test_plans_do_not_change():
    with pytest.raises(FrozenInstanceError):
        OpenPlan(rate=1, seconds=1).rate = 2
