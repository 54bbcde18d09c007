"""What is kept of objects, and how a session is answered from it.

Kept are bytes, by the functions that `Cache.cached` makes: one that is called and one that is awaited, of
one namespace. Everything that a cached value has they have too, tokens, single flight and tiers.
"""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from sqlalchemy import Row, inspect
from sqlalchemy.util.concurrency import in_greenlet

from upshift.cache.codec import Codec
from upshift.cache.dependencies import CURRENT, EVERYTHING
from upshift.cache.entities.sessions import Places, apart
from upshift.cache.entities.statements import StatementNames
from upshift.cache.functions import MISSING
from upshift.cache.keys import CallKeys
from upshift.errors import CacheKeyError, CodecError
from upshift.sql import get_many

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable

    from sqlalchemy import Select
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Mapper, Session
    from sqlalchemy.orm.interfaces import ORMOption

    from upshift.cache.cache import Cache
    from upshift.cache.durations import Duration

_NOT_KEPT = b""
"""Stands for what cannot be kept as bytes, so that whoever waited for it asks the database."""


class Asked(NamedTuple):
    """What a session asks for.

    Attributes:
        key: what it is kept under.
        wanted: a primary key, or a statement.
    """

    key: Hashable
    wanted: tuple[Any, ...] | Select[Any]


