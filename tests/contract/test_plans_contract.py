"""What connections beside an application's pool lean on in SQLAlchemy, and is not public."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine.default import DefaultExecutionContext
from sqlalchemy.pool import NullPool

from upshift.sql.plans.aside import aside_engine


def test_a_pool_knows_how_its_connections_are_made(tmp_path):
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'a.db'}", connect_args={"timeout": 7.5})
    connection = engine.pool._creator()
    assert connection.execute("PRAGMA busy_timeout").fetchone() == (7500,)
    connection.close()
    engine.dispose()


def test_a_pool_made_of_anothers_dispatch_has_its_listeners_and_gives_it_none(tmp_path):
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'a.db'}")
    heard = []
    sa.event.listen(engine, "connect", lambda *_: heard.append("application"))
    beside = NullPool(engine.pool._creator, _dispatch=engine.pool.dispatch)
    sa.event.listen(beside, "connect", lambda *_: heard.append("beside"))
    beside.connect().close()
    assert heard == ["application", "beside"]
    heard.clear()
    engine.connect().close()
    assert heard == ["application"]
    engine.dispose()


def test_an_engine_beside_takes_nothing_from_the_pool(tmp_path):
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'a.db'}", pool_size=1, max_overflow=0, pool_timeout=0.1)
    with engine.connect(), aside_engine(engine).connect() as connection:
        assert connection.exec_driver_sql("SELECT 1").scalar() == 1
    engine.dispose()


def test_an_execution_knows_the_dialect_of_its_engine(tmp_path):
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'a.db'}")
    seen = []
    sa.event.listen(engine, "before_cursor_execute", lambda *told: seen.append(told[4]))
    with engine.connect() as connection:
        connection.exec_driver_sql("SELECT 1")
    (context,) = seen
    assert isinstance(context, DefaultExecutionContext)
    assert context.root_connection.dialect is engine.dialect
    engine.dispose()
