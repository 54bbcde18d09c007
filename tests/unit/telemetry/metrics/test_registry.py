"""Counters, gauges and histograms: declared once, bounded, exact."""

import faulthandler
import math
import os
import sys
from collections import Counter as Tally
from enum import Enum, IntEnum, StrEnum, auto
from itertools import accumulate
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upshift.telemetry import Metrics
from upshift.telemetry.metrics.database import DatabaseMetrics
from upshift.telemetry.metrics.faults import count_faults
from upshift.telemetry.metrics.http import HttpMetrics
from upshift.telemetry.metrics.process import ProcessMetrics
from upshift.telemetry.metrics.registry import (
    MAX_LABEL_LENGTH,
    MAX_SERIES,
    MAX_WAITING,
    OTHER,
    OWN_NAMES,
)
from upshift.telemetry.metrics.sockets import SocketMetrics


@pytest.fixture
def metrics():
    return Metrics()


def values(family):
    return {labels: list(series.values) for labels, series in family.series.items()}


class TestDeclaring:
    def test_again_with_the_same_facts_gives_the_same_family(self, metrics):
        declared = metrics.counter("orders", "Orders", labels={"channel": ("web",)})
        assert metrics.counter("orders", "Orders", labels={"channel": ["web"]}) is declared

    @pytest.mark.parametrize(
        "again",
        [
            lambda metrics: metrics.counter("orders", "Something else"),
            lambda metrics: metrics.gauge("orders", "Orders"),
            lambda metrics: metrics.counter("orders", "Orders", labels={"channel": 5}),
        ],
    )
    def test_again_with_other_facts_is_refused(self, metrics, again):
        metrics.counter("orders", "Orders")
        with pytest.raises(ValueError, match="orders is declared already"):
            again(metrics)

    @pytest.mark.parametrize("name", ["", "Orders", "1st", "orders-placed", "orders placed", "ördërs", "a\n"])
    def test_a_name_that_prometheus_would_refuse_is_refused(self, metrics, name):
        with pytest.raises(ValueError, match="cannot name a metric"):
            metrics.counter(name, "Orders")

    @pytest.mark.parametrize("label", ["le", "__name__", "Channel", "channel-name"])
    def test_so_is_such_a_label(self, metrics, label):
        with pytest.raises(ValueError, match="label"):
            metrics.counter("orders", "Orders", labels={label: 5})

    @pytest.mark.parametrize(
        ("name", "unit", "full"),
        [
            ("queue_wait", "seconds", "queue_wait_seconds"),
            ("queue_wait_seconds", "seconds", "queue_wait_seconds"),
            ("orders_placed", "orders", "orders_placed"),
            ("revenue", "", "revenue"),
        ],
    )
    def test_the_unit_ends_the_name_unless_the_name_says_it(self, metrics, name, unit, full):
        assert metrics.counter(name, "…", unit=unit).name == full

    def test_the_suffix_of_the_exposition_is_not_part_of_the_name(self, metrics):
        assert metrics.counter("orders_total", "Orders").name == "orders"

    @pytest.mark.parametrize(
        "declare",
        [
            lambda metrics: metrics.gauge("process_threads", "Threads"),
            lambda metrics: metrics.gauge("process_resident_memory", "Memory", unit="bytes"),
            lambda metrics: metrics.gauge("server_processes", "Processes"),
            lambda metrics: metrics.counter("upshift_faults_total", "Faults"),
            lambda metrics: metrics.histogram("python_gc_duration", "Pauses"),
            lambda metrics: metrics.histogram("http_server_request_duration", "Durations"),
            lambda metrics: metrics.histogram("db_client_operation_duration", "Durations"),
            lambda metrics: metrics.counter("websocket_server_messages", "Messages"),
        ],
    )
    def test_a_name_of_upshift_s_own_is_refused_at_once(self, metrics, declare):
        with pytest.raises(ValueError, match=r"one of Upshift's own metrics, .* such as app_"):
            declare(metrics)
        assert metrics.families() == ()

    def test_upshift_s_own_metrics_are_all_kept_from_others(self, metrics):
        ProcessMetrics(metrics).close()
        HttpMetrics(metrics, digest_of=str, opened=tuple)
        SocketMetrics(metrics, opened=tuple)
        DatabaseMetrics(metrics, states=tuple, route_of=str)
        count_faults(metrics, {"logs": int})
        assert [each.name for each in metrics.families() if not each.name.startswith(OWN_NAMES)] == []

    @pytest.mark.parametrize("buckets", [(), (1, 1), (2, 1), (1, math.inf), (math.nan,), (1, math.nan)])
    def test_buckets_must_be_finite_and_rise(self, metrics, buckets):
        with pytest.raises(ValueError, match="buckets of wait"):
            metrics.histogram("wait", "Wait", buckets=buckets)


