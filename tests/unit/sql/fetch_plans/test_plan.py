"""When a relationship is worth fetching, and when not any more."""

from __future__ import annotations

import pytest

from upshift.record import CallSite
from upshift.sql.fetch_plans import plan as bookkeeping
from upshift.sql.fetch_plans.plan import MAX_DEPTH, MAX_NODES, PATIENCE, TRIAL, Place, Plan, Plans, Tally


def tally(reads, objects):
    one = Tally()
    one.reads, one.objects = reads, objects
    return one


def learned(plan, *relationships, reads=10, objects=10):
    node = plan.node(relationships)
    tally(reads, objects).teach(node)
    plan.settle()
    return node


class TestLearning:
    def test_repeated_lazy_loads_are_fetched_the_next_time(self):
        assert learned(Plan(), "items").is_active

    def test_one_lazy_load_is_as_good_as_a_fetch(self):
        assert not learned(Plan(), "customer", reads=1, objects=1).is_active

    @pytest.mark.parametrize(("objects", "is_fetched"), [(40, True), (41, False)])
    def test_from_the_twentieth_part_on_a_fetch_pays_off(self, objects, is_fetched):
        assert learned(Plan(), "items", reads=2, objects=objects).is_active is is_fetched

    def test_what_lies_on_the_way_is_fetched_too(self):
        plan = Plan()
        way = learned(plan, "items", reads=1, objects=1)
        learned(plan, "items", "product")
        assert way.is_active
        assert list(plan.active()) == [("items",), ("items", "product")]

    def test_a_way_that_does_not_pay_off_is_not_taken(self):
        """One order of a thousand has its items read, with a product each."""
        plan = Plan()
        learned(plan, "items", reads=1, objects=1_000)
        learned(plan, "items", "product")
        assert not plan.is_active

    def test_one_execution_teaches_once(self):
        node, one = Plan().node(("items",)), tally(2, 2)
        assert one.teach(node)
        assert not one.teach(node)


class TestUnlearning:
    def test_given_up_when_nothing_is_read_any_more(self):
        node = learned(Plan(), "items")
        for number in range(TRIAL):
            assert not node.is_out_of_use, number
            node.count(50)
        assert node.is_out_of_use

    def test_kept_while_one_request_of_ten_reads_it(self):
        node = learned(Plan(), "items")
        for number in range(10 * TRIAL):
            node.count(50)
            node.used += 50 * (number % 10 == 0)
            assert not node.is_out_of_use

    def test_needs_twice_the_evidence_each_time_it_comes_back(self):
        plan = Plan()
        node = learned(plan, "items")
        for needed in (2, 4, 8):
            node.give_up()
            for number in range(needed):
                assert not node.is_active, (needed, number)
                learned(plan, "items")
            assert node.is_active

    def test_what_cannot_be_loaded_lazily_is_kept_much_longer(self):
        node = Plan().node(("items",))
        node.fail()
        for _ in range(PATIENCE - 1):
            node.count(50)
            assert not node.is_out_of_use
        node.count(50)
        assert node.is_out_of_use

    def test_what_cannot_be_loaded_lazily_is_kept_for_one_use(self):
        node = Plan().node(("items",))
        node.fail()
        node.used = 1
        for _ in range(2 * PATIENCE):
            node.count(50)
        assert not node.is_out_of_use

    def test_with_a_node_goes_what_is_below(self):
        plan = Plan()
        node, below = learned(plan, "items"), learned(plan, "items", "product")
        node.give_up()
        assert not below.is_active


class TestBounds:
    def test_of_depth(self):
        assert Plan().node(("children",) * MAX_DEPTH) is not None
        assert Plan().node(("children",) * (MAX_DEPTH + 1)) is None

    def test_of_nodes(self):
        plan = Plan()
        for number in range(MAX_NODES):
            assert plan.node((number,)) is not None
        assert plan.node(("one more",)) is None

    def test_of_plans(self, monkeypatch):
        monkeypatch.setattr(bookkeeping, "MAX_PLANS", 3)
        plans = Plans()
        places = [Place("GET /", CallSite("shop.py", line, "handler"), None, ()) for line in range(5)]
        for place in places[:3]:
            learned(plans.at(place), "items")
        assert plans.get(places[0]) is not None  # used, so the next one leaves first
        learned(plans.at(places[3]), "items")
        assert {place.site.line for place, _ in plans.active()} == {0, 2, 3}
