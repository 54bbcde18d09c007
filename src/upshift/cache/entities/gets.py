"""`session.get` answered from the cache."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy.orm import Session

from upshift.cache.functions import MISSING

if TYPE_CHECKING:
    from upshift.cache.entities.entities import Entities

_Session = TypeVar("_Session", bound=Session)


def with_cached_get(session_class: type[_Session], *entities: Entities[Any]) -> type[_Session]:
    """Return a class of sessions whose `get` finds objects of some classes in the cache.

    A get that asks for more than an object by its key, such as a lock, is as before. So is everything else.

    Args:
        session_class: the class to derive from: `Session`, or one of the application's own.
        entities: the objects; for an asynchronous session too, which is given the class as its
            `sync_session_class`.

    Example:
        >>> from sqlalchemy import Integer, String, create_engine
        >>> from sqlalchemy.orm import DeclarativeBase, Session, mapped_column, sessionmaker
        >>> from upshift.cache import Cache
        >>> class Base(DeclarativeBase): ...
        >>> class City(Base):
        ...     __tablename__ = "city"
        ...     id = mapped_column(Integer, primary_key=True)
        ...     name = mapped_column(String)
        >>> engine, cache = create_engine("sqlite://"), Cache()
        >>> cache.watch([engine])
        >>> cities = cache.entities(City)
        >>> make_session = sessionmaker(engine, class_=with_cached_get(Session, cities))
        >>> Base.metadata.create_all(engine)
        >>> with make_session() as session:
        ...     session.add(City(id=1, name="Tainan"))
        ...     session.commit()
        >>> for _ in range(3):
        ...     with make_session() as session:
        ...         print(session.get(City, 1).name)
        Tainan
        Tainan
        Tainan
        >>> cache.statistics()[cities.namespace].hits
        2
    """
    of_model = {each.model: each for each in entities}

    class CachedGetSession(session_class):  # type: ignore[valid-type, misc] # a class that is given
        def get(self, entity: Any, ident: Any, **options: Any) -> Any:
            known = of_model.get(entity)
            asks_for_more = any(options.values()) or options.get("identity_token") is not None
            if known is not None and not asks_for_more:
                found = known.find(self, ident)
                if found is not MISSING:
                    return found
            return super().get(entity, ident, **options)

    return CachedGetSession
