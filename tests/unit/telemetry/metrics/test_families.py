"""The metrics of caches, jobs and queues."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from upshift.telemetry.metrics.exposition import expose
from upshift.telemetry.metrics.families import (
    MAX_CACHES,
    declare_cache,
    declare_cache_redis,
    declare_jobs,
    declare_queues,
)
from upshift.telemetry.metrics.registry import OTHER, CounterFamily, GaugeFamily, HistogramFamily, Metrics

DECLARE = (declare_cache, declare_cache_redis, declare_jobs, declare_queues)


def filled(*declare):
    """The page of families that each have one series."""
    metrics = Metrics()
    for each in declare:
        for family in each(metrics):
            labels = dict.fromkeys(family.labels, "a")
            match family:
                case CounterFamily():
                    family.add(1, **labels)
                case GaugeFamily():
                    family.set(1, **labels)
                case HistogramFamily():
                    family.observe(1, **labels)
    return expose(metrics).body


def test_nothing_is_exposed_that_no_room_has_asked_for():
    assert expose(Metrics()).body == b""


@pytest.mark.parametrize("declare", DECLARE)
def test_two_rooms_that_ask_get_the_same_families(declare):
    metrics = Metrics()
    assert all(one is other for one, other in zip(declare(metrics), declare(metrics), strict=True))


def test_each_name_is_a_families_of_its_own():
    metrics = Metrics()
    declared = [family for declare in DECLARE for family in declare(metrics)]
    assert len({family.name for family in declared}) == len(declared)


def test_durations_are_in_seconds_sizes_in_bytes_and_counts_have_no_unit():
    metrics = Metrics()
    for family in (family for declare in DECLARE for family in declare(metrics)):
        is_time = family.kind == "histogram" or family.name == "upshift_cache_load_seconds"
        unit = "seconds" if is_time else "bytes" if "size" in family.name else ""
        assert family.unit == unit
        assert family.name.endswith(f"_{unit}" if unit else family.name)


def test_counters_end_in_total_on_the_page():
    names = re.findall(r"^# TYPE (\S+) counter$", filled(*DECLARE).decode(), re.MULTILINE)
    assert names
    assert all(name.endswith("_total") for name in names)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_prometheus_has_nothing_to_say_against_them():
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=filled(*DECLARE), capture_output=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_caches_beyond_the_bound_are_counted_together():
    family = declare_cache(Metrics()).hits
    for number in range(MAX_CACHES + 2):
        family.add(1, cache_name=f"menu {number}")
    assert len(family.series) == MAX_CACHES + 1
    assert family.series[(OTHER,)].values[0] == 2
