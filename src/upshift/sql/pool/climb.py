r"""The control law of a pool's size: which limit to try next, and which to stay with.

**What is optimised.** The *residence* R of a checkout: the seconds from asking for a connection to giving it
back, waiting included. By Little's law it is the mean number of checkouts that wait or are in use, divided by
how many end in a second; both are counted, none has to be timed. With a fixed crowd of tasks the least
residence is the greatest throughput; with a given rate of arrivals, which no size can raise, it is the
shortest time at the database. One measure serves both, and means the same to the user.

**The law.** R falls with the limit L while connections are what is missing, and rises again when processors,
locks and caches are what they compete for. How much, in both coordinates' logarithms, is the elasticity
e(L) = -d ln R / d ln L: it is 1 where twice the connections do twice the work, 0 at the best size, negative
above. The climb steers to the L with e(L) = `TARGET`, a little above 0: the knee, where doubling the pool
would gain some two per cent. Such curves are flat at their top; the target takes the small end of it, which
leaves the server's connections to others. As e decreases in L, what is lost to the best size is at most the
integral of the target from here to there, and less as e goes on falling.

**Noise.** A trial runs two limits in turns (low, high, high, low, …), so that whatever changes more slowly
than a turn is the same for both, and compares them pair by pair. It ends when the mean of the pairs'
elasticities is `CONFIDENCE` standard errors away from the target. Two or three pairs that agree by chance
prove nothing, so their variance is taken together with that of earlier trials, as `PRIOR` further pairs; the
first pair of a hopeless size decides, and a noisy host is given longer. A trial that has not ended after
`MAX_PAIRS` takes the likelier side, or says that both are as good where its mean is within `TARGET` of the
target: then the size is left alone. Where two pairs in a row have left the level of those before by `SHIFT`,
it is another server or another load, and the trial begins anew.

**Why it does not oscillate.** Every decision moves L towards the one zero of e(L) - `TARGET` (e decreases, so
there is one). The step is a ratio. It grows while decisions agree, until two differ: then the zero lies
between what has been tried, and from there on each that differs from the one before makes it its square root,
and none makes it grow. So the steps around the zero are a convergent sequence. When they have shrunk to one
connection, or below `FINEST`, the climb rests. It tries again after `REST`, and each time that leads to about
the same size the rest is doubled, up to `LONGEST_REST`; at once, and with wide steps, when the residence has
left that of the settled state by `SHIFT` twice in a row, also where traffic paused in between.

**No decision without evidence.** A turn with fewer than `FEWEST` checkouts is none. Where the limit is not
reached, the size is only ever lowered, and only where fewer at a time were *better*, not as good.

The clock is the caller's and monotonic; nothing here waits, connects or counts. Compare: gradient and Vegas
limits (Netflix concurrency-limits), FlexyPool's metrics-driven sizing, HikariCP's "About Pool Sizing", and
Kiefer and Wolfowitz (1952), *Stochastic estimation of the maximum of a regression function*.
"""

from __future__ import annotations

import math
import statistics
from typing import Literal, NamedTuple

TARGET = 0.03
CONFIDENCE = 2.0
PRIOR = 3
MAX_PAIRS = 12
FEWEST = 12
NOISE, LEAST_NOISE = 0.2, 0.03
"""Standard deviation of the logarithm of two residences' ratio: what is assumed at first, and at least."""

NARROW, WIDE, WIDEST, FINEST = 1.5, 2.25, 6.0, 1.3
"""Ratios of the two limits: after a rest that led to nothing new, at first, at most, for the last step."""

REST, LONGEST_REST = 5.0, 60.0
SHIFT = 0.4
SHIFTS = 2
REFERENCE = 3
"""Pairs of a trial, or turns at rest without one before, whose residence later ones are compared with."""

Verdict = Literal["low", "high", "alike", "changed"]


class Turn(NamedTuple):
    """What was counted while one limit was in force.

    Attributes:
        limit: that limit.
        seconds: for how long.
        checkouts: how many ended.
        population: the mean number that waited or were in use.
        peak: the most.
    """

    limit: int
    seconds: float
    checkouts: int
    population: float
    peak: int

    @property
    def residence(self) -> float:
        """Seconds from asking for a connection to giving it back, on average, by Little's law."""
        return self.population * self.seconds / self.checkouts


