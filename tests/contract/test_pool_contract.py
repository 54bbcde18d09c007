"""What the observation of pools and transactions takes from SQLAlchemy beyond its public API.

It runs on the oldest and on the newest supported version (`make contract`). A failure names what a release
has changed in the ground of `upshift.sql.pool` and of `upshift.sql.capture`.
"""

from __future__ import annotations

import gc
import inspect
import sys
import warnings

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import (
    AssertionPool,
    AsyncAdaptedQueuePool,
    NullPool,
    QueuePool,
    SingletonThreadPool,
    StaticPool,
)

POOLS = (AssertionPool, NullPool, QueuePool, SingletonThreadPool, StaticPool)


def note_calls(target, name, seen):
    method = getattr(target, name)

    def wrapper(*arguments):
        seen.append((name, arguments))
        return method(*arguments)

    setattr(target, name, wrapper)


@pytest.fixture(params=POOLS, ids=lambda pool: pool.__name__)
def engine(request):
    engine = create_engine("sqlite://", poolclass=request.param)
    yield engine
    engine.dispose()


class TestPool:
    def test_a_connection_is_taken_through_connect_and_given_back_through_do_return_conn(self, engine):
        seen = []
        note_calls(engine.pool, "connect", seen)
        note_calls(engine.pool, "_do_return_conn", seen)
        with engine.connect() as connection:
            entry = connection._dbapi_connection._connection_record
            assert [name for name, _ in seen] == ["connect"]
        assert seen == [("connect", ()), ("_do_return_conn", (entry,))]

    def test_what_connect_returns_knows_the_pools_entry(self, engine):
        proxied = engine.pool.connect()
        assert proxied._connection_record.dbapi_connection is proxied.dbapi_connection
        hash(proxied._connection_record)
        proxied.close()

    @pytest.mark.parametrize("leave", ["detach", "invalidate", "forget"])
    def test_a_connection_that_is_lost_is_given_back_all_the_same(self, engine, leave):
        seen = []
        note_calls(engine.pool, "_do_return_conn", seen)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            proxied = engine.pool.connect()
            entry = proxied._connection_record
            if leave == "forget":
                del proxied
                gc.collect()
            else:
                getattr(proxied, leave)()
                proxied.close()
        assert seen[0] == ("_do_return_conn", (entry,))

    def test_connections_are_opened_by_invoke_creator_which_is_an_attribute_of_the_pool(self, engine):
        seen = []
        assert "_invoke_creator" in vars(engine.pool)
        note_calls(engine.pool, "_invoke_creator", seen)
        engine.connect().close()
        ((name, arguments),) = seen
        assert name == "_invoke_creator"
        assert len(arguments) == 1

    @pytest.mark.parametrize("close", [True, False])
    def test_dispose_puts_what_recreate_returns_in_the_pools_place(self, engine, close):
        made = []
        recreate = engine.pool.recreate
        engine.pool.recreate = lambda: made.append(recreate()) or made[-1]
        engine.dispose(close=close)
        assert [engine.pool] == made

    def test_an_engine_with_options_has_the_pool_and_the_dialect_of_its_own_engine(self, engine):
        other = engine.execution_options(isolation_level="AUTOCOMMIT")
        assert other.pool is engine.pool
        assert other.dialect is engine.dialect
        assert engine.pool._dialect is engine.dialect

    def test_a_queue_pool_tells_its_size_overflow_and_waiting_connections(self):
        engine = create_engine("sqlite://", poolclass=QueuePool, pool_size=2, max_overflow=3)
        assert (engine.pool.size(), engine.pool._max_overflow, engine.pool.checkedin()) == (2, 3, 0)
        engine.connect().close()
        assert engine.pool.checkedin() == 1
        engine.dispose()
        assert issubclass(AsyncAdaptedQueuePool, QueuePool)
        unlimited = create_engine("sqlite://", poolclass=QueuePool, pool_size=0)
        assert unlimited.pool._max_overflow == -1

    def test_a_queue_pool_that_has_no_more_raises_a_timeout(self):
        engine = create_engine(
            "sqlite://", poolclass=QueuePool, pool_size=1, max_overflow=0, pool_timeout=0.01
        )
        with engine.connect(), pytest.raises(PoolTimeoutError):
            engine.connect()
        engine.dispose()

    def test_an_execution_knows_the_pools_entry_of_its_connection(self, engine):
        with engine.connect() as connection:
            context = connection.execute(text("SELECT 1")).context
            assert context._dbapi_connection is connection._dbapi_connection


