"""A real primary with two real streaming replicas, and sessions that read from them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from sqlalchemy.util import greenlet_spawn

from upshift.sql.replicas.replicas import Replicas
from upshift.testing.servers import PostgresServer, postgres, postgres_replica


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    version: Mapped[int] = mapped_column(default=1)
    tags: Mapped[list[Tag]] = relationship(order_by="Tag.id")
    __mapper_args__ = {"version_id_col": version}


class Tag(Base):
    __tablename__ = "tag"
    id: Mapped[int] = mapped_column(primary_key=True)
    item_id: Mapped[int] = mapped_column(sa.ForeignKey("item.id"))
    name: Mapped[str]


class Cluster(NamedTuple):
    primary: PostgresServer
    near: PostgresServer
    far: PostgresServer

    @contextmanager
    def paused(self, server: PostgresServer) -> Iterator[None]:
        """A replica that replays nothing, for the length of a `with` block."""
        run(server, "SELECT pg_wal_replay_pause()")
        try:
            yield
        finally:
            run(server, "SELECT pg_wal_replay_resume()")

    def caught_up(self) -> None:
        """Wait until both replicas have all that was committed."""
        (lsn,) = run(self.primary, "SELECT pg_current_wal_insert_lsn()::text")[0]
        for server in (self.near, self.far):
            wait_for(lambda s=server: run(s, f"SELECT pg_last_wal_replay_lsn() >= '{lsn}'")[0][0])


def run(server: PostgresServer, sql: str) -> list[tuple]:
    with psycopg.connect(server.url(), autocommit=True) as connection:
        cursor = connection.execute(sql)
        return cursor.fetchall() if cursor.description else []


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.01)


def all_fit(replicas: Replicas) -> bool:
    replicas._watch()
    return all(state.is_fit for state in replicas.states())


async def dispose(replicas: Replicas) -> None:
    """Close the connections of async engines, in their loop."""
    for engine in replicas.engines:
        await greenlet_spawn(engine.dispose)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    # Else the primary removes what a stopped replica has not fetched yet, as further replicas are copied.
    kept = {"wal_keep_size": "512MB"}
    with (
        postgres(settings=kept) as primary,
        postgres_replica(primary) as near,
        postgres_replica(primary) as far,
    ):
        engine = sa.create_engine(primary.url(driver="psycopg"))
        Base.metadata.create_all(engine)
        with engine.begin() as connection:
            connection.exec_driver_sql(
                "INSERT INTO item SELECT i, 'item ' || i, 1 FROM generate_series(1, 50) i"
            )
            connection.exec_driver_sql(
                "INSERT INTO tag SELECT i, i, 'tag ' || i FROM generate_series(1, 50) i"
            )
            connection.exec_driver_sql("SELECT setval('item_id_seq', 1000), setval('tag_id_seq', 2000)")
            connection.exec_driver_sql("CREATE SEQUENCE counter")
            connection.exec_driver_sql(
                "CREATE FUNCTION twice(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 2 * $1'"
            )
            connection.exec_driver_sql(
                "CREATE VIEW numbered AS SELECT id, nextval('counter') AS number FROM item WHERE id = 1"
            )
        engine.dispose()
        yield Cluster(primary, near, far)


NewReplicas = Callable[..., Replicas]


@pytest.fixture
def new_replicas() -> Iterator[NewReplicas]:
    """Make `Replicas`, and wait until all are fit. Async engines are the test's to dispose of."""
    with ExitStack() as stack:

        def make(*servers: PostgresServer, driver="psycopg", is_async=False, engine=None, **options):
            create = create_async_engine if is_async else sa.create_engine
            names = ("primary", "near", "far")
            engines = [
                create(server.url(driver=driver), pool_logging_name=name, pool_size=20, **(engine or {}))
                for name, server in zip(names, servers, strict=False)
            ]
            replicas = Replicas(engines[0], engines[1:], **{"probe_seconds": 0.1, **options})
            stack.callback(replicas.close)
            if not is_async:
                for each in engines:
                    stack.callback(each.dispose)
            try:
                wait_for(lambda: all_fit(replicas))
            except AssertionError:
                pytest.fail(f"they do not become fit: {replicas.states()}")
            return replicas

        yield make