class Trial:
    """Two limits that take turns until one is seen to be better.

    Args:
        low, high: the limits.
        threshold: the elasticity above which the higher one is better.
        noise: the standard deviation to expect of the logarithm of two residences' ratio.

    Example:
        >>> trial = Trial(4, 8, threshold=TARGET, noise=NOISE)
        >>> for limit in trial.order():
        ...     trial.add(Turn(limit, 1.0, 100 * limit, 50, 50))
        >>> round(trial.elasticity, 2), trial.verdict
        (1.0, 'high')
    """

    def __init__(self, low: int, high: int, threshold: float, noise: float) -> None:
        self.low, self.high, self.threshold = low, high, threshold
        self._width = math.log(high / low)
        self._noise = noise
        self._turns: list[Turn] = []
        self._elasticities: list[float] = []
        self._residences: list[tuple[float, float]] = []

    def order(self) -> tuple[int, int]:
        """The limits of the next two turns; their order alternates, so that a trend favours neither."""
        return (self.high, self.low) if len(self._elasticities) % 2 else (self.low, self.high)

    @property
    def next_limit(self) -> int:
        """The limit of the next turn."""
        return self.order()[len(self._turns)]

    def add(self, turn: Turn) -> None:
        """Take what a turn came to."""
        self._turns.append(turn)
        if len(self._turns) == 2:  # noqa: PLR2004 - a pair
            low, high = (math.log(each.residence) for each in sorted(self._turns))
            self._elasticities.append((low - high) / self._width)
            self._residences.append((low, high))
            self._turns.clear()

    def level(self, limit: int) -> float:
        """The logarithm of the residence at a limit: one of the two, or between them."""
        low = statistics.median(low for low, _ in self._residences)
        high = statistics.median(high for _, high in self._residences)
        return {self.low: low, self.high: high}.get(limit, (low + high) / 2)

    @property
    def elasticity(self) -> float:
        """The mean of the pairs."""
        return statistics.fmean(self._elasticities)

    @property
    def noise(self) -> float:
        """The standard deviation seen, and expected, of the logarithm of two residences' ratio."""
        mean = self.elasticity
        squares = sum((each - mean) ** 2 for each in self._elasticities) * self._width**2
        variance = (squares + PRIOR * self._noise**2) / (len(self._elasticities) - 1 + PRIOR)
        return max(LEAST_NOISE, math.sqrt(variance))

    @property
    def verdict(self) -> Verdict | None:
        """Which limit is better; None while it cannot be told."""
        pairs = len(self._elasticities)
        if not pairs:
            return None
        if has_shifted([statistics.fmean(pair) for pair in self._residences]):
            return "changed"
        error = self.noise / self._width / math.sqrt(pairs)
        distance = self.elasticity - self.threshold
        if pairs < MAX_PAIRS and abs(distance) <= CONFIDENCE * error:
            return None
        if pairs >= MAX_PAIRS and abs(distance) <= TARGET:
            return "alike"
        return "high" if distance > 0 else "low"


def has_shifted(levels: list[float]) -> bool:
    """Whether the last few logarithms of residences have left the level of the first few.

    Example:
        >>> has_shifted([0.0, 0.1, 0.0, 0.1, 0.9]), has_shifted([0.0, 0.1, 0.0, 0.9, 0.9])
        (False, True)
    """
    if len(levels) < REFERENCE + SHIFTS:
        return False
    level = statistics.median(levels[:REFERENCE])
    return all(abs(each - level) > SHIFT for each in levels[-SHIFTS:])


