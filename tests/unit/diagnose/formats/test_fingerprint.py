from __future__ import annotations

from pathlib import Path

import pytest

from upshift.diagnose.formats.fingerprint import fingerprints
from upshift.record import CallSite

ROOT = Path("/srv")


def fingerprint(finding, root=ROOT):
    return next(fingerprints([finding], root))


def test_it_survives_a_moved_line_and_other_numbers(finding):
    moved = finding(
        site=CallSite("/srv/shop/orders.py", 77, "list_orders"),
        title="N+1 on Order.customer: 20 statements in one request",
        data={"relationship": "Order.customer", "statements": 20},
    )

    assert fingerprint(moved) == fingerprint(finding())


def test_it_survives_another_checkout(finding):
    elsewhere = finding(site=CallSite("/home/ci/work/shop/orders.py", 42, "list_orders"))

    assert fingerprint(elsewhere, Path("/home/ci/work")) == fingerprint(finding())


def test_it_survives_a_python_in_which_comprehensions_have_no_frames(finding):
    framed = finding(site=CallSite("/srv/shop/orders.py", 42, "list_orders.<locals>.<listcomp>"))

    assert fingerprint(framed) == fingerprint(finding())


@pytest.mark.parametrize(
    "difference",
    [
        {"code": "UP102"},
        {"site": CallSite("/srv/shop/users.py", 42, "list_orders")},
        {"site": CallSite("/srv/shop/orders.py", 42, "show_order")},
        {"site": None},
        {"data": {"relationship": "Order.items"}},
        {"data": {"digest": "5ad4"}},
    ],
)
def test_another_cause_or_place_has_another(finding, difference):
    assert fingerprint(finding(**difference)) != fingerprint(finding())


def test_findings_that_share_everything_are_told_apart_by_their_order(finding):
    first, second = fingerprints([finding(), finding()], ROOT)

    assert (first[-2:], second[-2:]) == (":1", ":2")
    assert first[:-2] == second[:-2]
