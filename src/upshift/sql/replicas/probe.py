"""What PostgreSQL is asked to know whether it may be read from."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from upshift.sql.replicas.position import Position

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

MAX_SAMPLES = 1_000
"""Positions of the primary that are remembered."""

_PRIMARY = """
SELECT pg_current_wal_insert_lsn()::text,
       pg_walfile_name(pg_current_wal_insert_lsn()),
       current_setting('wal_block_size')::int,
       pg_size_bytes(current_setting('wal_segment_size'))
"""

_PAGE_HEADER, _SEGMENT_HEADER = 24, 40
"""Bytes at the start of a page of the log, and of the first page of a segment: `xlog_internal.h`."""

# The timeline that replay is on is told nowhere, so these are lower bounds of it: that of the last restart
# point, that which a restart would have to reach, and what is received where all of that has been replayed
# (told to members of pg_read_all_stats only).
_REPLICA = """
SELECT pg_is_in_recovery(),
       pg_last_wal_replay_lsn()::text,
       greatest(
           (SELECT timeline_id FROM pg_control_checkpoint()),
           (SELECT min_recovery_end_timeline FROM pg_control_recovery()),
           (SELECT received_tli FROM pg_stat_wal_receiver
            WHERE pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn())
       ),
       CASE WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0
            ELSE extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()) END
"""

_IDENTITY = "SELECT system_identifier::text FROM pg_control_system()"

_FUNCTIONS = "SELECT proname FROM pg_proc GROUP BY proname HAVING bool_and(provolatile <> 'v')"


class Answer(NamedTuple):
    """What a replica says of itself.

    Attributes:
        position: how far it has replayed; None where it is no replica (any more).
        lag_seconds: how old the last transaction is that it replayed, by the clocks of both servers; 0 where
            it has replayed all it got, None where it does not know.
    """

    position: Position | None
    lag_seconds: float | None


def ask_primary(connection: Connection) -> Position:
    """Return where the log of the primary ends: all that was committed before this call is before it.

    The insert position is asked for, since what was committed with `synchronous_commit = off` may not be
    written yet.

    Raises:
        sqlalchemy.exc.DBAPIError: it did not answer, or is no primary (any more).
    """
    lsn, file, block, segment = connection.exec_driver_sql(_PRIMARY).one()
    end = Position.parse(int(file[:8], 16), lsn)
    return end._replace(lsn=_without_header(end.lsn, block, segment))


def _without_header(lsn: int, block: int, segment: int) -> int:
    """Return the end of the last record, where the log goes on behind the header of a new page.

    That is so after each switch to a new segment, as a backup or `archive_timeout` cause it. A replica
    replays up to the end of the record, so it would seem to lag until something is written.

    Example:
        >>> [hex(_without_header(lsn, 8192, 1 << 24)) for lsn in (0x5000028, 0x5002018, 0x5002028, 0x5000060)]
        ['0x5000000', '0x5002000', '0x5002028', '0x5000060']
    """
    header = _SEGMENT_HEADER if lsn % segment < block else _PAGE_HEADER
    return lsn - header if lsn % block == header else lsn


def ask_replica(connection: Connection) -> Answer:
    """Return what a replica says of itself.

    Raises:
        sqlalchemy.exc.DBAPIError: it did not answer.
    """
    is_replica, lsn, timeline, lag = connection.exec_driver_sql(_REPLICA).one()
    if not is_replica or lsn is None:
        return Answer(None, None)
    return Answer(Position.parse(timeline, lsn), None if lag is None else float(lag))


def ask_identity(connection: Connection) -> str:
    """Return the cluster's identifier, which its replicas share."""
    return str(connection.exec_driver_sql(_IDENTITY).scalar_one())


def ask_functions(connection: Connection) -> frozenset[str]:
    """Return the names of functions that cannot write, whichever of their namesakes is called."""
    return frozenset(connection.exec_driver_sql(_FUNCTIONS).scalars())


class History:
    """Where the primary was when: what tells a replica's lag in time, by the clock of this process alone.

    A replica's own word for its lag compares the clocks of two servers, grows while nothing is written, and
    is zero when nothing is received. Here the lag is the age of the latest known position of the primary
    that the replica has reached.

    Args:
        seconds: positions older than this are forgotten: a lag longer than that is only "longer".

    Example:
        >>> history = History(10.0)
        >>> for second in range(4):
        ...     history.add(Position(1, 100 * second), now=float(second))
        >>> history.lag_of(Position(1, 150))
        2.0
        >>> history.lag_of(Position(1, 400))
        0.0
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._samples: deque[tuple[float, Position]] = deque(maxlen=MAX_SAMPLES)

    def __bool__(self) -> bool:
        return bool(self._samples)

    def add(self, position: Position, now: float) -> None:
        """Remember where the primary is now."""
        while self._samples and self._samples[0][0] < now - self._seconds:
            self._samples.popleft()
        self._samples.append((now, position))

    def lag_of(self, position: Position) -> float | None:
        """By how many seconds a replica at a position is behind at most; None where that is not known."""
        samples = tuple(self._samples)
        for time, reached in reversed(samples):
            if reached <= position:
                return samples[-1][0] - time
        return None
