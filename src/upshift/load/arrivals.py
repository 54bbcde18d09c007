"""When requests are due in the open model, as offsets from the start in seconds."""

from __future__ import annotations

import random
from itertools import count, takewhile
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

Arrivals = Literal["uniform", "poisson"]
"""How due times are spread: evenly, or as independent users come (exponential gaps)."""


def uniform(rate: float, seconds: float) -> Iterator[float]:
    """`rate` arrivals a second, evenly spaced. Each is computed from the start, so no error adds up.

    Example:
        >>> list(uniform(rate=4, seconds=1))
        [0.0, 0.25, 0.5, 0.75]
    """
    return takewhile(lambda offset: offset < seconds, (number / rate for number in count()))


def poisson(rate: float, seconds: float, seed: int) -> Iterator[float]:
    """A Poisson process of `rate` arrivals a second; equal seeds give equal arrivals.

    Example:
        >>> arrivals = list(poisson(rate=100, seconds=10, seed=1))
        >>> 900 < len(arrivals) < 1100, arrivals == list(poisson(rate=100, seconds=10, seed=1))
        (True, True)
    """
    gap = random.Random(seed).expovariate  # noqa: S311 - a schedule, not a secret
    offset = gap(rate)
    while offset < seconds:
        yield offset
        offset += gap(rate)
