"""UP211: an index that no plan has used for a long time.

The catalog is read in `upshift.sql.indexes.surplus`, which says what is left alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from upshift.diagnose.finding import Finding, Severity
from upshift.diagnose.surplus import surplus_finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from upshift.diagnose.observation import Observation

CODE = "UP211"

_CAUTIONS = (
    "before: look at idx_scan in pg_stat_user_indexes on every replica, which counts for itself",
    "before: ask for the report that runs once a quarter",
)


def find(observation: Observation) -> Iterator[Finding]:
    """Yield a finding for each unused index."""
    for index in observation.surplus:
        if index.kind == "unused":
            title = f"no plan uses {index.name} on {index.table}"
            yield surplus_finding(index, CODE, Severity.INFO, title, _CAUTIONS)
