from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from upshift.diagnose import Finding, Report, Severity
from upshift.record import CallSite

HOSTILE = "\x1b[31m[bold]SELECT\r\n::error::pwned ##[warning] 100%,\u202e\x9b\x00\udcff{0}[/bold]"
"""ANSI escapes, rich's markup, lines that look like commands, a reversed direction, a lone surrogate."""


@pytest.fixture
def hostile() -> str:
    return HOSTILE


@pytest.fixture
def finding() -> Callable[..., Finding]:
    """A finding at /srv/shop/orders.py:42, with whatever is given instead."""

    def make(**given: Any) -> Finding:
        fields = {
            "code": "UP101",
            "severity": Severity.ERROR,
            "title": "N+1 on Order.customer: 51 statements in one request",
            "site": CallSite("/srv/shop/orders.py", 42, "list_orders"),
            "routes": ("GET /orders",),
            "evidence": ("51 times: SELECT name FROM customer WHERE id = ?",),
            "fix": ("select(Order).options(selectinload(Order.customer))", "or Upshift(batching=True)"),
            "expect": "51 → 2 statements",
            "data": {"relationship": "Order.customer", "statements": 51},
        }
        return Finding(**fields | given)

    return make


@pytest.fixture
def hostile_finding(finding, hostile) -> Finding:
    return finding(
        title=hostile,
        site=CallSite(f"/srv/{hostile}.py", 1, hostile),
        routes=(hostile,),
        evidence=(hostile, "SELECT " + "x" * 1_000_000),
        fix=(hostile,),
        expect=hostile,
        data={"relationship": hostile, hostile: [hostile, 1.5, None, {"deep": hostile}]},
    )


@pytest.fixture
def report() -> Callable[..., Report]:
    """A report of these findings, with whatever else is given."""

    def make(*findings: Finding, **given: Any) -> Report:
        return Report(**{"findings": findings, "routes": 14, "requests": 60} | given)

    return make
