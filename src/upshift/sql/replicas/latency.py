"""How costly it is to ask a server now, by what it took lately and by who is waiting for it.

Peak EWMA, from Twitter's Finagle: an average of latencies that forgets with time, jumps to a worse one at
once and comes down slowly, times the number of those that are being served. Of two servers drawn at random
the one that costs less is taken: with the best of all, every process would run after the same server, and on
one sample alone a server that was slow once would never be asked again.

Sources: `com.twitter.finagle.loadbalancer.PeakEwma`; M. Mitzenmacher, "The power of two choices in randomized
load balancing", IEEE TPDS 12 (2001).
"""

from __future__ import annotations

from math import exp

DECAY_SECONDS = 10.0
"""After so long without a new latency, an old one counts 1/e."""


class Latency:
    """The peak-sensitive average of one server's latencies.

    Args:
        seconds: what is assumed until the first one is told.
        now: a monotonic time, in seconds.

    Example:
        >>> latency = Latency(0.010, now=0.0)
        >>> latency.tell(0.100, now=1.0)
        >>> latency.seconds
        0.1
        >>> latency.tell(0.010, now=11.0)
        >>> round(latency.seconds, 3)
        0.043
    """

    __slots__ = ("_told", "seconds")

    def __init__(self, seconds: float, now: float) -> None:
        self.seconds = seconds
        self._told = now

    def tell(self, seconds: float, now: float) -> None:
        """Count one more latency."""
        if seconds > self.seconds:
            self.seconds = seconds
        else:
            weight = exp(-max(0.0, now - self._told) / DECAY_SECONDS)
            self.seconds = self.seconds * weight + seconds * (1.0 - weight)
        self._told = now
