"""Real servers for the tests that ask for one: started once in each pytest process, shared by its tests."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from upshift.testing.servers import PostgresServer, ValkeyServer, postgres, valkey


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    with postgres() as server:
        yield server


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[ValkeyServer]:
    with valkey() as server:
        yield server


@pytest.fixture
def postgres_database(postgres_server: PostgresServer) -> Iterator[str]:
    """The name of an empty database; `postgres_server.url(name, driver=…)` gives its URL."""
    name = f"test_{secrets.token_hex(6)}"
    postgres_server.create_database(name)
    yield name
    postgres_server.drop_database(name)
