"""UP212: an index whose work another one does as well.

The catalog is read in `upshift.sql.indexes.surplus`, which says what counts as the same work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from upshift.diagnose.finding import Finding, Severity
from upshift.diagnose.surplus import surplus_finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from upshift.diagnose.observation import Observation

CODE = "UP212"


def find(observation: Observation) -> Iterator[Finding]:
    """Yield a finding for each duplicate."""
    for index in observation.surplus:
        if index.kind == "duplicate":
            title = f"{index.name} on {index.table} does nothing that {index.instead} does not"
            yield surplus_finding(index, CODE, Severity.INFO, title)
