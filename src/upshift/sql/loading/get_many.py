"""`session.get()` for many keys: what a loop of gets returns, with one statement for each 500 of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, overload

from sqlalchemy import Row, inspect, select, tuple_
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session
from sqlalchemy.orm import scoped_session
from sqlalchemy.orm.attributes import instance_state

from upshift.sql.loading.cohorts import SCHEDULE
from upshift.sql.loading.selectin import BATCH

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable, Sequence

    from sqlalchemy.orm import Mapper, Session
    from sqlalchemy.orm.interfaces import ORMOption

_Model = TypeVar("_Model")
_Key = tuple[Any, ...]


@overload
def get_many(
    session: Session | scoped_session[Session],
    model: type[_Model],
    keys: Iterable[Any],
    *,
    options: Sequence[ORMOption] = (),
) -> list[_Model | None]: ...


@overload
def get_many(
    session: AsyncSession | async_scoped_session[AsyncSession],
    model: type[_Model],
    keys: Iterable[Any],
    *,
    options: Sequence[ORMOption] = (),
) -> Awaitable[list[_Model | None]]: ...


def get_many(
    session: Session | scoped_session[Session] | AsyncSession | async_scoped_session[AsyncSession],
    model: type[_Model],
    keys: Iterable[Any],
    *,
    options: Sequence[ORMOption] = (),
) -> list[_Model | None] | Awaitable[list[_Model | None]]:
    """Return the object of each key, as `session.get(model, key)` would, in the order of the keys.

    What the session holds already, and has not expired, is taken from it without SQL.

    Args:
        session: a session or a registry of them; with an asynchronous one the answer has to be awaited.
        model: the mapped class.
        keys: primary keys as `session.get` takes them: a value, a tuple or row where the key has several
            columns, or a dictionary by attribute. None, which foreign keys may be, stands for no object.
        options: loader options, as `session.get` takes them.

    Returns:
        An object or None for each key; equal keys have the same object.

    Raises:
        sqlalchemy.exc.InvalidRequestError: a key has another number of columns than the model's.

    Example:
        >>> from sqlalchemy import Integer, String, create_engine
        >>> from sqlalchemy.orm import DeclarativeBase, Session, mapped_column
        >>> class Base(DeclarativeBase): ...
        >>> class City(Base):
        ...     __tablename__ = "city"
        ...     id = mapped_column(Integer, primary_key=True)
        ...     name = mapped_column(String)
        >>> engine = create_engine("sqlite://")
        >>> Base.metadata.create_all(engine)
        >>> with Session(engine) as session:
        ...     session.add_all([City(id=1, name="Taipei"), City(id=2, name="Tainan")])
        ...     session.commit()
        ...     [city and city.name for city in get_many(session, City, [2, 1, 3, 2])]
        ['Tainan', 'Taipei', None, 'Tainan']
    """
    if isinstance(session, scoped_session | async_scoped_session):
        session = session()
    if isinstance(session, AsyncSession):
        return session.run_sync(lambda inner: _get_many(inner, model, list(keys), options))
    return _get_many(session, model, list(keys), options)


def _get_many(
    session: Session, model: type[_Model], keys: list[Any], options: Sequence[ORMOption]
) -> list[_Model | None]:
    mapper: Mapper[_Model] = inspect(model)
    wanted = [_key_of(mapper, key) for key in keys]
    found: dict[_Key, _Model | None] = {}
    missing: dict[_Key, None] = {}
    for key in wanted:
        if key is not None and None not in key:
            held = session.identity_map.get(mapper.identity_key_from_primary_key(key))
            if held is None or instance_state(held).expired:
                missing[key] = None
            else:
                found[key] = held if isinstance(held, model) else None
    is_by_value = _select(session, mapper, list(missing), options, found)
    result = []
    for key in wanted:
        if key is not None and key not in found and (None in key or not is_by_value):
            found[key] = session.get(model, key, options=options)
        result.append(None if key is None else found.get(key))
    return result


def _select(
    session: Session,
    mapper: Mapper[_Model],
    keys: list[_Key],
    options: Sequence[ORMOption],
    found: dict[_Key, _Model | None],
) -> bool:
    """Select the objects of keys, and tell whether each had a key that was asked for.

    It has not where the database took one value for another, such as a text for a number.
    """
    columns = [getattr(mapper.class_, name) for name in _names(mapper)]
    is_by_value = True
    asked = set(keys)
    for start in range(0, len(keys), SCHEDULE[-1]):
        some = keys[start : start + SCHEDULE[-1]]
        criterion = (
            columns[0].in_([key[0] for key in some]) if len(columns) == 1 else tuple_(*columns).in_(some)
        )
        statement = select(mapper).where(criterion).options(*options).execution_options(**{BATCH: True})
        for one in session.scalars(statement).unique():
            identity = instance_state(one).key
            key = identity[1] if identity is not None else ()
            found[key] = one
            is_by_value = is_by_value and key in asked
    return is_by_value


def _key_of(mapper: Mapper[Any], key: object) -> _Key | None:
    if key is None:
        return None
    names = _names(mapper)
    if isinstance(key, dict):
        if key.keys() != set(names):
            raise InvalidRequestError(
                f"the key of {mapper.class_.__name__} has {', '.join(names)}, not {key}"
            )
        return tuple(key[name] for name in names)
    values = tuple(key) if isinstance(key, (tuple, list, Row)) else (key,)
    if len(values) != len(names):
        raise InvalidRequestError(
            f"the key of {mapper.class_.__name__} has {len(names)} values ({', '.join(names)}), "
            f"not {len(values)}"
        )
    return values


def _names(mapper: Mapper[Any]) -> list[str]:
    return [mapper.get_property_by_column(column).key for column in mapper.primary_key]
