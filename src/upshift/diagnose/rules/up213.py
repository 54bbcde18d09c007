"""UP213: an index whose build failed, kept up by every write and used by no plan.

The catalog is read in `upshift.sql.indexes.surplus`; a build that is going on is none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from upshift.diagnose.finding import Finding, Severity
from upshift.diagnose.surplus import surplus_finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from upshift.diagnose.observation import Observation

CODE = "UP213"


def find(observation: Observation) -> Iterator[Finding]:
    """Yield a finding for each invalid index."""
    for index in observation.surplus:
        if index.kind == "invalid":
            title = f"{index.name} on {index.table} is invalid"
            rebuild = f"or: REINDEX INDEX CONCURRENTLY {index.name}, where it is wanted"
            yield surplus_finding(index, CODE, Severity.WARNING, title, (rebuild,))
