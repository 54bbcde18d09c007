from __future__ import annotations

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from upshift.errors import DatabaseUnavailableError, IndexAdviceError, SettingsError
from upshift.sql.engines import connected, engine_for, sync_engine_for


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("postgresql://u:p@h/d", "postgresql+psycopg"),
        ("postgres://u:p@h/d", "postgresql+psycopg"),
        ("postgresql+asyncpg://u:p@h/d", "postgresql+psycopg"),
        ("postgresql+psycopg://u:p@h/d", "postgresql+psycopg"),
        ("sqlite+aiosqlite:///a.db", "sqlite"),
        ("sqlite:///a.db", "sqlite"),
    ],
)
def test_a_url_leads_to_a_synchronous_driver(url, driver):
    assert engine_for(url).url.drivername == driver


def test_a_url_keeps_its_password_host_port_and_database():
    url = engine_for("postgresql+asyncpg://u:p%40ss@h:99/d").url
    assert (url.username, url.password, url.host, url.port, url.database) == ("u", "p@ss", "h", 99, "d")


def test_options_of_asyncpg_are_translated_or_left_out():
    url = engine_for("postgresql+asyncpg:///d?host=/run/pg&ssl=require&prepared_statement_cache_size=0").url
    assert dict(url.query) == {"host": "/run/pg", "sslmode": "require"}


def test_options_of_libpq_stay():
    assert dict(engine_for("postgresql:///d?application_name=x").url.query) == {"application_name": "x"}


@pytest.mark.parametrize("url", ["", "nonsense", "://", "postgresql://host:port/shop"])
def test_what_is_no_url_is_refused_without_repeating_it(url):
    with pytest.raises(SettingsError, match="database URL"):
        engine_for(url)


def test_another_kind_of_database_is_named():
    with pytest.raises(IndexAdviceError, match="mysql"):
        engine_for("mysql+pymysql://h/d")


def test_a_synchronous_engine_is_used_as_it_is():
    engine = sa.create_engine("sqlite://")
    assert sync_engine_for(engine) is engine


def test_an_asynchronous_engine_has_a_synchronous_twin():
    engine = create_async_engine("sqlite+aiosqlite:///a.db")
    assert str(sync_engine_for(engine).url) == "sqlite:///a.db"


def test_an_asynchronous_database_in_memory_has_none():
    with pytest.raises(IndexAdviceError, match="in memory"):
        sync_engine_for(create_async_engine("sqlite+aiosqlite://"))


def test_a_refused_connection_says_where_without_the_password(unused_tcp_port):
    engine = engine_for(f"postgresql://ann:secret@127.0.0.1:{unused_tcp_port}/shop")
    where = f"127.0.0.1:{unused_tcp_port}/shop"
    with pytest.raises(DatabaseUnavailableError, match=where) as caught, connected(engine):
        pass
    assert "secret" not in str(caught.value)
