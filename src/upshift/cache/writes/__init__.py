"""Writes by way of the cache: write-through, and write-behind that survives a killed process.

Write-through
    *When a writer that `Writes.through` has decorated returns, what it has written is in the cache, unless
    somebody has written to it again.* The value is read anew, from what has been committed; see `through`
    for why the one that was written will not do.

Write-behind
    *A write that was acknowledged is in the database some time, though the process be killed at any moment,
    or is a dead letter that somebody is told of. Until it is, this process reads it.* What acknowledged
    means: `put` has returned, so the write is on this machine's disk (`fdatasync`).

    ============  ============================================================================================
    `committing`  One thread writes what all callers have put, and syncs once for all of them: group commit.
    `journal`     The files: one journal for each process, which a lock of the kernel tells alive or dead.
    `records`     Their content, with checksums, so that half of a record is seen and cut.
    `pending`     Of each key the last write, in order: what the flusher takes, and what `get` looks at.
    `flushing`    Batches, again until they are in the database; a bad write does not hold up the others.
    ============  ============================================================================================

    Per key the writes of a process are flushed in their order: a batch begins when the one before has ended,
    and an older write never comes after a younger one, neither while it runs nor after a replay. For the last
    the journal's files are removed oldest first. Between two processes there is no order: where they write
    one key, the flush function has to decide, by a version that it compares.

    At least once: a batch whose end was not noted is flushed again, by the same process after an error, or
    by the next one after a kill. So flushing sets values and does not add to them. A replayed write may come
    after what others have written to the same row past the write-behind; a version decides there as well.

    Nothing depends on the time of day: times are those of the monotonic clock, and order is by numbers.

    The forms are those of a log-structured store: a redo log with group commit (DeWitt et al., SIGMOD 1984),
    segments that are removed when what is in them is elsewhere, and whose rest is carried forward (Rosenblum
    and Ousterhout, "The Design and Implementation of a Log-Structured File System", SOSP 1991).
"""

from upshift.cache.writes.behind import WriteBehind
from upshift.cache.writes.counting import WriteStatistics
from upshift.cache.writes.dead_letters import DeadLetter
from upshift.cache.writes.writes import Writes

__all__ = ["DeadLetter", "WriteBehind", "WriteStatistics", "Writes"]
