"""Metrics of two workers, exposed by either, and of two instances in one worker, kept apart."""

import gc
from contextlib import ExitStack, closing
from itertools import permutations

import pytest

from upshift.telemetry.metrics.exposition import expose
from upshift.telemetry.metrics.registry import Metrics
from upshift.telemetry.sharing.metrics import SharedMetrics


def worker(path, name):
    metrics = Metrics()
    shared = SharedMetrics(metrics, lambda: path, name)  # as in two processes, each is the first of its name
    shared.join()
    return metrics, shared


def test_any_worker_exposes_the_sum_with_labels_that_only_others_have_seen(tmp_path):
    first, first_shared = worker(tmp_path / "totals", "first")
    second, second_shared = worker(tmp_path / "totals", "second")
    odd = 'a","b\x00é\n'
    for metrics, values in ((first, ("web", odd)), (second, ("web",))):
        orders = metrics.counter("orders", "Orders", labels={"channel": 5})
        for value in values:
            orders.add(1, channel=value)
        metrics.histogram("wait", "Waits", buckets=(1.0,)).observe(0.5)
    first_shared.totals.flush()
    summed = second_shared.sum(second.series())
    page = expose(second, totals=second_shared.sum).body.decode()
    for shared in (first_shared, second_shared):
        shared.close()

    assert summed == {
        ("orders", ("web",)): [2.0],
        ("orders", (odd,)): [1.0],
        ("wait_seconds", ()): [2.0, 0.0, 1.0],
    }
    assert 'orders_total{channel="web"} 2.0' in page


def test_a_single_process_exposes_its_own(tmp_path):
    metrics, shared = worker(None, "shop")
    metrics.counter("orders", "Orders").add(2)
    page = expose(metrics, totals=shared.sum).body.decode()
    shared.close()
    assert "orders_total 2.0" in page


def test_what_is_read_on_demand_is_brought_up_to_date_before_a_flush(tmp_path):
    first, first_shared = worker(tmp_path / "totals", "first")
    second, second_shared = worker(tmp_path / "totals", "second")
    open_requests = first.gauge("open_requests", "Open requests")
    first.before_collecting(lambda: open_requests.set(3))
    first_shared.totals.flush()
    summed = second_shared.sum(second.series())
    for shared in (first_shared, second_shared):
        shared.close()
    assert summed == {("open_requests", ()): [3.0]}


@pytest.fixture
def instance(tmp_path):
    """Makes instances of one process; they are closed at the end."""
    with ExitStack() as stack:
        yield lambda name="shop": stack.enter_context(
            closing(SharedMetrics(Metrics(), lambda: tmp_path / "shop.totals", name))
        )


def file_of(shared):
    shared.join()
    shared.totals.flush()
    return shared.totals._path.name


@pytest.mark.parametrize("order", [*permutations(range(3))])
def test_instances_of_one_name_have_files_by_the_order_of_their_making_not_of_joining(
    tmp_path, instance, order
):
    instances = [instance() for _ in range(3)]
    files = {number: file_of(instances[number]) for number in order}
    assert files == {0: "shop.totals", 1: "shop.2.totals", 2: "shop.3.totals"}
    assert {path.name for path in tmp_path.iterdir()} == set(files.values())


def test_instances_of_other_names_are_numbered_apart(instance):
    assert [file_of(instance(name)) for name in ("shop", "admin", "shop")] == [
        "shop.totals",
        "shop.totals",
        "shop.2.totals",
    ]


def test_two_instances_are_not_added_up(instance):
    first, second = instance(), instance()
    for number, each in enumerate((first, second), 1):
        each._metrics.counter("orders", "Orders").add(number)
        each.join()
        each.totals.flush()
    assert first.sum(first._metrics.series()) == {("orders", ()): [1.0]}
    assert second.sum(second._metrics.series()) == {("orders", ()): [2.0]}


def test_a_closed_instance_gives_its_number_back_once(instance):
    first, second = instance(), instance()
    first.close()
    third = instance()
    first.close()
    first.join()
    assert first.totals is None
    assert [file_of(each) for each in (third, second, instance())] == [
        "shop.totals",
        "shop.2.totals",
        "shop.3.totals",
    ]


def test_an_instance_that_nobody_holds_gives_its_number_back(tmp_path):
    SharedMetrics(Metrics(), lambda: tmp_path / "shop.totals", "shop").join()
    gc.collect()
    again = SharedMetrics(Metrics(), lambda: tmp_path / "shop.totals", "shop")
    assert file_of(again) == "shop.totals"
    again.close()
