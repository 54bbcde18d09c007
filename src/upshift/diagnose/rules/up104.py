"""UP104: a relationship that a statement loads eagerly, and that no sampled request read.

One use in any sample is enough for it not to be found, ever: what is read now and then stays eager, so that
this rule and UP101 never ask for each other's cure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from upshift.diagnose.finding import Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from upshift.diagnose.observation import Observation
    from upshift.sql import Use

CODE = "UP104"


def find(observation: Observation) -> Iterator[Finding]:
    """Yield a finding for each line and relationship."""
    fewest = observation.settings.diagnose.unused_samples
    for use in observation.uses:
        if use.kind != "column" and not use.used and use.samples >= fewest:
            yield _finding(use)


def _finding(use: Use) -> Finding:
    objects = use.objects / use.samples
    if use.kind == "option":
        severity = Severity.WARNING
        fix: tuple[str, ...] = (f"remove the option that loads {use.attribute} from the query",)
    else:
        severity = Severity.INFO
        fix = (
            f"select({use.root}).options(lazyload({use.attribute}))",
            f'or map it with lazy="select", if {use.attribute} is read nowhere',
        )
    return Finding(
        code=CODE,
        severity=severity,
        title=f"{use.attribute} is loaded eagerly and not read",
        site=use.site,
        routes=tuple(sorted(use.routes)),
        evidence=(
            f"read in none of {use.samples} sampled requests, for {objects:.0f} objects each",
            "loaded by an option of the query" if use.kind == "option" else "loaded by its mapping",
        ),
        fix=fix,
        expect="a statement or a join less in each request",
        data={"attribute": use.attribute, "kind": use.kind, "samples": use.samples, "objects": use.objects},
    )
