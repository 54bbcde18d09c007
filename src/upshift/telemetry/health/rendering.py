"""Reports as text, the way Kubernetes writes its own, and as `application/health+json`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from upshift.telemetry.health.checks import rfc3339

if TYPE_CHECKING:
    from collections.abc import Iterable

    from upshift.telemetry.health.checks import Result, Status
    from upshift.telemetry.health.health import Phase, Report

MAX_UNKNOWN = 10
"""Names of no check that are repeated to who gave them."""

_MAX_NAME = 50

_PHASES: dict[Phase, str] = {
    "starting": "[-]startup not complete",
    "serving": "[+]startup ok",
    "draining": "[-]shutdown under way",
}


def phase_line(phase: Phase) -> str:
    """Tell where the process is.

    Example:
        >>> phase_line("draining")
        '[-]shutdown under way'
    """
    return _PHASES[phase]


def result_line(result: Result) -> str:
    """Tell how a check came out.

    Example:
        >>> from datetime import UTC, datetime
        >>> from upshift.telemetry.health import Result
        >>> result_line(Result("disk", "system", "pass", 0.0012, datetime.now(UTC)))
        '[+]disk ok 1.2 ms'
    """
    took = f"{result.seconds * 1000:.1f} ms"
    if result.status == "pass":
        return f"[+]{result.name} ok {took}{result.detail and f': {result.detail}'}"
    mark, word = ("[!]", "failed (not critical)") if result.status == "warn" else ("[-]", "failed")
    return f"{mark}{result.name} {word} {took}: {result.output}"


def unknown_lines(names: Iterable[str]) -> list[str]:
    """Tell of names that were to be left out and are no check's.

    Example:
        >>> unknown_lines(["databse"])
        ["[?]no check is named 'databse'"]
    """
    return [f"[?]no check is named {name[:_MAX_NAME]!a}" for name in list(names)[:MAX_UNKNOWN]]


def health_json(report: Report) -> tuple[Status, bytes]:
    """Write a report as draft-inadarei-api-health-check-06 has it, and return its status beside.

    A process that starts or drains is in order, and not ready: that is `warn` at least.

    Example:
        >>> from upshift.telemetry.health import Report
        >>> health_json(Report("serving", (), ()))
        ('pass', b'{"status":"pass","checks":{}}')
    """
    status = report.status
    document: dict[str, Any] = {"status": status}
    notes = unknown_lines(report.unknown)
    if report.phase != "serving":
        status = document["status"] = "warn" if status == "pass" else status
        notes.insert(0, report.phase)
    if notes:
        document["notes"] = notes
    document["checks"] = {f"{result.name}:responseTime": [_component(result)] for result in report.results}
    return status, msgspec.json.encode(document)


def _component(result: Result) -> dict[str, Any]:
    component: dict[str, Any] = {
        "componentId": result.name,
        "componentType": result.component_type,
        "observedValue": round(result.seconds * 1000, 3),
        "observedUnit": "ms",
        "status": result.status,
        "time": rfc3339(result.at),
    }
    if result.output:
        component["output"] = result.output
    if result.detail:
        component["detail"] = result.detail
    return component
