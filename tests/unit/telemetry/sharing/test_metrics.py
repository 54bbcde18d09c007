"""Metrics of two workers, exposed by either."""

from upshift.telemetry.metrics.exposition import expose
from upshift.telemetry.metrics.registry import Metrics
from upshift.telemetry.sharing.metrics import SharedMetrics


def worker(path):
    metrics = Metrics()
    shared = SharedMetrics(metrics, lambda: path)
    shared.join()
    return metrics, shared


def test_any_worker_exposes_the_sum_with_labels_that_only_others_have_seen(tmp_path):
    first, first_shared = worker(tmp_path / "totals")
    second, second_shared = worker(tmp_path / "totals")
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
    metrics, shared = worker(None)
    metrics.counter("orders", "Orders").add(2)
    page = expose(metrics, totals=shared.sum).body.decode()
    shared.close()
    assert "orders_total 2.0" in page


def test_what_is_read_on_demand_is_brought_up_to_date_before_a_flush(tmp_path):
    first, first_shared = worker(tmp_path / "totals")
    second, second_shared = worker(tmp_path / "totals")
    open_requests = first.gauge("open_requests", "Open requests")
    first.before_collecting(lambda: open_requests.set(3))
    first_shared.totals.flush()
    summed = second_shared.sum(second.series())
    for shared in (first_shared, second_shared):
        shared.close()
    assert summed == {("open_requests", ()): [3.0]}
