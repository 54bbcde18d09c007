"""What a cached function can do beside being called: look, keep, drop and refresh the value of a call.

A function that is awaited has these to be awaited as well: where its values live may be another machine.
"""

from __future__ import annotations

import asyncio
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    ParamSpec,
    Protocol,
    Self,
    TypeVar,
    cast,
    overload,
)

from upshift.cache.functions.calls import arguments_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from upshift.cache.functions.cached import Cached
    from upshift.cache.functions.missing import Missing

_Parameters = ParamSpec("_Parameters")
_Others = ParamSpec("_Others")
_Value = TypeVar("_Value")


class CachedFunction(Protocol[_Parameters, _Value]):
    """A function whose values are kept.

    Example:
        >>> from upshift.cache import Cache
        >>> @Cache().cached()
        ... def double(number):
        ...     return 2 * number
        >>> double.get(7), double(7), double.get(7)
        (MISSING, 14, 14)
        >>> double.get_many([7, 8])
        [14, MISSING]
        >>> double.set(16, 8), double.get(8), double.delete(8), double.get(8)
        (True, 16, True, MISSING)
    """

    __name__: str
    __qualname__: str
    __wrapped__: Callable[..., Any]

    def __call__(self, *arguments: _Parameters.args, **named: _Parameters.kwargs) -> _Value:
        """Return the value of a call, kept or loaded."""

    @overload
    def __get__(self, instance: None, owner: type, /) -> Self: ...

    @overload
    def __get__(
        self: CachedFunction[Concatenate[Any, _Others], _Value], instance: object, owner: type, /
    ) -> Callable[_Others, _Value]: ...

    def get(self, *arguments: _Parameters.args, **named: _Parameters.kwargs) -> _Value | Missing:
        """Return the value that is kept for a call; `MISSING` where none is that holds. Nothing is loaded."""

    def get_many(self, calls: Iterable[Any]) -> list[_Value | Missing]:
        """Return what is kept for each of some calls, as `get` does.

        Args:
            calls: the arguments of each: one argument, a tuple of several, or a dictionary by name.
        """

    def set(self, value: _Value, /, *arguments: _Parameters.args, **named: _Parameters.kwargs) -> bool:
        """Keep a value for a call that was read elsewhere.

        Read it within `Cache.loading`, so that it is known what it depends on and since when. Outside of
        that it is taken to be right as of now, and to depend on what the function's values have depended on
        so far.

        Returns:
            Whether it is kept: not where what it depends on is being written, or has been since.
        """

    def delete(self, *arguments: _Parameters.args, **named: _Parameters.kwargs) -> bool:
        """Drop the value of a call, and what is being loaded for it; return whether there was one.

        In this process only: what every process must see is told by `Cache.invalidate` or `invalidate`.
        """

    def refresh(self, *arguments: _Parameters.args, **named: _Parameters.kwargs) -> _Value:
        """Load the value of a call now, whatever is kept, and keep it."""

    def invalidate(self) -> None:
        """Serve nothing any more of what has been kept for any call."""


class CachedAsyncFunction(Protocol[_Parameters, _Value]):
    """A function that is awaited, and whose values are kept: all of `CachedFunction`, awaited."""

    __name__: str
    __qualname__: str
    __wrapped__: Callable[..., Any]

    def __call__(
        self, *arguments: _Parameters.args, **named: _Parameters.kwargs
    ) -> Coroutine[Any, Any, _Value]:
        """Return the value of a call, kept or loaded."""

    @overload
    def __get__(self, instance: None, owner: type, /) -> Self: ...

    @overload
    def __get__(
        self: CachedAsyncFunction[Concatenate[Any, _Others], _Value], instance: object, owner: type, /
    ) -> Callable[_Others, Coroutine[Any, Any, _Value]]: ...

    async def get(self, *arguments: _Parameters.args, **named: _Parameters.kwargs) -> _Value | Missing:
        """Return the value that is kept for a call."""

    async def get_many(self, calls: Iterable[Any]) -> list[_Value | Missing]:
        """Return what is kept for each of some calls."""

    async def set(self, value: _Value, /, *arguments: _Parameters.args, **named: _Parameters.kwargs) -> bool:
        """Keep a value for a call that was read elsewhere."""

    async def delete(self, *arguments: _Parameters.args, **named: _Parameters.kwargs) -> bool:
        """Drop the value of a call."""

    async def refresh(self, *arguments: _Parameters.args, **named: _Parameters.kwargs) -> _Value:
        """Load the value of a call now, whatever is kept, and keep it."""

    async def invalidate(self) -> None:
        """Serve nothing any more of what has been kept for any call."""


