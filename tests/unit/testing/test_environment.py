from __future__ import annotations

import pytest

from upshift.errors import ServerUnavailableError
from upshift.testing.servers import database_url, redis_url


@pytest.mark.parametrize(
    ("named", "driver", "url"),
    [
        ("postgresql://me:pw@db/shop", None, "postgresql://me:pw@db/shop"),
        ("postgresql://me:pw@db/shop", "asyncpg", "postgresql+asyncpg://me:pw@db/shop"),
        ("postgresql+psycopg://db/shop", None, "postgresql+psycopg://db/shop"),
        ("postgresql+psycopg://db/shop", "asyncpg", "postgresql+asyncpg://db/shop"),
        ("postgres://db/shop", None, "postgresql://db/shop"),
        (
            "postgresql:///shop?host=/run/postgresql",
            "psycopg",
            "postgresql+psycopg:///shop?host=%2Frun%2Fpostgresql",
        ),
    ],
)
def test_database_url_names_the_driver_that_was_asked_for(monkeypatch, named, driver, url):
    monkeypatch.setenv("DATABASE_URL", named)
    with database_url(driver=driver) as answer:
        assert answer == url


def test_database_url_of_another_database_is_refused(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "mysql://me:secret@db/shop")
    with pytest.raises(ServerUnavailableError, match="names a mysql database"), database_url():
        pass


def test_malformed_database_url_is_refused_without_repeating_its_password(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "me:secret@db")
    with pytest.raises(ServerUnavailableError, match="DATABASE_URL is not a URL") as caught, database_url():
        pass
    assert "secret" not in str(caught.value)


def test_redis_url_is_taken_as_it_is(monkeypatch):
    monkeypatch.setenv("REDIS_URL", "redis://cache:6379/3")
    with redis_url() as url:
        assert url == "redis://cache:6379/3"
