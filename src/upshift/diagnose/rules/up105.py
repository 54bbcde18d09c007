"""UP105: joined eager loads of several collections, whose rows multiply.

It is told from the statement, which joins two collections or more that are not within each other, and from
what came of it: at least twice as many rows as there are objects in them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from upshift.diagnose.causes import Cause, Causes
from upshift.diagnose.finding import Finding, Severity
from upshift.sql import Digests, normalise

if TYPE_CHECKING:
    from collections.abc import Iterator

    from upshift.diagnose.observation import Observation
    from upshift.record import CallSite, Statement
    from upshift.record.model import Product

CODE = "UP105"

LEAST_ROWS = 50
"""Rows of a result, from which on it matters how many there are."""

LEAST_RATIO = 2
"""Rows for each object, from which on they are a product."""

_Key = tuple[str, "CallSite | None", tuple[str, ...]]


def find(observation: Observation) -> Iterator[Finding]:
    """Yield a finding for each statement and line whose rows were a product."""
    causes: Causes[_Key, tuple[Statement, Product]] = Causes()
    for record in observation.records:
        for each in record.statements:
            product = each.product
            if product and product.rows >= max(LEAST_ROWS, product.objects * LEAST_RATIO):
                key = (normalise(each.sql), each.site, product.collections)
                causes.see(key, record, each.rows or 0, (each, product))
    for (text, site, collections), cause in causes.by_key.items():
        yield _finding(text, site, collections, cause)


def _finding(
    text: str, site: CallSite | None, collections: tuple[str, ...], cause: Cause[tuple[Statement, Product]]
) -> Finding:
    statement, product = cause.worst
    named = " and ".join(collections)
    options = ", ".join(f"selectinload({each})" for each in collections[1:])
    after = round((statement.rows or 0) * product.objects / product.rows)
    return Finding(
        code=CODE,
        severity=Severity.WARNING,
        title=f"{named} are joined side by side: {statement.rows or 0:,} rows in one statement",
        site=site,
        routes=tuple(sorted(cause.routes)),
        evidence=(
            f"in {cause.times}; the first {product.rows:,} rows have {product.objects:,} objects in all",
            text,
        ),
        fix=(f"select(…).options(joinedload({collections[0]}), {options}): join one of them at most",),
        expect=f"{statement.rows or 0:,} → about {after:,} rows, in {len(collections)} statements",
        data={
            "digest": Digests().of(statement.sql).id,
            "collections": list(collections),
            "rows": statement.rows,
            "rows_looked_at": product.rows,
            "objects": product.objects,
            "seconds": statement.seconds,
            "requests": cause.requests,
        },
    )
