"""The rules, one file each: a `CODE`, and a `find` that reads an observation and yields findings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from upshift.diagnose.rules import (
    up101,
    up102,
    up103,
    up104,
    up105,
    up106,
    up107,
    up108,
    up109,
    up201,
    up202,
    up203,
    up204,
    up205,
    up206,
    up207,
    up208,
    up209,
    up210,
    up211,
    up212,
    up213,
    up301,
    up401,
    up402,
    up403,
    up404,
)

if TYPE_CHECKING:
    from upshift.diagnose.finding import Finding
    from upshift.diagnose.observation import Observation

RULES = (
    up101,
    up102,
    up103,
    up104,
    up105,
    up106,
    up107,
    up108,
    up109,
    up201,
    up202,
    up203,
    up204,
    up205,
    up206,
    up207,
    up208,
    up209,
    up210,
    up211,
    up212,
    up213,
    up301,
    up401,
    up402,
    up403,
    up404,
)


def diagnose(observation: Observation) -> tuple[Finding, ...]:
    """Return what all rules find, the worst first, and in a stable order."""
    findings = [finding for rule in RULES for finding in rule.find(observation)]
    findings.sort(key=lambda finding: (-finding.severity, finding.code, finding.site or ("", 0, "")))
    return tuple(findings)
