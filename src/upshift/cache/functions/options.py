"""What `Cache.cached` is told of one function, checked where it is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from upshift.cache.durations import seconds_of
from upshift.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from upshift.cache.durations import Duration


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How the values of a function are kept.

    Attributes:
        tags: further names that values depend on, with `{parameter}` for arguments.
        seconds: how long a value is served at most; None for no limit.
        negative_seconds: how long None, and a kept exception, is; None where None is a value like others.
        kept_errors: exceptions that are answers, and kept.
        refresh_share: last share of a value's time in which it is loaded anew before it ends.
        stale_seconds: how old the last value may be that is served where a load fails; 0 for none.
        rewarmed: values that are loaded anew at once when a commit has ended them.
    """

    tags: tuple[str, ...]
    seconds: float | None
    negative_seconds: float | None
    kept_errors: tuple[type[Exception], ...]
    refresh_share: float
    stale_seconds: float
    rewarmed: int


def options_of(  # noqa: PLR0913 - those of `Cache.cached`
    *,
    ttl: Duration | None,
    tags: Iterable[str],
    ignore: Iterable[str],
    refresh_ahead: float,
    stale_on_error: Duration | None,
    negative_ttl: Duration | None,
    cache_errors: Iterable[type[Exception]],
    warm_after_invalidation: int,
) -> Options:
    """Return the options of a function.

    Raises:
        SettingsError: an option has a value that it cannot have, or does not go with another.
    """
    kept_errors = tuple(cache_errors)
    if not 0.0 <= refresh_ahead < 1.0:
        raise SettingsError(f"refresh_ahead is a share of ttl from 0 to 1, as 0.2: {refresh_ahead!r}")
    if refresh_ahead and ttl is None:
        raise SettingsError("refresh_ahead is a share of ttl: give one")
    if warm_after_invalidation < 0:
        raise SettingsError(f"warm_after_invalidation counts values: {warm_after_invalidation!r}")
    of_callers = [name for name in ignore if name not in {"self", "cls"}]
    if of_callers and (refresh_ahead or warm_after_invalidation):
        raise SettingsError(
            f"a load in the background cannot use {', '.join(of_callers)}, which its caller may have closed: "
            "have the function open its own, or leave refresh_ahead and warm_after_invalidation out"
        )
    if kept_errors and negative_ttl is None:
        raise SettingsError("cache_errors are kept for negative_ttl: give one")
    return Options(
        tags=tuple(tags),
        seconds=None if ttl is None else seconds_of(ttl),
        negative_seconds=None if negative_ttl is None else seconds_of(negative_ttl),
        kept_errors=kept_errors,
        refresh_share=refresh_ahead,
        stale_seconds=0.0 if stale_on_error is None else seconds_of(stale_on_error),
        rewarmed=warm_after_invalidation,
    )
