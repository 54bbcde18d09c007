"""The counts of a run while it runs: one `Tally` per request name.

Each request that came due in the measured time ends in exactly one place: an answer of some status, a failure
of some kind, or unfinished where the run was interrupted.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from typing import Literal

Failure = Literal["backlog", "connect", "protocol", "reset", "timeout"]
"""Why a request got no answer:

    backlog    too many requests waited for a connection already
    connect    no connection could be opened
    protocol   the answer was no HTTP/1.1
    reset      the connection ended before the answer did
    timeout    no complete answer came in time
"""


class Tally:
    """Counts of the requests of one name that came due after the warm-up.

    Attributes:
        measured_from: `time.monotonic()` at the end of the warm-up; requests due earlier are not counted.
        latencies: seconds from due to answered, or to given up for those that timed out.
        statuses: answers by HTTP status.
        failures: requests without an answer, by kind.
        sent: requests written to a connection.
        unfinished: requests that waited or were under way when the run was interrupted.
        received_bytes: bytes of the answers on the wire, heads and encoded bodies.
    """

    __slots__ = (
        "failures",
        "latencies",
        "measured_from",
        "received_bytes",
        "sent",
        "statuses",
        "unfinished",
    )

    def __init__(self) -> None:
        self.measured_from = 0.0
        self.latencies = array("d")
        self.statuses: dict[int, int] = defaultdict(int)
        self.failures: dict[Failure, int] = defaultdict(int)
        self.sent = 0
        self.unfinished = 0
        self.received_bytes = 0

    def answered(self, status: int, due: float, now: float, received_bytes: int) -> None:
        """Count a complete answer."""
        if due >= self.measured_from:
            self.latencies.append(now - due)
            self.statuses[status] += 1
            self.received_bytes += received_bytes

    def failed(self, failure: Failure, due: float, now: float) -> None:
        """Count a request that got no answer.

        One that timed out enters the latencies with the time it waited: left out, a hung server would look
        fast. The other kinds fail at once and would make it look faster than it is.
        """
        if due >= self.measured_from:
            self.failures[failure] += 1
            if failure == "timeout":
                self.latencies.append(now - due)

    def interrupted(self, due: float) -> None:
        """Count a request that waited or was under way when the run was interrupted."""
        if due >= self.measured_from:
            self.unfinished += 1