class TestLabels:
    def test_a_value_that_was_not_declared_is_other(self, metrics):
        orders = metrics.counter("orders", "Orders", labels={"channel": ("web", "phone")})
        orders.add(1, channel="web")
        orders.add(2, channel="fax")
        orders.add(3, channel="pigeon")
        assert values(orders) == {("web",): [1.0], (OTHER,): [5.0]}
        assert orders.refused == 2

    def test_values_beyond_the_bound_are_other(self, metrics):
        orders = metrics.counter("orders", "Orders", labels={"shop": 2})
        for shop in ("a", "b", "c", "a", "d"):
            orders.add(shop=shop)
        assert values(orders) == {("a",): [2.0], ("b",): [1.0], (OTHER,): [2.0]}

    def test_combinations_are_bounded_as_well(self, metrics):
        orders = metrics.counter("orders", "Orders", labels={"shop": 200, "item": 200})
        for number in range(MAX_SERIES + 500):
            orders.add(shop=number % 200, item=number // 200)
        assert len(orders.series) == MAX_SERIES + 1
        assert values(orders)[OTHER, OTHER] == [500.0]

    def test_a_long_value_is_cut_and_a_broken_one_mended(self, metrics):
        orders = metrics.counter("orders", "Orders", labels={"shop": 5})
        orders.add(shop="x" * 1_000_000)
        orders.add(shop="\ud800")
        assert set(orders.series) == {("x" * MAX_LABEL_LENGTH,), ("?",)}

    @pytest.mark.parametrize("labels", [{}, {"shop": "a"}, {"channel": "a", "shop": "b"}])
    def test_labels_that_were_not_declared_are_refused(self, metrics, labels):
        orders = metrics.counter("orders", "Orders", labels={"channel": ("web",)})
        with pytest.raises(ValueError, match="orders has the labels channel"):
            orders.add(**labels)

    @pytest.mark.parametrize("bound", ["web", b"web", "", True, False, 0, -1, None, 2.5])
    def test_what_is_neither_values_nor_a_number_of_them_is_refused(self, metrics, bound):
        with pytest.raises(ValueError, match=r"label channel of orders .* write its values, such as \('web'"):
            metrics.counter("orders", "Orders", labels={"channel": bound})

    @pytest.mark.parametrize(
        "members",
        [
            Enum("Channel", {"WEB": "web", "PHONE": "phone"}),
            StrEnum("Channel", ["WEB", "PHONE"]),
            Enum("Channel", {"WEB": "web", "PHONE": "phone"}, type=str),
        ],
    )
    def test_the_members_of_an_enum_are_their_values(self, metrics, members):
        orders = metrics.counter("orders", "Orders", labels={"channel": members})
        assert orders is metrics.counter("orders", "Orders", labels={"channel": ("web", "phone")})
        orders.add(1, channel=members.WEB)
        orders.add(2, channel="web")
        orders.add(4, channel=members.PHONE)
        assert values(orders) == {("web",): [3.0], ("phone",): [4.0]}

    def test_so_are_those_that_are_numbers_and_those_of_an_open_label(self, metrics):
        size = IntEnum("Size", {"SMALL": auto(), "LARGE": auto()})
        orders = metrics.counter("orders", "Orders", labels={"size": size, "again": 5})
        orders.add(size=size.LARGE, again=size.SMALL)
        assert values(orders) == {("2", "1"): [1.0]}

    @pytest.mark.parametrize("bound", [(True, False), ("true", "false"), 2])
    def test_a_bool_is_true_or_false_in_small_letters(self, metrics, bound):
        orders = metrics.counter("orders", "Orders", labels={"paid": bound})
        orders.add(1, paid=True)
        orders.add(2, paid=False)
        orders.add(4, paid="true")
        assert values(orders) == {("true",): [5.0], ("false",): [2.0]}

    def test_a_declared_value_that_is_too_long_is_cut_like_one_that_is_used(self, metrics):
        orders = metrics.counter("orders", "Orders", labels={"shop": ("x" * 1_000,)})
        orders.add(shop="x" * 1_000)
        assert set(orders.series) == {("x" * MAX_LABEL_LENGTH,)}


class TestCounting:
    @pytest.mark.parametrize("amount", [-1, math.inf, math.nan])
    def test_a_counter_only_rises(self, metrics, amount):
        orders = metrics.counter("orders", "Orders")
        with pytest.raises(ValueError, match="only rises"):
            orders.add(amount)
        assert values(orders) == {(): [0.0]}

    def test_a_gauge_is_what_it_was_set_to_last(self, metrics):
        open_orders = metrics.gauge("open_orders", "Open orders")
        open_orders.set(5)
        open_orders.add(-2)
        assert values(open_orders) == {(): [3.0]}

    def test_an_observation_on_a_bound_belongs_below_it(self, metrics):
        wait = metrics.histogram("wait", "Wait", buckets=(1, 2))
        for seconds in (0.5, 1.0, 1.5, 2.0, 9.0):
            wait.observe(seconds)
        assert values(wait) == {(): [2.0, 2.0, 1.0, 14.0]}

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_what_is_no_number_is_only_counted_as_refused(self, metrics, value):
        wait = metrics.histogram("wait", "Wait", buckets=(1,))
        wait.observe(value)
        assert values(wait) == {(): [0.0, 0.0, 0.0]}
        assert wait.labelled().rejected == 1

    def test_so_is_it_among_others(self, metrics):
        wait = metrics.histogram("wait", "Wait", buckets=(1,))
        for value in (0.5, math.nan, 2.0, math.inf, 0.25):
            wait.observe(value)
        assert values(wait) == {(): [2.0, 1.0, 2.75]}
        assert wait.labelled().rejected == 2

    @pytest.mark.parametrize("value", [None, "1", object()])
    def test_who_observes_something_else_is_told_at_once(self, metrics, value):
        wait = metrics.histogram("wait", "Wait", buckets=(1,))
        with pytest.raises(TypeError):
            wait.observe(value)
        wait.observe(2)
        assert values(wait) == {(): [0.0, 1.0, 2.0]}

    @given(st.lists(st.floats(-10, 10), max_size=3 * MAX_WAITING), st.integers(1, 2 * MAX_WAITING))
    def test_each_observation_is_in_its_bucket_whenever_it_is_read(self, observed, read_every):
        bounds = (-1, 0, 1, 5)
        wait = Metrics().histogram("wait", "Wait", buckets=bounds)
        for number, value in enumerate(observed):
            wait.observe(value)
            if number % read_every == 0:
                assert sum(wait.labelled().values[:-1]) == number + 1
        *counts, total = wait.labelled().values
        assert list(accumulate(counts)) == [
            *(sum(value <= bound for value in observed) for bound in bounds),
            len(observed),
        ]
        assert total == pytest.approx(sum(observed), abs=1e-9)

    def test_few_observations_wait(self, metrics):
        wait = metrics.histogram("wait", "Wait", buckets=(1,)).labelled()
        for _ in range(10 * MAX_WAITING):
            wait.observe(2)
            assert len(wait._waiting) < MAX_WAITING

    def test_a_signal_that_observes_while_its_thread_is_counting_does_not_wait_for_ever(self, metrics):
        wait = metrics.histogram("wait", "Wait", buckets=(1,)).labelled()
        with wait._lock:
            for _ in range(MAX_WAITING + 1):
                wait.observe(2)
        assert list(wait.values) == [0.0, MAX_WAITING + 1, 2.0 * (MAX_WAITING + 1)]

    @given(st.lists(st.floats(-10, 10), max_size=3 * MAX_WAITING))
    def test_several_at_a_time_are_as_good_as_each(self, observed):
        several, each = (Metrics().histogram("wait", "Wait", buckets=(-1, 0, 5)).labelled() for _ in "ab")
        several.observe_all(tuple(observed))
        for value in observed:
            each.observe(value)
        assert list(several.values[:-1]) == list(each.values[:-1])
        assert several.values[-1] == pytest.approx(each.values[-1], abs=1e-9)

    def test_several_that_come_while_others_are_counted_are_counted_later(self, metrics):
        wait = metrics.histogram("wait", "Wait", buckets=(1,)).labelled()
        with wait._lock:
            wait.observe_all((0, 2, math.nan))
        assert (list(wait.values), wait.rejected) == ([1.0, 1.0, 2.0], 1)

    def test_threads_lose_nothing(self, metrics):
        orders = metrics.counter("orders", "Orders").labelled()
        wait = metrics.histogram("wait", "Wait", buckets=(1,)).labelled()

        def work():
            for _ in range(20_000):
                orders.add()
                wait.observe(2)

        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            threads = [Thread(target=work) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            sys.setswitchinterval(interval)
        assert (list(orders.values), list(wait.values)) == ([80_000.0], [0.0, 80_000.0, 160_000.0])


class TestCollecting:
    def test_a_callback_that_fails_keeps_nobody_from_reading(self, metrics, caplog):
        stock = metrics.gauge("stock", "Stock")
        metrics.before_collecting(lambda: 1 / 0)
        metrics.before_collecting(lambda: stock.add(1))
        assert metrics.families() == (stock,)
        assert metrics.families() == (stock,)
        assert values(stock) == {(): [2.0]}
        assert metrics.faults == 2
        assert [record.name for record in caplog.records] == ["upshift.telemetry"]
        assert "ZeroDivisionError" in caplog.text

    def test_one_that_ends_the_process_does(self, metrics):
        metrics.before_collecting(sys.exit)
        with pytest.raises(SystemExit):
            metrics.refresh()
        assert metrics.faults == 0


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_forked_while_a_thread_counts_counts_on(metrics):
    orders = metrics.counter("orders", "Orders", labels={"channel": 5})
    wait = metrics.histogram("wait", "Wait", buckets=(1,))
    orders.add(channel="web")
    with metrics._lock, orders._lock, orders.labelled(channel="web")._lock, wait.labelled()._lock:
        child = os.fork()
        if child == 0:
            faulthandler.dump_traceback_later(20, exit=True)
            orders.add(channel="web")
            orders.add(channel="phone")
            wait.observe(2)
            metrics.gauge("stock", "Stock")
            counted = [list(each.values) for each in metrics.series()]
            os._exit(counted != [[2.0], [1.0], [0.0, 1.0, 2.0], [0.0]])
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_an_observation_is_one_python_call_and_two_in_c(metrics):
    wait = metrics.histogram("wait", "Wait").labelled()
    calls = Tally()

    def count(_frame, event, _argument):
        calls[event] += 1

    sys.setprofile(count)
    wait.observe(0.01)
    sys.setprofile(None)
    assert calls["call"] == 1
    assert calls["c_call"] <= 3  # to append, to ask for the length, and the end of profiling
