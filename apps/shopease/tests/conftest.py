from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient
from shopease.config import with_driver
from shopease.dataset import load
from shopease.rows import Row, generate
from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session

from upshift.testing.servers import PostgresServer, postgres

SCALE = 0.1


@pytest.fixture(scope="session")
def full() -> dict[str, list[Row]]:
    """The rows of the whole data set."""
    return {name: list(rows) for name, rows in generate().items()}


@pytest.fixture(scope="session")
def server() -> Iterator[PostgresServer]:
    # Without parallel workers a plan depends on the tables alone, not on the machine.
    with postgres(settings={"max_parallel_workers_per_gather": "0"}) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_engine(server: PostgresServer) -> Iterator[Engine]:
    engine = create_engine(with_driver(server.url()))
    load(engine, scale=SCALE)
    yield engine
    engine.dispose()


@pytest.fixture(scope="session")
def sqlite_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = create_engine(f"sqlite:///{tmp_path_factory.mktemp('shopease') / 'shop.db'}")
    load(engine, scale=SCALE)
    yield engine
    engine.dispose()


@pytest.fixture(scope="session")
def app(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    """The application, on a database that no test uses: the clients bring their own sessions."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SHOPEASE_DATABASE_URL", f"sqlite:///{tmp_path_factory.mktemp('unused')}/shop.db")
        from shopease.main import app
    return app


@pytest.fixture(params=["postgresql", "sqlite"])
async def client(request: pytest.FixtureRequest, app: FastAPI) -> AsyncIterator[AsyncClient]:
    engine = request.getfixturevalue("postgres_engine" if request.param == "postgresql" else "sqlite_engine")
    async with client_on(app, engine) as client:
        yield client


@pytest.fixture
async def postgres_client(app: FastAPI, postgres_engine: Engine) -> AsyncIterator[AsyncClient]:
    async with client_on(app, postgres_engine) as client:
        yield client


@asynccontextmanager
async def client_on(app: FastAPI, engine: Engine) -> AsyncIterator[AsyncClient]:
    from shopease.database import get_session

    def session_of_the_test() -> Iterator[Session]:
        with Session(engine) as session:
            yield session

    app.dependency_overrides[get_session] = session_of_the_test
    async with AsyncClient(transport=ASGITransport(app), base_url="http://shop") as client:
        yield client
    app.dependency_overrides.clear()
