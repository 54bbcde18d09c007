"""What one client, or one job, has seen and done: what its next reads have to know."""

from __future__ import annotations

from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from upshift.sql.replicas.position import Position
    from upshift.sql.replicas.replica import Replica


class Visit:
    """The sessions of one request, of one job, or the one session that belongs to neither.

    They may be used by several threads and tasks.

    Args:
        after: reads must not be older than this position; None where any will do.
        reads_replicas: False sends all of it to the primary.

    Attributes:
        replica: the replica that it reads from.
        has_read: whether it has read from it. It reads from no other after that, which may be behind, but
            from the primary when this one is lost.
        writing: transactions that may have written and are open.
        has_written: whether one of them was committed.
    """

    __slots__ = (
        "_lock",
        "_primary_until",
        "after",
        "has_read",
        "has_written",
        "reads_replicas",
        "replica",
        "writing",
    )

    def __init__(self, after: Position | None = None, *, reads_replicas: bool = True) -> None:
        self.after = after
        self.reads_replicas = reads_replicas
        self.replica: Replica | None = None
        self.has_read = False
        self.writing = 0
        self.has_written = False
        self._primary_until = 0.0
        self._lock = Lock()

    @property
    def stays_on_primary(self) -> bool:
        """Whether it may read from the primary only."""
        return not self.reads_replicas or bool(self.writing) or self._primary_until > monotonic()

    def forget(self) -> None:
        """What it reads next need not be later than what it has read."""
        self.replica = None
        self.has_read = False

    def begin_writing(self) -> None:
        """A transaction of this visit may write from now on."""
        with self._lock:
            self.writing += 1

    def end_writing(self, committed_for: float | None) -> None:
        """Such a transaction is over.

        Args:
            committed_for: seconds after which every fit replica has what it committed; None where it
                committed nothing.
        """
        with self._lock:
            self.writing -= 1
            if committed_for is not None:
                self.has_written = True
                self._primary_until = monotonic() + committed_for