class TestResizing:
    """The ground of `capacity`, `opening`, `freshness` and `leaks`."""

    @pytest.fixture
    def pool(self):
        engine = create_engine(
            "sqlite://", poolclass=QueuePool, pool_size=2, max_overflow=1, pool_timeout=0.01
        )
        yield engine.pool
        engine.dispose()

    def test_overflow_is_the_number_of_open_connections_less_the_size(self, pool):
        assert pool._overflow == -2
        first, second = pool.connect(), pool.connect()
        assert pool._overflow == 0
        third = pool.connect()
        assert pool._overflow == 1 == pool.overflow()
        for each in (first, second, third):
            each.close()
        assert pool._overflow == 0

    def test_no_connection_is_made_while_overflow_is_at_its_maximum(self, pool):
        pool._overflow = pool._max_overflow
        with pytest.raises(PoolTimeoutError):
            pool.connect()
        pool._overflow = -2

    def test_the_size_is_an_attribute_of_the_queue(self, pool):
        pool._pool.maxsize = 7
        assert pool.size() == 7
        assert pool.recreate().size() == 7
        pool._pool.maxsize = 2

    def test_overflow_changes_under_its_lock_unless_there_is_no_limit(self, pool):
        with pool._overflow_lock:
            pass
        assert pool._inc_overflow()
        assert pool._overflow == -1
        pool._dec_overflow()
        assert pool._overflow == -2

    def test_an_entry_is_made_connected_and_can_be_put_among_those_that_idle(self, pool):
        pool._inc_overflow()
        entry = pool._create_connection()
        assert entry.dbapi_connection is not None
        pool._do_return_conn(entry)
        assert pool.checkedin() == 1
        assert pool._pool.get(False) is entry
        pool._do_return_conn(entry)

    def test_connections_are_taken_by_do_get_which_is_looked_up_on_the_pool(self, pool):
        seen = []
        note_calls(pool, "_do_get", seen)
        pool.connect().close()
        assert seen == [("_do_get", ())]
        del pool._do_get

    def test_an_entry_whose_connection_was_closed_is_connected_anew_and_forgets_its_info(self, pool):
        pool.connect().close()
        entry = pool._do_get()
        old = entry.dbapi_connection
        entry.info["mark"] = 1
        entry.close()
        assert entry.dbapi_connection is None
        assert entry.get_connection() is not old
        assert entry.info == {}
        pool._do_return_conn(entry)

    def test_an_entry_leads_weakly_to_what_was_handed_out(self, pool):
        proxied = pool.connect()
        reference = proxied._connection_record.fairy_ref
        assert reference() is proxied
        proxied.close()
        del proxied
        assert reference() is None

    def test_the_dialect_tells_whether_a_connection_answers(self, pool):
        proxied = pool.connect()
        assert pool._dialect._do_ping_w_event(proxied.dbapi_connection) is True
        proxied.close()

    def test_asyncios_queue_has_its_size_in_an_attribute_of_its_own(self):
        pool = AsyncAdaptedQueuePool(lambda: None, pool_size=2)
        assert "_queue" not in vars(pool._pool)
        pool.checkedin()
        assert vars(pool._pool)["_queue"]._maxsize == 2
        assert pool._is_asyncio
        assert not QueuePool._is_asyncio


class TestTransactions:
    @pytest.mark.parametrize("name", ["do_begin", "do_commit", "do_rollback"])
    def test_the_dialects_calls_take_the_pools_connection(self, engine, name):
        assert tuple(inspect.signature(getattr(engine.dialect, name)).parameters) == ("dbapi_connection",)

    def test_they_are_looked_up_on_the_dialect_each_time(self, engine):
        engine.connect().close()  # the first connection has a transaction of the dialect's own
        seen = []
        for name in ("do_begin", "do_commit", "do_rollback"):
            note_calls(engine.dialect, name, seen)
        with engine.begin() as connection:
            entry = connection._dbapi_connection._connection_record
        assert [name for name, _ in seen][:2] == ["do_begin", "do_commit"]
        assert all(connection._connection_record in {entry, None} for _, (connection,) in seen)

    @pytest.mark.parametrize(("end", "caller"), [("close", "_do_close"), ("rollback", "_do_rollback")])
    def test_four_frames_above_a_rollback_is_the_transactions_method(self, engine, end, caller):
        engine.connect().close()
        callers = []
        rollback = engine.dialect.do_rollback

        def wrapper(connection):
            callers.append(sys._getframe(4).f_code.co_name)
            rollback(connection)

        engine.dialect.do_rollback = wrapper
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
            getattr(connection, end)()
        assert callers[0] == caller

    def test_a_reset_is_no_transactions_method(self, engine):
        engine.connect().close()
        names = []
        rollback = engine.dialect.do_rollback

        def wrapper(connection):
            names.append(sys._getframe(1).f_code.co_name)
            rollback(connection)

        engine.dialect.do_rollback = wrapper
        engine.raw_connection().close()
        assert names == ["_reset"]
