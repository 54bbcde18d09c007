"""One shop in each framework: `/products/{number}` reads a row, `/health` nothing."""

from __future__ import annotations

import warnings
from typing import Any

from fastapi import FastAPI
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

with warnings.catch_warnings():
    # It imports Advanced Alchemy where that is installed, as for the benchmarks, which warns.
    warnings.simplefilter("ignore", DeprecationWarning)
    from litestar import Litestar
    from litestar import get as litestar_get
    from litestar.params import FromPath

READ = text("SELECT price FROM product WHERE id = :id")
WRITE = text("UPDATE product SET price = price + 1 WHERE id = :id RETURNING price")


def fastapi_sync(engine: Engine, _: AsyncEngine) -> Any:
    app = FastAPI()

    @app.get("/products/{number}")
    def product(number: int):
        with engine.connect() as connection:
            return {"price": connection.scalar(READ, {"id": number})}

    return app


def fastapi_async(_: Engine, engine: AsyncEngine) -> Any:
    app = FastAPI()

    @app.get("/products/{number}")
    async def product(number: int):
        async with engine.connect() as connection:
            return {"price": await connection.scalar(READ, {"id": number})}

    return app


def starlette_async(_: Engine, engine: AsyncEngine) -> Any:
    async def product(request):
        async with engine.connect() as connection:
            price = await connection.scalar(READ, {"id": request.path_params["number"]})
        return JSONResponse({"price": price})

    return Starlette(routes=[Route("/products/{number:int}", product)])


def starlette_sync(engine: Engine, _: AsyncEngine) -> Any:
    def product(request):
        with engine.connect() as connection:
            return JSONResponse({"price": connection.scalar(READ, {"id": request.path_params["number"]})})

    return Starlette(routes=[Route("/products/{number:int}", product)])


def litestar_async(_: Engine, engine: AsyncEngine) -> Any:
    @litestar_get("/products/{number:int}")
    async def product(number: FromPath[int]) -> dict[str, int]:
        async with engine.connect() as connection:
            return {"price": await connection.scalar(READ, {"id": number})}

    return Litestar([product])


def litestar_sync(engine: Engine, _: AsyncEngine) -> Any:
    @litestar_get("/products/{number:int}", sync_to_thread=True)
    def product(number: FromPath[int]) -> dict[str, int]:
        with engine.connect() as connection:
            return {"price": connection.scalar(READ, {"id": number})}

    return Litestar([product])


MAKERS = [fastapi_sync, fastapi_async, starlette_sync, starlette_async, litestar_sync, litestar_async]


def fill(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE product (id int PRIMARY KEY, price int NOT NULL)"))
        connection.execute(text("CREATE TABLE audit (line text)"))
        connection.execute(text("INSERT INTO product VALUES (1, 0), (2, 0)"))


def write(engine: Engine, number: int = 1) -> int:
    """Raise a price; the new one has been committed when this returns."""
    with engine.begin() as connection:
        return connection.execute(WRITE, {"id": number}).scalar_one()


def engines_of(url: str) -> tuple[Engine, AsyncEngine]:
    engine = create_engine(url, pool_size=10)
    if not url.startswith("sqlite"):
        return engine, create_async_engine(url, pool_size=10)
    other = create_async_engine(url.replace("sqlite:", "sqlite+aiosqlite:"), pool_size=10)
    for each in (engine, other.sync_engine):

        @event.listens_for(each, "connect")
        def wait_for_writers(connection, _):
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA busy_timeout=10000")

    return engine, other
