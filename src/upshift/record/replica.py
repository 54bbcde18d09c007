"""What is known of a replica of a database at a moment."""

from __future__ import annotations

from typing import NamedTuple


class ReplicaState(NamedTuple):
    """What a process knows of a replica.

    Attributes:
        name: its pool's name, or its host and port.
        is_fit: whether it is read from.
        reason: why it is not; "" where it is.
        lag_seconds: by how much it is behind the primary at most; None where that is not known.
        position: the timeline and the place in the log that it had reached when it was asked last.
        latency_seconds: what a statement takes lately, with a bias to the worst.
        open_transactions: those of this process that read from it now.
        failures: how often it was put out.
    """

    name: str
    is_fit: bool
    reason: str
    lag_seconds: float | None
    position: tuple[int, int] | None
    latency_seconds: float
    open_transactions: int
    failures: int
