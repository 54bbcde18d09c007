from __future__ import annotations

import psycopg
import redis

from upshift.testing.servers import database_url, redis_url


def test_without_database_url_a_database_is_started(monkeypatch):
    monkeypatch.delenv("DATABASE_URL", raising=False)
    with database_url() as url, psycopg.connect(url) as connection:
        assert connection.execute("SELECT 6 * 7").fetchone() == (42,)


def test_without_redis_url_a_server_is_started(monkeypatch):
    monkeypatch.delenv("REDIS_URL", raising=False)
    with redis_url() as url, redis.Redis.from_url(url) as client:
        assert client.ping()
