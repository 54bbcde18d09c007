"""`Entities`: objects of one mapped class from the cache, by key and by statement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session
from sqlalchemy.orm import scoped_session

from upshift.cache.codec.shape import name_of
from upshift.cache.entities.kept import KeptObjects
from upshift.cache.entities.statements import refuse_other
from upshift.cache.functions import MISSING
from upshift.sql import get_many

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence

    from sqlalchemy import Select
    from sqlalchemy.orm import Session
    from sqlalchemy.orm.interfaces import ORMOption

    from upshift.cache.cache import Cache
    from upshift.cache.durations import Duration

    _Sync = Session | scoped_session[Session]
    _Async = AsyncSession | async_scoped_session[AsyncSession]

_Model = TypeVar("_Model")


class Entities(Generic[_Model]):
    """Objects of one mapped class, from the cache where that may answer, and from the database otherwise.

    Each session gets objects of its own, as a query would have loaded them. One that the session has already
    stays as it is. What is kept ends when what it was loaded from is written, as everything in the cache.

    A session that has changes or has written is not answered from the cache, nor is one that has read
    already in a transaction that sees one snapshot throughout. What is kept is loaded by a session apart, on
    the connection of the one that asks and with the listeners of its class or sessionmaker; what they make
    depend on the session has to be told by `vary`.

    Args:
        cache: the cache; it must watch the engines of the sessions, or nothing is kept.
        model: the mapped class.
        ttl: how long an object is served at most, as in `Cache.cached`.
        options: loader options that objects are loaded with, such as `selectinload(Product.reviews)`.
        vary: returns what else of a session decides what it may see, such as its tenant.
        namespace: the name under which they are kept and counted; the class's where none is given.

    Attributes:
        model: the mapped class.
        namespace: the name under which they are counted.
    """

    def __init__(  # noqa: PLR0913 - each is about something else
        self,
        cache: Cache,
        model: type[_Model],
        *,
        ttl: Duration | None = None,
        options: Sequence[ORMOption] = (),
        vary: Callable[[Session], Hashable] | None = None,
        namespace: str | None = None,
    ) -> None:
        self.model = model
        self.namespace = namespace or f"entities:{name_of(model)}"
        self._options = tuple(options)
        self._kept = KeptObjects(
            cache, model, ttl=ttl, options=self._options, vary=vary, namespace=self.namespace
        )

    @overload
    def get(self, session: _Sync, key: Any) -> _Model | None: ...

    @overload
    def get(self, session: _Async, key: Any) -> Awaitable[_Model | None]: ...

    def get(self, session: _Sync | _Async, key: Any) -> _Model | Awaitable[_Model | None] | None:
        """Return the object with a primary key, as `session.get` does; None where there is none.

        Args:
            session: a session or a registry of them; with an asynchronous one the answer has to be awaited.
            key: the primary key, as `session.get` takes it.
        """
        inner = _session_of(session)
        if isinstance(inner, AsyncSession):
            return self._get_async(inner, key)
        found = self.find(inner, key)
        return inner.get(self.model, key, options=self._options) if found is MISSING else found

    @overload
    def get_many(self, session: _Sync, keys: Iterable[Any]) -> list[_Model | None]: ...

    @overload
    def get_many(self, session: _Async, keys: Iterable[Any]) -> Awaitable[list[_Model | None]]: ...

    def get_many(
        self, session: _Sync | _Async, keys: Iterable[Any]
    ) -> list[_Model | None] | Awaitable[list[_Model | None]]:
        """Return the object of each key in the order of the keys, with None where there is none.

        What is not kept is loaded by one statement for each 500 keys, and then kept key by key.

        Args:
            session: as for `get`.
            keys: primary keys, as `session.get` takes them.
        """
        inner, wanted = _session_of(session), list(keys)
        if isinstance(inner, AsyncSession):
            return self._get_many_async(inner, wanted)
        asked = self._kept.ask_many(inner, wanted)
        found = self._kept.answer_many(inner, asked)
        rest = get_many(inner, self.model, _missing(wanted, found), options=self._options)
        return _filled(found, rest)

    @overload
    def select(self, session: _Sync, statement: Select[Any]) -> Sequence[_Model]: ...

    @overload
    def select(self, session: _Async, statement: Select[Any]) -> Awaitable[Sequence[_Model]]: ...

    def select(
        self, session: _Sync | _Async, statement: Select[Any]
    ) -> Sequence[_Model] | Awaitable[Sequence[_Model]]:
        """Return the objects that a statement selects, each once.

        Args:
            session: as for `get`.
            statement: selects objects of the class. What is selected by equal ones with equal parameters is
                kept together. One that locks rows, or has execution options, is sent as it is.

        Raises:
            CacheKeyError: the statement selects something else.
        """
        refuse_other(statement, self.model)
        inner, complete = _session_of(session), statement.options(*self._options)
        if isinstance(inner, AsyncSession):
            return self._select_async(inner, complete)
        asked = self._kept.ask_list(inner, complete)
        found: Any = MISSING if asked is None else self._kept.answer(inner, asked)
        return inner.scalars(complete).unique().all() if found is MISSING else found

    def find(self, session: Session, key: Any) -> Any:
        """Return the object with a primary key, or None; `MISSING` where the session has to be asked."""
        asked = self._kept.ask_one(session, key)
        return MISSING if asked is None else self._kept.answer(session, asked)

    async def _get_async(self, session: AsyncSession, key: Any) -> _Model | None:
        asked = self._kept.ask_one(session.sync_session, key)
        found: Any = MISSING if asked is None else await self._kept.answer_async(session, asked)
        return await session.get(self.model, key, options=self._options) if found is MISSING else found

    async def _get_many_async(self, session: AsyncSession, wanted: list[Any]) -> list[_Model | None]:
        asked = self._kept.ask_many(session.sync_session, wanted)
        found = await self._kept.answer_many_async(session, asked)
        rest = await get_many(session, self.model, _missing(wanted, found), options=self._options)
        return _filled(found, rest)

    async def _select_async(self, session: AsyncSession, statement: Select[Any]) -> Sequence[_Model]:
        asked = self._kept.ask_list(session.sync_session, statement)
        found: Any = MISSING if asked is None else await self._kept.answer_async(session, asked)
        return (await session.scalars(statement)).unique().all() if found is MISSING else found


def _session_of(session: _Sync | _Async) -> Session | AsyncSession:
    return session() if isinstance(session, scoped_session | async_scoped_session) else session


def _missing(keys: list[Any], found: list[Any]) -> list[Any]:
    return [key for key, one in zip(keys, found, strict=True) if one is MISSING]


def _filled(found: list[Any], rest: Iterable[Any]) -> list[Any]:
    others = iter(rest)
    return [next(others) if one is MISSING else one for one in found]