class Decorator(Protocol):
    """Makes cached functions."""

    @overload
    def __call__(  # type: ignore[overload-overlap] # what an awaited function returns is a value as well
        self, function: Callable[_Parameters, Coroutine[Any, Any, _Value]], /
    ) -> CachedAsyncFunction[_Parameters, _Value]: ...

    @overload
    def __call__(self, function: Callable[_Parameters, _Value], /) -> CachedFunction[_Parameters, _Value]: ...


class _Handle:
    """The forms of a function that is not awaited."""

    def __init__(self, cached: Cached) -> None:
        self._cached = cached

    def get(self, *arguments: Any, **named: Any) -> Any:
        return self._cached.peek(self._cached.call(arguments, named))

    def get_many(self, calls: Iterable[Any]) -> list[Any]:
        return [self._cached.peek(self._cached.call(*arguments_of(each))) for each in calls]

    def set(self, value: Any, /, *arguments: Any, **named: Any) -> bool:
        return self._cached.loader.put(self._cached.call(arguments, named), value)

    def delete(self, *arguments: Any, **named: Any) -> bool:
        return self._cached.delete(self._cached.call(arguments, named))

    def refresh(self, *arguments: Any, **named: Any) -> Any:
        return self._cached.loader.run_sync(self._cached.call(arguments, named))

    def invalidate(self) -> None:
        self._cached.invalidate()


class _AsyncHandle:
    """The forms of a function that is awaited."""

    def __init__(self, cached: Cached) -> None:
        self._cached = cached

    async def get(self, *arguments: Any, **named: Any) -> Any:
        return await self._cached.run(self._cached.peek, self._cached.call(arguments, named))

    async def get_many(self, calls: Iterable[Any]) -> list[Any]:
        asked = [self._cached.call(*arguments_of(each)) for each in calls]
        return await asyncio.gather(*[self._cached.run(self._cached.peek, each) for each in asked])

    async def set(self, value: Any, /, *arguments: Any, **named: Any) -> bool:
        put = self._cached.loader.put
        return await self._cached.run(put, self._cached.call(arguments, named), value)

    async def delete(self, *arguments: Any, **named: Any) -> bool:
        return await self._cached.run(self._cached.delete, self._cached.call(arguments, named))

    async def refresh(self, *arguments: Any, **named: Any) -> Any:
        return await self._cached.loader.run_async(self._cached.call(arguments, named))

    async def invalidate(self) -> None:
        await self._cached.run(self._cached.invalidate)


_NAMES = ("get", "get_many", "set", "delete", "refresh", "invalidate")


def handle(
    cached: Cached, around: Callable[[Callable[..., Any]], Callable[..., Any]] | None = None
) -> CachedFunction[..., Any]:
    """Return the function in whose place a function is called, with its forms as attributes.

    Args:
        cached: the function with its cache.
        around: returns what is called in the place of that, if anything is.
    """
    # A function, not an object that can be called: frameworks ask whether it is a coroutine function, and
    # classes bind it as a method.
    wrapped = cached.wrapped() if around is None else around(cached.wrapped())
    forms = _AsyncHandle(cached) if cached.is_async else _Handle(cached)
    wrapped.__dict__.update({name: getattr(forms, name) for name in _NAMES})
    return cast("CachedFunction[..., Any]", wrapped)
