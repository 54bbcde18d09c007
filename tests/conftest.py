"""Real servers for the tests that ask for one: started once in each pytest process, shared by its tests."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from upshift.sql.loading.claim import claim_names
from upshift.testing.servers import PostgresServer, ValkeyServer, postgres, valkey

settings.register_profile("upshift", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("upshift")  # a machine that is busy with other things fails no test

claim_names()  # before any test loads objects: see its module


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    with postgres() as server:
        yield server


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[ValkeyServer]:
    """Shared: a test that writes chooses keys of its own."""
    with valkey() as server:
        yield server


@pytest.fixture
def postgres_database(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of an empty database, for sync and async engines: it names psycopg, which serves both."""
    name = f"test_{secrets.token_hex(6)}"
    postgres_server.create_database(name)
    yield postgres_server.url(name, driver="psycopg")
    postgres_server.drop_database(name)
