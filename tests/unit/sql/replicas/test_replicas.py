from __future__ import annotations

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from upshift.errors import SettingsError
from upshift.sql.replicas.replicas import Replicas

URL = "postgresql+psycopg://db/shop"


def test_engines_that_cannot_be_a_primary_and_its_replicas_are_refused():
    primary, sqlite = sa.create_engine(URL), sa.create_engine("sqlite://")
    for replicas, words in (
        ([], "at least one"),
        ([primary], "an engine of its own"),
        ([primary.execution_options(isolation_level="AUTOCOMMIT")], "an engine of its own"),
        ([sqlite], "no PostgreSQL"),
        ([create_async_engine(URL)], "all sync or all async"),
        (["postgresql://db/shop"], "must be SQLAlchemy engines"),
    ):
        with pytest.raises(SettingsError, match=words):
            Replicas(primary, replicas)


def test_replicas_are_named_by_their_pool_or_their_host():
    urls = ("postgresql+psycopg://a:5433/shop", "postgresql+psycopg://b/shop", "postgresql+psycopg://b/shop")
    engines = [sa.create_engine(url) for url in urls]
    engines.append(sa.create_engine(URL, pool_logging_name="named"))
    replicas = Replicas(sa.create_engine(URL), engines)
    assert [state.name for state in replicas.states()] == ["a:5433", "b", "b#2", "named"]
    replicas.close()


def test_nothing_is_watched_before_it_is_used():
    replicas = Replicas(sa.create_engine(URL), [sa.create_engine(URL)])
    assert replicas._probers == ()
    assert replicas.states()[0].reason == "not asked yet"
    replicas.close()


def test_two_of_them_in_one_process_do_not_touch_each_other():
    one = Replicas(sa.create_engine(URL), [sa.create_engine(URL)])
    other = Replicas(sa.create_engine(URL), [sa.create_engine(URL)])
    with one.primary(), one.visit():
        assert not other.is_primary_asked_for
        assert other.visit_now is None
    assert one.session_class is not other.session_class
    one.close()
    assert not other.is_closed
    other.close()