class Climb:
    """Tells the limit to be in force, turn by turn.

    Args:
        limit: where to start.
        least, most: the bounds; `most` may be changed at any time.

    Attributes:
        limit: the limit that is thought best.
        decisions: times when it was changed.
        is_settled: whether nothing is being tried.

    Example:
        >>> climb = Climb(2, least=1, most=50)
        >>> def turn(limit):  # a server with eight processors, and fifty tasks that wait for it
        ...     return Turn(limit, 1.0, 1000 * min(limit, 8), 50.0, 50)
        >>> for second in range(100):
        ...     climb.observe(turn(climb.next_limit(second)), second)
        >>> climb.limit >= 8
        True
    """

    def __init__(self, limit: int, *, least: int, most: int) -> None:
        self.limit = limit
        self.least, self.most = least, most
        self.decisions = 0
        self._ratio = WIDE
        self._direction = 0
        self._is_between = False
        self._trial: Trial | None = None
        self._noise = NOISE
        self._peak = 0
        self._rest = REST / 2
        self._settled = limit
        self._wake_at = -math.inf
        self._levels: list[float] = []

    @property
    def is_settled(self) -> bool:
        """Whether nothing is being tried."""
        return self._trial is None

    def next_limit(self, now: float) -> int:
        """The limit of the next turn; `now` is in seconds of a monotonic clock."""
        self.limit = min(max(self.limit, self.least), max(self.most, self.least))
        if self._trial is not None and self._trial.high > self.most:
            self._trial = None
        if self._trial is None and now >= self._wake_at:
            self._begin(now)
        return self.limit if self._trial is None else self._trial.next_limit

    def observe(self, turn: Turn, now: float) -> None:
        """Take what was counted in the turn that `next_limit` has asked for."""
        if turn.checkouts < FEWEST:
            self.idle()
            return
        self._peak = turn.peak
        if self._trial is None:
            first, last = self._levels[:REFERENCE], self._levels[REFERENCE:][1 - SHIFTS :]
            self._levels = [*first, *last, math.log(turn.residence)]
            if has_shifted(self._levels):
                self._start_over()
            return
        if turn.limit == self._trial.next_limit:  # a bound may have moved meanwhile
            self._trial.add(turn)
            self._decide(self._trial, now)

    def idle(self) -> None:
        """There was no traffic to learn from: what is being tried is given up, and nothing concluded."""
        self._trial = None
        del self._levels[REFERENCE:]  # the level before a pause is what the one after it is compared with
        self._peak = 0

    def _begin(self, now: float) -> None:
        """Try two limits around the present one, or around what is in use of it."""
        centre = min(self.limit, self._peak)
        if centre < self.least or not self._peak:
            return
        is_reached = self._peak >= self.limit
        root = math.sqrt(self._ratio)
        low = max(self.least, min(centre - 1, round(centre / root)))
        high = min(self.most, max(low + 1, round(centre * root))) if is_reached else centre
        if high == self.most:  # at a bound the step goes the other way, as wide
            low = max(self.least, min(low, round(high / self._ratio)))
        elif low == self.least:
            high = min(self.most, max(high, round(low * self._ratio))) if is_reached else centre
        if low >= high:
            self._settle(now)
            return
        self._trial = Trial(low, high, TARGET if is_reached else -TARGET, self._noise)

    def _decide(self, trial: Trial, now: float) -> None:
        verdict = trial.verdict
        if verdict is None:
            return
        self._trial = None
        self._noise = trial.noise
        if verdict == "changed":
            self._start_over()
            return
        if verdict == "low":
            self._move(trial.low, -1, now)
        elif verdict == "high" and trial.threshold > 0:
            self._move(trial.high, 1, now)
        else:
            self._settle(now)
        self._levels = [trial.level(self.limit)] * REFERENCE

    def _move(self, limit: int, direction: int, now: float) -> None:
        """Take a step, and choose how long the next one may be."""
        is_reversal = direction == -self._direction
        is_smallest = abs(limit - self.limit) <= 1 or self._ratio <= FINEST
        if limit != self.limit:
            self.decisions += 1
        if is_reversal:
            self._ratio, self._is_between = math.sqrt(self._ratio), True
        elif self._direction and not self._is_between:
            self._ratio = min(WIDEST, self._ratio * 1.6)
        is_stuck = limit == self.limit
        self.limit, self._direction = limit, direction
        if is_stuck or (is_reversal and is_smallest):
            self._settle(now)

    def _settle(self, now: float) -> None:
        """Rest, longer than the last time where that led to nothing new."""
        is_news = abs(math.log(self.limit / self._settled)) > math.log(WIDE)
        self._rest = REST if is_news else min(LONGEST_REST, self._rest * 2)
        self._wake_at = now + self._rest
        self._settled = self.limit
        self._ratio = WIDE if is_news else NARROW
        self._direction, self._is_between = 0, False
        self._levels.clear()

    def _start_over(self) -> None:
        """It is another server, or another load: look far, and at once."""
        self._wake_at, self._rest, self._ratio = -math.inf, REST / 2, WIDE
        self._direction, self._is_between = 0, False
        self._levels.clear()
