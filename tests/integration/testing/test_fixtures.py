from __future__ import annotations

from sqlalchemy import create_engine, inspect, make_url, text
from sqlalchemy.ext.asyncio import create_async_engine


def test_database_of_a_test_is_empty_and_its_own(postgres_database, postgres_server):
    engine = create_engine(postgres_database)
    assert inspect(engine).get_table_names() == []
    assert make_url(postgres_database).database != make_url(postgres_server.url()).database
    engine.dispose()


async def test_database_of_a_test_takes_async_engines_of_both_drivers(postgres_database):
    for driver in ("psycopg", "asyncpg"):
        engine = create_async_engine(make_url(postgres_database).set(drivername=f"postgresql+{driver}"))
        async with engine.connect() as connection:
            assert await connection.scalar(text("SELECT 6 * 7")) == 42
        await engine.dispose()
