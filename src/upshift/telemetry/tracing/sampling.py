"""Which requests are traced by chance: the caller's choice, or else a share of the traces that start here."""

from __future__ import annotations

from typing import TYPE_CHECKING
from zlib import crc32

if TYPE_CHECKING:
    from upshift.record import Record

_HASHES = 1 << 32


class HeadSampling:
    """Decides while a request is open, and the same whenever it is asked again.

    A request whose caller sent a `traceparent` does as the caller did (OpenTelemetry's `ParentBased`). For
    the others the trace id decides. OpenTelemetry's `TraceIdRatioBased` compares its low bits, which must be
    random for that; but ids that are minted here count on, so the id is hashed.

    Args:
        rate: the share of the traces starting here, from 0 to 1.

    Example:
        >>> from upshift.record import Record
        >>> record = Record("GET", "/", 0.0)
        >>> record.trace_id = "0af7651916cd43dd8448eb211c80319c"
        >>> HeadSampling(1.0)(record), HeadSampling(0.0)(record)
        (True, False)
        >>> record.is_sampled = True  # the caller's flag
        >>> HeadSampling(0.0)(record)
        True
    """

    def __init__(self, rate: float) -> None:
        self._bound = round(rate * _HASHES)

    def __call__(self, record: Record) -> bool:
        """Tell whether the request is sampled."""
        asked = record.is_sampled
        return crc32(record.trace_id.encode()) < self._bound if asked is None else asked
