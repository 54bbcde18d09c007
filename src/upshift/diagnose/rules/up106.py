"""UP106: a wide column that a statement loads with its objects, and that no sampled request read."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from upshift.diagnose.finding import Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from upshift.diagnose.observation import Observation
    from upshift.record import CallSite
    from upshift.sql import Use

CODE = "UP106"


def find(observation: Observation) -> Iterator[Finding]:
    """Yield a finding for each line, with all of its columns."""
    settings = observation.settings.diagnose
    by_site: dict[tuple[CallSite, str], list[Use]] = defaultdict(list)
    for use in observation.uses:
        is_unused = use.kind == "column" and not use.used and use.samples >= settings.unused_samples
        if is_unused and use.width >= settings.wide_column_bytes:
            by_site[use.site, use.root].append(use)
    for (_, root), uses in by_site.items():
        yield _finding(root, uses)


def _finding(root: str, uses: list[Use]) -> Finding:
    names = ", ".join(use.attribute for use in uses)
    width = sum(use.width for use in uses)
    objects = max(use.objects / use.samples for use in uses)
    deferred = ", ".join(f"defer({use.attribute})" for use in uses)
    return Finding(
        code=CODE,
        severity=Severity.INFO,
        title=f"{names} {'is' if len(uses) == 1 else 'are'} loaded and not read",
        site=uses[0].site,
        routes=tuple(sorted(set().union(*(use.routes for use in uses)))),
        evidence=tuple(
            f"{use.attribute}: {use.width:.0f} bytes an object, read in none of {use.samples} samples"
            for use in uses
        ),
        fix=(f"select({root}).options({deferred})", "or load_only(…) with the columns that are read"),
        expect=f"{width * objects / 1e3:.0f} KB less from the database in each request",
        data={"columns": [use.attribute for use in uses], "bytes": width, "objects": objects},
    )
