"""How sure we may be that one variant is faster: a ratio, its interval and a verdict.

The samples come in blocks. A block holds one sample of the head and one or more of the base, taken
close together in an order drawn at random, so what drifts on the machine (its clock, its neighbours, the
database's caches) hits all samples of a block alike and favours none of them. Everything is computed on
logarithms of ratios within a block; nothing assumes that the noise is normal, or that it is the same in
two blocks.

**Estimate.** The median of the ratios head/base over all pairs within the blocks.

**Interval.** The hull of two, so that the wider one speaks at either end:

- the percentile *bootstrap* interval of that median, resampling whole blocks (Efron & Tibshirani,
  *An Introduction to the Bootstrap*, 1993, ch. 13). With few blocks it is too narrow, because a resampled
  median cannot leave the sample: of 95 % intervals over 4, 6, 8 and 20 simulated blocks 23, 14, 11 and 5 %
  missed the truth;
- the *exact* interval that inverts the randomisation test. If head and base were the same program (up to a
  factor), the random order makes every rank of the head among the r + 1 samples of its block equally
  likely. The number of ratios above the true one is then a sum of n independent uniform draws from
  {0, …, r}, whatever the noise, and counting off its tails gives two order statistics of the ratios. With
  r = 1 this is the sign test's interval for a median (Conover, *Practical Nonparametric Statistics*,
  1999, sec. 3.2); with r > 1 it is Fisher's randomisation argument with the blocked rank sum as statistic
  (van Elteren 1960; Lehmann, *Nonparametrics*, 1975, sec. 3.3).

Too few blocks have no exact interval at the confidence asked for; theirs is unbounded and so clears no
margin. At 95 % that is fewer than 6 blocks with one base sample each, fewer than 4 with two.

The exact interval holds for programs that are equally noisy. With the fewest possible blocks a head as fast
as its base but much noisier gets a verdict as often as by a sign test: 2^(1-n) instead of 2 * 3^-n. With more
blocks the bootstrap, which sees that noise, is the wider one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from upshift.errors import MissingExtraError

try:
    import numpy as np
except ImportError as error:  # pragma: no cover - the test environment has the extra
    raise MissingExtraError("upshift.prove", "load") from error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

DEFAULT_CONFIDENCE = 0.95
DEFAULT_MARGIN = 0.02
RESAMPLES = 2_000
"""Bootstrap resamples: 50 beyond either end of a 95 % interval, 10 beyond those of a 99 % one."""


class Verdict(StrEnum):
    """What a comparison says about the head."""

    FASTER = "faster"
    SLOWER = "slower"
    INCONCLUSIVE = "inconclusive"
    VOID = "void"
    """Withheld: the base differed from itself, so the machine was too noisy to ask."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """A quantity of the head as a multiple of the base's.

    Attributes:
        value: the median ratio; 0.8 is a fifth less than the base.
        low: lower end of the interval; 0.0 where there are too few blocks to bound it.
        high: upper end of the interval; infinite where there are too few blocks to bound it.
        confidence: the probability with which such intervals cover the true ratio, at least.
        blocks: how many blocks it rests on.
    """

    value: float
    low: float
    high: float
    confidence: float
    blocks: int

    @property
    def bounded(self) -> bool:
        """Whether there were enough blocks for an interval at this confidence."""
        return math.isfinite(self.high)

    def to_dict(self) -> dict[str, float | int | None]:
        """The ratio for JSON, which knows no infinity: the ends of an unbounded interval are None."""
        return {
            "value": self.value,
            "low": self.low if self.bounded else None,
            "high": self.high if self.bounded else None,
            "confidence": self.confidence,
            "blocks": self.blocks,
        }


def blocked_ratio(
    base: Sequence[Sequence[float]],
    head: Sequence[float],
    *,
    confidence: float = DEFAULT_CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Ratio:
    """Estimate head/base from samples taken in blocks.

    Args:
        base: for each block the base's samples, equally many in every block, positive.
        head: for each block the head's one sample, positive.
        confidence: the interval's confidence, between 0 and 1.
        resamples: bootstrap resamples.
        seed: of the bootstrap; equal samples and seeds give equal results.

    Raises:
        ValueError: there is no block, the blocks are of different sizes, or a sample is not positive.

    Example:
        >>> ratio = blocked_ratio([[10, 11], [12, 10], [11, 11], [10, 12]], [5.0, 5.5, 5.2, 5.4])
        >>> f"{ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]"
        '0.47 [0.45, 0.55]'
    """
    differences = _log_ratios(base, head)
    blocks, replicates = differences.shape
    pooled = np.sort(differences, axis=None)
    value = float(np.median(pooled))
    trimmed = _trimmed(blocks, replicates, (1 - confidence) / 2)
    if trimmed is None:
        return Ratio(math.exp(value), 0.0, math.inf, confidence, blocks)
    low, high = _bootstrap_interval(differences, confidence, resamples, seed)
    return Ratio(
        value=math.exp(value),
        low=math.exp(min(low, float(pooled[trimmed]))),
        high=math.exp(max(high, float(pooled[-1 - trimmed]))),
        confidence=confidence,
        blocks=blocks,
    )


def judge(ratio: Ratio, *, margin: float = DEFAULT_MARGIN, more_is_better: bool = False) -> Verdict:
    """Turn a ratio into a verdict: faster or slower only if the whole interval clears the margin.

    Args:
        ratio: head over base.
        margin: the smallest difference worth a verdict, as a share; 0.02 asks the interval to lie above
            1.02 or below 1 / 1.02, so that swapping base and head swaps the verdicts.
        more_is_better: True for a throughput, False for a cost or a duration.

    Example:
        >>> judge(Ratio(0.8, 0.7, 0.9, confidence=0.95, blocks=20))
        <Verdict.FASTER: 'faster'>
        >>> judge(Ratio(0.8, 0.7, 0.99, confidence=0.95, blocks=20))
        <Verdict.INCONCLUSIVE: 'inconclusive'>
    """
    if ratio.low > 1 + margin:
        return Verdict.FASTER if more_is_better else Verdict.SLOWER
    if ratio.high < 1 / (1 + margin):
        return Verdict.SLOWER if more_is_better else Verdict.FASTER
    return Verdict.INCONCLUSIVE


def blocks_needed(replicates: int, confidence: float = DEFAULT_CONFIDENCE) -> int:
    """The fewest blocks that can bound an interval, with so many base samples in each.

    Example:
        >>> blocks_needed(1), blocks_needed(2)
        (6, 4)
    """
    # All n heads on one side of all base samples: probability (r + 1)^-n at either end.
    return math.ceil(math.log((1 - confidence) / 2) / -math.log(replicates + 1))


def _log_ratios(base: Sequence[Sequence[float]], head: Sequence[float]) -> NDArray[np.float64]:
    """log(head / base) as blocks x replicates."""
    if not head or len(base) != len(head):
        raise ValueError(f"a ratio needs blocks of both: {len(base)} of base, {len(head)} of head")
    if len({len(block) for block in base}) != 1 or not base[0]:
        raise ValueError("every block needs the same number of base samples, at least one")
    below = np.asarray(base, dtype=np.float64)
    above = np.asarray(head, dtype=np.float64)[:, np.newaxis]
    if not all(np.isfinite(part).all() and (part > 0).all() for part in (below, above)):
        raise ValueError("a ratio needs samples that are positive and finite")
    logs: NDArray[np.float64] = np.log(above) - np.log(below)
    return logs


def _trimmed(blocks: int, replicates: int, tail: float) -> int | None:
    """How many ratios the exact interval leaves out at either end; None where even 0 leaves out too few."""
    counts = np.ones(1)
    for _ in range(blocks):
        counts = np.convolve(counts, np.full(replicates + 1, 1 / (replicates + 1)))
    inside = np.flatnonzero(np.cumsum(counts) <= tail)
    return int(inside[-1]) if inside.size else None


def _bootstrap_interval(
    differences: NDArray[np.float64], confidence: float, resamples: int, seed: int
) -> tuple[float, float]:
    """The percentile interval of the median over resampled blocks."""
    blocks = len(differences)
    drawn = np.random.default_rng(seed).integers(blocks, size=(resamples, blocks))
    medians = np.median(differences[drawn].reshape(resamples, -1), axis=1)
    tail = (1 - confidence) / 2
    low, high = np.quantile(medians, [tail, 1 - tail])
    return float(low), float(high)
