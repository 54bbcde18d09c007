"""The registry of checks, and their outcome as a whole."""

import asyncio
import math

import pytest

from upshift.settings import HealthSettings
from upshift.telemetry.health import Health


def failing():
    raise OSError("gone")


@pytest.fixture
def health():
    return Health(HealthSettings())


async def test_without_checks_all_is_well(health):
    report = await health.report()
    assert (report.status, report.is_ready, report.results) == ("pass", True, ())


async def test_the_worst_check_decides(health):
    health.check("fine", lambda: None)
    health.check("lesser", failing, critical=False)
    report = await health.report()
    assert (report.status, report.is_ready) == ("warn", True)
    health.check("db", failing)
    report = await health.report()
    assert (report.status, report.is_ready) == ("fail", False)
    assert [result.name for result in report.results] == ["fine", "lesser", "db"]


async def test_a_check_that_is_left_out_is_not_run(health):
    called = []
    health.check("db", lambda: called.append(1))
    health.check("cache", lambda: None)
    report = await health.report(["db", "databse"])
    assert [result.name for result in report.results] == ["cache"]
    assert report.unknown == ("databse",)
    assert not called


async def test_checks_run_at_the_same_time(health):
    met = asyncio.Barrier(3)  # which nobody passes alone
    for name in "abc":
        health.check(name, met.wait, timeout=30)
    assert (await health.report()).status == "pass"


async def test_results_serve_until_they_are_too_old():
    calls = []
    for seconds, expected in ((3600.0, 1), (0.0, 3)):
        calls.clear()
        health = Health(HealthSettings(health_cache_seconds=seconds))
        health.check("db", lambda: calls.append(1))
        for _ in range(3):
            await health.report()
        assert len(calls) == expected


async def test_a_thousand_reports_at_once_run_each_check_once():
    health = Health(HealthSettings(health_cache_seconds=0.0))
    calls = {"a": 0, "b": 0}

    async def count(name):
        calls[name] += 1
        await asyncio.sleep(0.01)

    health.check("a", lambda: count("a"))
    health.check("b", lambda: count("b"))
    reports = await asyncio.gather(*(health.report() for _ in range(1000)))
    assert {report.status for report in reports} == {"pass"}
    assert calls == {"a": 1, "b": 1}


@pytest.mark.parametrize("phase", ["starting", "draining"])
async def test_what_does_not_serve_is_not_ready(phase):
    health = Health(HealthSettings(), lambda: phase)
    assert not (await health.report()).is_ready


async def test_the_timeout_of_the_settings_holds_where_none_is_given():
    health = Health(HealthSettings(health_timeout_seconds=0.02))
    health.check("default", lambda: asyncio.sleep(3600))
    health.check("own", lambda: asyncio.sleep(3600), timeout=0.01)
    report = await health.report()
    assert [result.output for result in report.results] == [
        "TimeoutError: no answer within 0.02 s",
        "TimeoutError: no answer within 0.01 s",
    ]


@pytest.mark.parametrize("name", ["", "a b", "a:b", "ü", "a\n", "x" * 101, "-a"])
def test_a_name_that_would_break_a_line_is_refused(health, name):
    with pytest.raises(ValueError, match="cannot name a health check"):
        health.check(name, failing)


def test_a_name_is_given_once(health):
    health.check("db", failing)
    with pytest.raises(ValueError, match="'db' already"):
        health.check("db", failing)


@pytest.mark.parametrize("timeout", [0, -1.0, math.nan, math.inf])
def test_a_timeout_that_is_none_is_refused(health, timeout):
    with pytest.raises(ValueError, match="must be above zero"):
        health.check("db", failing, timeout=timeout)


def test_two_registries_know_nothing_of_each_other(health):
    health.check("db", failing)
    assert asyncio.run(Health(HealthSettings()).report()).results == ()
