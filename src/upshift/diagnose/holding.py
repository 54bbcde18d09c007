"""When requests held connections for nothing: gaps, and what a transaction had done before one.

Each gap has one cause. Where a transaction had written or locked before it, others wait for its locks, and
it is idle in transaction (UP402). Else a connection of the pool was kept from others (UP403). A transaction
that is long without one long gap, and without one slow statement, is long in itself (UP401).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from upshift.diagnose.writing import is_write

if TYPE_CHECKING:
    from collections.abc import Iterator

    from upshift.record import CallSite, Gap, Hold, Record


class Idle(NamedTuple):
    """A long gap.

    Attributes:
        record: the request.
        gap: the gap.
        has_written: whether a transaction was open that had written or locked before it.
    """

    record: Record
    gap: Gap
    has_written: bool

    @property
    def site(self) -> CallSite | None:
        """The line that sent the statement before it."""
        return self.gap.after.site if self.gap.after is not None else None

    @property
    def is_streaming(self) -> bool:
        """Whether the response was being streamed."""
        record = self.record
        return record.is_streamed and self.gap.started >= record.started + record.first_byte_seconds


def idle_times(record: Record, least_seconds: float) -> Iterator[Idle]:
    """Yield a request's gaps that are at least so long."""
    for hold in record.holds:
        for gap in hold.gaps():
            if gap.seconds >= least_seconds:
                yield Idle(record, gap, gap.in_transaction and _has_written(hold, gap))


def _has_written(hold: Hold, gap: Gap) -> bool:
    began = max(
        (each.began for each in hold.transactions if each.began <= gap.started < each.ended),
        default=hold.began,
    )
    return any(began <= each.started <= gap.started and is_write(each.sql) for each in hold.statements)