class KeptObjects:
    """Objects of one class as they are kept.

    Args:
        cache: the cache.
        model: the mapped class.
        ttl: how long they are served at most.
        options: loader options that they are loaded with.
        vary: returns what else of a session decides what it may see.
        namespace: the name under which they are kept and counted.
    """

    def __init__(  # noqa: PLR0913 - one call site
        self,
        cache: Cache,
        model: type[Any],
        *,
        ttl: Duration | None,
        options: tuple[ORMOption, ...],
        vary: Callable[[Session], Hashable] | None,
        namespace: str,
    ) -> None:
        self._cache = cache
        self._model = model
        self._mapper: Mapper[Any] = inspect(model)
        self._options = options
        self._vary = vary
        self._codec = Codec(list[model] | model | None)  # type: ignore[valid-type] # a class that is given
        self._places = Places()
        self._names = StatementNames()
        self._key_of_one = CallKeys(_one)
        self._key_of_list = CallKeys(_list)

        def load(session: Session, asked: Asked) -> bytes:
            return self._load(session, asked)

        @wraps(load)  # one function, as the cache sees it: they share what is kept
        async def load_async(session: AsyncSession, asked: Asked) -> bytes:
            return await session.run_sync(self._load, asked)

        cached = cache.cached(ttl, key=lambda _, asked: asked.key, namespace=namespace)
        self._plain, self._awaited = cached(load), cached(load_async)

    def ask_one(self, session: Session, key: Any) -> Asked | None:
        """Return what stands for an object; None where the session has to be asked for it."""
        identity = self._identity(key)
        if identity is None or self._mapper.identity_key_from_primary_key(identity) in session.identity_map:
            return None
        place = self._places.of(session, self._mapper)
        if place is None:
            return None
        try:
            return Asked(self._key_of_one(place, self._varies(session), _plain(identity)), identity)
        except CacheKeyError:  # a key of the application's own making, that names nothing in another process
            return None

    def ask_many(self, session: Session, keys: Iterable[Any]) -> list[Asked | None]:
        """Return what stands for each of some objects; None where the session has to be asked for it."""
        return [self.ask_one(session, key) for key in keys]

    def ask_list(self, session: Session, statement: Select[Any]) -> Asked | None:
        """Return what stands for the objects that a statement selects; None where it has to be sent."""
        place = self._places.of(session, self._mapper)
        named = self._names.of(statement, session.get_bind(self._mapper).dialect) if place else None
        if named is None:
            return None
        name, parameters = named
        try:
            return Asked(self._key_of_list(place, self._varies(session), name, _plain(parameters)), statement)
        except CacheKeyError:
            return None

    def answer(self, session: Session, asked: Asked) -> Any:
        """Return what a session asks for; `MISSING` where it has to ask the database itself."""
        if in_greenlet():  # the event loop must not wait for another thread's load
            data: Any = self._plain.get(session, asked)
            if data is MISSING:
                data = self._plain.refresh(session, asked)
        else:
            data = self._plain(session, asked)
        return self._restored(session, data)

    async def answer_async(self, session: AsyncSession, asked: Asked) -> Any:
        """Return what a session asks for; `MISSING` where it has to ask the database itself."""
        return self._restored(session.sync_session, await self._awaited(session, asked))

    def answer_many(self, session: Session, asked: list[Asked | None]) -> list[Any]:
        """Return objects of primary keys; `MISSING` for those that the session has to be asked for."""
        known = list(filter(None, asked))
        kept = dict(zip(known, self._plain.get_many((session, each) for each in known), strict=True))
        if missing := [each for each, data in kept.items() if data is MISSING]:
            with self._cache.loading(tables=self._tables()):
                loaded = self._load_many(session, missing)
                for each, data in loaded.items():
                    self._plain.set(data, session, each)
            kept |= loaded
        return self._restored_each(session, asked, kept)

    async def answer_many_async(self, session: AsyncSession, asked: list[Asked | None]) -> list[Any]:
        """Return objects of primary keys; `MISSING` for those that the session has to be asked for."""
        known = list(filter(None, asked))
        found = await self._awaited.get_many((session, each) for each in known)
        kept = dict(zip(known, found, strict=True))
        if missing := [each for each, data in kept.items() if data is MISSING]:
            with self._cache.loading(tables=self._tables()):
                loaded = await session.run_sync(self._load_many, missing)
                for each, data in loaded.items():
                    await self._awaited.set(data, session, each)
            kept |= loaded
        return self._restored_each(session.sync_session, asked, kept)

    def _restored_each(
        self, session: Session, asked: list[Asked | None], kept: dict[Asked, Any]
    ) -> list[Any]:
        return [MISSING if each is None else self._restored(session, kept[each]) for each in asked]

    def _load(self, session: Session, asked: Asked) -> bytes:
        with apart(session, self._mapper) as own:
            if isinstance(asked.wanted, tuple):
                (value,) = get_many(own, self._model, [asked.wanted], options=self._options)
            else:
                value = list(own.scalars(asked.wanted).unique())
            return self._encoded(value)

    def _load_many(self, session: Session, asked: list[Asked]) -> dict[Asked, Any]:
        """Return what has been loaded; what cannot be kept is left out."""
        with apart(session, self._mapper) as own:
            objects = get_many(own, self._model, [each.wanted for each in asked], options=self._options)
            encoded = {each: self._encoded(one) for each, one in zip(asked, objects, strict=True)}
        return {each: data for each, data in encoded.items() if data != _NOT_KEPT}

    def _encoded(self, value: Any) -> bytes:
        reading = CURRENT.get()
        if reading is not None and EVERYTHING not in reading.tags:
            reading.refuse("no engine that the cache watches has been asked")
        try:
            return self._codec.encode(value)
        except CodecError as error:
            if reading is not None:
                reading.refuse(str(error))
            return _NOT_KEPT

    def _restored(self, session: Session, data: Any) -> Any:
        """Return objects as a session's own; `MISSING` where it has to ask the database."""
        if data is MISSING or data == _NOT_KEPT:
            return MISSING
        try:
            value = self._codec.decode(data, session)
        except CodecError:  # written before a deploy, or a listener for "load" wants a query
            return MISSING
        return value if isinstance(value, (list, self._model)) else None

    def _identity(self, key: Any) -> tuple[Any, ...] | None:
        """Return a primary key as a tuple; None for what `session.get` has to make sense of."""
        count = len(self._mapper.primary_key)
        identity = tuple(key) if isinstance(key, (tuple, list, Row)) else (key,)
        is_plain = len(identity) == count and not any(isinstance(each, dict) for each in identity)
        return identity if is_plain and None not in identity else None

    def _varies(self, session: Session) -> Hashable:
        return None if self._vary is None else self._vary(session)

    def _tables(self) -> Iterable[str]:
        """Return the tables that objects are probably loaded from."""
        mappers = {self._mapper, *(each.mapper for each in self._mapper.relationships)}
        return {str(getattr(table, "name", table)) for mapper in mappers for table in mapper.tables}


def _plain(part: Any) -> Any:
    """Return a part of a key with UUIDs of one class: asyncpg has its own."""
    if isinstance(part, (tuple, list)):
        return tuple(map(_plain, part))
    return UUID(int=part.int) if isinstance(part, UUID) else part


def _one(place: str, varies: Hashable, identity: tuple[Any, ...]) -> None:
    """Be what the keys of objects are made for: their parameters are its."""


def _list(place: str, varies: Hashable, statement: str, parameters: tuple[Any, ...]) -> None:
    """Be what the keys of lists are made for: their parameters are its."""
