"""How a finding tells of an index that could be dropped (UP211, UP212, UP213)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from upshift.diagnose.finding import Finding

if TYPE_CHECKING:
    from upshift.diagnose.finding import Severity
    from upshift.sql.indexes.surplus import SurplusIndex

_MEGABYTE = 2**20


def surplus_finding(
    index: SurplusIndex, code: str, severity: Severity, title: str, cautions: tuple[str, ...] = ()
) -> Finding:
    """Return the finding of a code for an index.

    Args:
        index: the index.
        code: the code.
        severity: how bad it is.
        title: what is wrong, in one line.
        cautions: what to look at before it is dropped, one fact a line.
    """
    weight = "" if index.size is None else f"{index.size / _MEGABYTE:,.1f} MB, and "
    return Finding(
        code=code,
        severity=severity,
        title=title,
        site=None,
        evidence=(index.reason, index.definition),
        fix=(f"{index.drop_sql};", *cautions),
        expect=f"{weight}an entry less for each row written to {index.table}",
        data=msgspec.to_builtins(index) | {"drop_sql": index.drop_sql},
    )
