"""UP301: a large response sent uncompressed to a client that would have taken it compressed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from upshift.diagnose.endpoints import definition_of
from upshift.diagnose.finding import Finding, Severity
from upshift.traffic import accepts_gzip, is_compressible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from upshift.diagnose.observation import Observation
    from upshift.record import Record

CODE = "UP301"

TYPICAL_RATIO = 0.3
"""Size of compressed JSON, as a share of the plain text."""


def find(observation: Observation) -> Iterator[Finding]:
    """Yield a finding for each route, with its largest such response."""
    smallest = observation.settings.diagnose.large_response_bytes
    largest: dict[str, Record] = {}
    for record in observation.records:
        if (
            record.response_bytes >= smallest
            and not record.content_encoding
            and is_compressible(record.content_type)
            and accepts_gzip(record.accept_encoding)
        ):
            known = largest.get(record.operation)
            if known is None or record.response_bytes > known.response_bytes:
                largest[record.operation] = record
    for operation, record in largest.items():
        size = record.response_bytes
        yield Finding(
            code=CODE,
            severity=Severity.WARNING,
            title=f"{size / 1e3:.0f} KB of {record.content_type} sent uncompressed",
            site=definition_of(record.endpoint),
            routes=(operation,),
            evidence=(f"{record.path}: {size} bytes, no Content-Encoding, though the client accepts gzip",),
            fix=("Upshift(app, engine=engine, compression=True), or UPSHIFT_COMPRESSION=true",),
            expect=f"{size / 1e3:.0f} → about {size * TYPICAL_RATIO / 1e3:.0f} KB",
            data={"bytes": size, "content_type": record.content_type},
        )
