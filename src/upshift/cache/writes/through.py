"""Write-through: what a function has written is in the cache when it returns.

Why the written value itself is not kept
    Say that A writes a row and commits, and is held up before it settles. B, who waited for the row, writes
    it, commits and settles; then A does, and stamps the value it wrote. Nobody is about to write any more, so
    there are tokens, and nothing would ever end A's value: it is stale for good. No order of the operations
    of `upshift.cache.tokens` shows A that B was there, since what A's own COMMIT did to the tokens hides what
    B's did. What A has read before it wrote, such as the row's other columns, may be old as well.

    So the value is loaded anew when the writer has returned, as any load is: stamped before it is read, and
    kept if the stamp holds still. It costs a SELECT for each write, and it is right whoever races. What
    others commit meanwhile is in the value, or ends it.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from functools import wraps
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from upshift.cache.dependencies import written_here
from upshift.cache.functions import Call, arguments_of
from upshift.cache.functions.background import own_context
from upshift.cache.functions.refreshing import may_be_repeated
from upshift.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

logger = logging.getLogger("upshift.cache")

Writer = TypeVar("Writer", bound="Callable[..., Any]")

_Arguments = tuple[tuple[Any, ...], dict[str, Any]]


def written_through(
    writer: Writer, readers: Iterable[Callable[..., Any]], call: Callable[..., Any] | None
) -> Writer:
    """Return a function in whose place a writer is called, and which loads what it has written.

    Args:
        writer: the function, sync or async.
        readers: the cached functions whose values it changes.
        call: returns, from the writer's result and arguments, the arguments of the readers; None where these
            are the writer's of the same names.

    Raises:
        SettingsError: a reader is none, has parameters that the writer has not, or is awaited and the writer
            is not.
    """
    is_async = inspect.iscoroutinefunction(writer)
    through = _Through(writer, [_reader(each, writer, call, is_async=is_async) for each in readers], call)
    write: Any

    if is_async:

        @wraps(writer)
        async def write_async(*arguments: Any, **named: Any) -> Any:
            result = await writer(*arguments, **named)
            await through.load_async(result, arguments, named)
            return result

        write = write_async
    else:

        @wraps(writer)
        def write_sync(*arguments: Any, **named: Any) -> Any:
            result = writer(*arguments, **named)
            through.load(result, arguments, named)
            return result

        write = write_sync
    return write  # type: ignore[no-any-return] # it is called as the writer is


class _Reader(NamedTuple):
    """A cached function, and which of a writer's arguments are its own."""

    function: Callable[..., Any]
    is_async: bool
    names: tuple[str, ...]


class _Through:
    """Loads for the readers of one writer. The write is done: what fails then is logged once, and no more."""

    def __init__(
        self, writer: Callable[..., Any], readers: list[_Reader], call: Callable[..., Any] | None
    ) -> None:
        self._readers = readers
        self._call = call
        self._name = writer.__qualname__
        self._signature = inspect.signature(writer)
        self._has_told = False

    async def load_async(self, result: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        """Load the readers' values anew."""
        for reader in self._readers:
            try:
                given, by_name = self._arguments(reader, result, arguments, named)
                refresh, context = reader.function.refresh, own_context()  # type: ignore[attr-defined] # a cached function has it
                if reader.is_async:
                    await asyncio.create_task(refresh(*given, **by_name), context=context)
                else:
                    await asyncio.to_thread(context.run, refresh, *given, **by_name)
            except Exception as error:  # noqa: BLE001 - any of the application's
                self._tell(error)

    def load(self, result: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        """Load the readers' values anew."""
        for reader in self._readers:
            try:
                given, by_name = self._arguments(reader, result, arguments, named)
                own_context().run(reader.function.refresh, *given, **by_name)  # type: ignore[attr-defined] # likewise
            except Exception as error:  # noqa: BLE001 - any of the application's
                self._tell(error)

    def _arguments(
        self, reader: _Reader, result: Any, arguments: tuple[Any, ...], named: dict[str, Any]
    ) -> _Arguments:
        """Return the arguments with which a reader is to be called.

        Raises:
            SettingsError: nothing that is read now could be kept.
        """
        if written_here():
            raise SettingsError(f"{self._name} returned before it committed: have it commit what it writes")
        if self._call is not None:
            found = arguments_of(self._call(result, *arguments, **named))
        else:
            bound = self._signature.bind(*arguments, **named)
            bound.apply_defaults()
            found = (), {name: bound.arguments[name] for name in reader.names}
        # Its objects may be older than what has been committed, and a SELECT would leave them so.
        if not may_be_repeated(Call(("", ""), *found)):
            raise SettingsError(f"{self._name} hands its own session on: have the reader open one")
        return found

    def _tell(self, error: Exception) -> None:
        if not self._has_told:
            logger.warning("what %s wrote is loaded when it is asked for", self._name, exc_info=error)
        self._has_told = True


def _reader(
    function: Callable[..., Any],
    writer: Callable[..., Any],
    call: Callable[..., Any] | None,
    *,
    is_async: bool,
) -> _Reader:
    if not hasattr(function, "refresh"):
        raise SettingsError(f"{function!r} is no cached function: decorate it with `cached` before")
    reader = _Reader(function, inspect.iscoroutinefunction(function), ())
    if reader.is_async and not is_async:
        raise SettingsError(f"{writer.__qualname__} cannot await {function.__qualname__}: write it async")
    if call is not None:
        return reader
    given, names = inspect.signature(writer).parameters, []
    for name, parameter in inspect.signature(function).parameters.items():
        if name in given:
            names.append(name)
        elif parameter.default is parameter.empty:
            raise SettingsError(
                f"{writer.__qualname__} has no parameter {name!r}, which {function.__qualname__} needs: "
                "tell by call= what its arguments are"
            )
    return reader._replace(names=tuple(names))
