"""What a session may be answered from, and a place apart where what is kept is loaded.

A session is answered from the cache only where the database would tell it the same, or something newer that
it may see as well:

- not while it has changes that are not flushed, which a query would flush and see;
- not once its transaction has written anything;
- not once its transaction has read anything, where all of its statements see one snapshot (`REPEATABLE READ`,
  `SERIALIZABLE`, SQLite's): what the cache has may be newer than that.

What is kept is loaded through the session's own connection, so in its transaction, but by a session apart.
In its own the query would leave objects as they are that are there already, and what was read from them
before would be kept as if it were new.
"""

from __future__ import annotations

from contextlib import contextmanager
from hashlib import blake2b
from itertools import count
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from upshift.cache.dependencies.transactions import _ONE_SNAPSHOT, LEVEL_SET, open_transactions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Engine
    from sqlalchemy.orm import Mapper, Session

_TRANSLATED = "schema_translate_map"


class Places:
    """Names the databases that sessions read, the same in every process."""

    def __init__(self) -> None:
        self._names: WeakKeyDictionary[Engine, str] = WeakKeyDictionary()
        self._next = count(1).__next__

    def of(self, session: Session, mapper: Mapper[Any]) -> str | None:
        """Return the name of what a session would read a class from; None where it must ask the database."""
        try:
            bind = session.get_bind(mapper)
        except SQLAlchemyError:
            return None  # a query tells what is wrong
        engine = bind.engine
        transaction = session.get_transaction()
        connections = [] if transaction is None else [each[0] for each in transaction._connections.values()]
        if isinstance(bind, Connection):
            connections.append(bind)
        if not session._is_clean() or not all(_may_be_spared(each, engine) for each in connections):
            return None
        name = self._names.get(engine)
        if name is None:
            name = self._names[engine] = self._name(engine)
        return name

    def _name(self, engine: Engine) -> str:
        url = engine.url
        name = f"{engine.dialect.name}://{url.host or ''}:{url.port or ''}/{url.database or ''}"
        # Another user may see other rows, and options name other hosts and schemas. They may hold a password.
        options = sorted((key, str(value)) for key, value in url.query.items())
        if url.username or options:
            told = repr((url.username, options)).encode("utf-8", "surrogatepass")
            name += f" {blake2b(told, digest_size=8).hexdigest()}"
        schemas = engine.get_execution_options().get(_TRANSLATED)
        if schemas:
            name += f" {sorted(schemas.items(), key=str)}"
        is_in_memory = engine.dialect.name == "sqlite" and "/" not in (url.database or "").replace("\\", "/")
        return f"{name} {self._next()}" if is_in_memory else name


def _may_be_spared(connection: Connection, engine: Engine) -> bool:
    """Whether something else than a connection's transaction may tell what it would."""
    if connection.closed or connection.invalidated or LEVEL_SET in connection.info:
        return False
    options = connection.get_execution_options()
    if options.get(_TRANSLATED) != engine.get_execution_options().get(_TRANSLATED):
        return False
    level = options.get("isolation_level") or connection.dialect.default_isolation_level
    if any(each.has_written or each.is_one_snapshot for each in open_transactions(connection.info)):
        return False
    return str(level).upper().replace("_", " ") not in _ONE_SNAPSHOT


@contextmanager
def apart(session: Session, mapper: Mapper[Any]) -> Iterator[Session]:
    """Lend a session for a `with` block that reads through the connection of another, and has its listeners.

    It has those of its class, that is of its sessionmaker: they may filter what is read.
    """
    connection = session.connection(bind_arguments={"mapper": mapper})
    own = type(session)(
        bind=connection, autoflush=False, expire_on_commit=False, join_transaction_mode="rollback_only"
    )
    own.info.update(session.info)
    try:
        yield own
    finally:
        own.close()
