"""`Writes`: write-through and write-behind of one cache."""

from __future__ import annotations

from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from upshift.cache.durations import seconds_of
from upshift.cache.writes.behind import WriteBehind
from upshift.cache.writes.limits import CLOSE_SECONDS, Limits, checked_limits
from upshift.cache.writes.through import Writer, written_through
from upshift.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from upshift.cache.durations import Duration
    from upshift.cache.writes.counting import WriteStatistics


class Writes:
    """Writes by way of a cache: `cache.writes`.

    Args:
        renew: ends what depends on tags.
    """

    def __init__(self, renew: Callable[[Iterable[str]], None]) -> None:
        self._renew = renew
        self._behind: dict[str, WriteBehind] = {}

    def through(
        self, *readers: Callable[..., Any], call: Callable[..., Any] | None = None
    ) -> Callable[[Writer], Writer]:
        """Return a decorator for a function that writes: when it returns, the cache has what it wrote.

        The values are loaded anew by the readers, after the commit: see `upshift.cache.writes.through`. The
        function has to commit what it writes before it returns, and the readers to open their own session.
        Where such a load fails, the write stands, and the next call of the reader loads.

        Args:
            readers: the cached functions whose values it changes.
            call: returns, from the writer's result and arguments, those of a reader's call: one argument, a
                tuple, or a dictionary by name. Without it they are the arguments of the same names.

        Raises:
            SettingsError: when it decorates: a reader is no cached function, needs arguments that the writer
                does not have, or is awaited where the writer is not.

        Example:
            >>> from upshift.cache import Cache
            >>> cache, prices = Cache(), {7: 30}  # prices stands for a table
            >>> @cache.cached(tags=["price:{number}"])
            ... def price(number):
            ...     return prices[number]
            >>> @cache.writes.through(price)
            ... def set_price(number, amount):
            ...     prices[number] = amount
            ...     cache.invalidate(f"price:{number}")  # as a commit does of what was read from a table
            >>> set_price(7, 35)
            >>> price.get(7)
            35
        """

        def decorate(writer: Writer) -> Writer:
            return written_through(writer, readers, call)

        return decorate

    def behind(  # noqa: PLR0913 - each is about something else
        self,
        name: str,
        flush: Callable[[dict[Any, Any]], Any],
        *,
        folder: str | Path,
        load: Callable[[Any], Any] | None = None,
        value: object = None,
        delay: Duration = "100ms",
        timeout: Duration = "5s",
        max_entries: int = 100_000,
        max_bytes: int = 64 * 2**20,
        max_batch: int = 500,
        attempts: int = 5,
    ) -> WriteBehind:
        """Return what takes writes, and has them on the disk when it says so and in the database soon.

        Args:
            name: the name of its folder within `folder`; of two with one name in a cache, an error.
            flush: is called with the values by key, the last of each key, in the order in which they were
                put: in a thread, or awaited in the event loop that puts. It commits them, and sets values:
                it may be called again with what it has committed.
            folder: where the journals are, on a disk that stays. Processes that share it take over what
                others have left when they died.
            load: reads what does not wait, for `get`: such as a cached function.
            value: the annotation of its values, as in `cached` functions' returns; any builtins if None.
            delay: how long a write waits for others at most, so that there are fewer and larger batches.
            timeout: how long `put` takes at most, where it has to wait for room.
            max_entries: keys that wait to be flushed at most.
            max_bytes: bytes that they take at most, about.
            max_batch: writes that are flushed at once at most.
            attempts: how often a write that has failed alone fails again, others succeeding between, until
                it is given up.

        Raises:
            SettingsError: an option has a value that it cannot have, or the name is taken.

        Example:
            >>> from tempfile import TemporaryDirectory
            >>> from upshift.cache import Cache
            >>> table = {}
            >>> with TemporaryDirectory() as folder:
            ...     with Cache().writes.behind("stock", table.update, folder=folder, delay="1h") as stock:
            ...         for left in (3, 2, 1):
            ...             stock.put("hose", left)
            ...         print(stock.get("hose"), table)
            1 {}
            >>> table
            {'hose': 1}
        """
        if name in self._behind:
            raise SettingsError(f"there is a write-behind {name!r} in this cache already")
        limits = Limits(
            max_entries=max_entries,
            max_bytes=max_bytes,
            max_batch=max_batch,
            delay=seconds_of(delay),
            attempts=attempts,
        )
        made = self._behind[name] = WriteBehind(
            name,
            flush,
            Path(folder),
            checked_limits(limits),
            load=load,
            value=value,
            timeout=seconds_of(timeout),
            renew=self._renew,
        )
        return made

    @property
    def faults(self) -> int:
        """What failed beside flushes, such as files of journals that could not be removed."""
        return sum(each.faults for each in tuple(self._behind.values()))

    def statistics(self) -> dict[str, WriteStatistics]:
        """Return what each write-behind has counted until now, by name."""
        return {name: each.statistics() for name, each in tuple(self._behind.items())}

    def start(self) -> None:
        """Take over what was left when processes ended, and begin to flush. `Upshift` calls it at its start.

        Raises:
            SettingsError: a folder cannot be used.
        """
        for each in tuple(self._behind.values()):
            each.start()

    def close(self, timeout: float = CLOSE_SECONDS) -> int:
        """Take no writes any more, and flush what waits; return how many writes are left when the time is up.

        `Upshift` calls it at its end. What is left is in the journals, for the next process.

        Args:
            timeout: seconds.
        """
        ends = monotonic() + timeout
        return sum(each.close(max(ends - monotonic(), 0.0)) for each in tuple(self._behind.values()))
