"""Upshift's cache under test: functions, objects and responses, in everything that they may read."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from upshift import Cache, Upshift

from .mutants import MUTANTS
from .shop import ROWS, WRITES, Fragile, Label, Product, Stock, Versions, code_of, row_of, versions_of
from .subject import Engines, Read, Setting

Reader = Callable[[Session, int], list[int]]
"""Reads versions by a session; the same for sync and async."""


def product_by_key(session: Session, key: int) -> list[int]:
    return [session.scalars(select(Product.version).where(Product.id == key)).one()]


def stock_by_text(session: Session, key: int) -> list[int]:
    return [session.scalars(text("SELECT version FROM stock WHERE id = :id"), {"id": key}).one()]


def label_by_get(session: Session, key: int) -> list[int]:
    return [session.get_one(Label, code_of(key)).version]


def fragile_by_key(session: Session, key: int) -> list[int]:
    return [session.get_one(Fragile, key).version]


def whole_table(session: Session, _: int) -> list[int]:
    return versions_of(session, Product)


def range_of_table(session: Session, key: int) -> list[int]:
    statement = select(Stock.version).where(Stock.id.between(key, key + 2)).order_by(Stock.id)
    return list(session.scalars(statement))


def joined(session: Session, key: int) -> list[int]:
    statement = select(Product.version, Stock.version).join(Stock, Stock.id == Product.id)
    return list(session.execute(statement.where(Product.id == key)).one())


def in_one_snapshot(session: Session, key: int) -> list[int]:
    """Read by two statements that see one snapshot."""
    session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
    return product_by_key(session, key) + stock_by_text(session, key)


def single(model: Any) -> list[tuple[int, ...]]:
    return [(row_of(model, key),) for key in range(ROWS)]


PAIRS = [(row_of(Product, key), row_of(Stock, key)) for key in range(ROWS)]

READERS: tuple[tuple[Reader, list[tuple[int, ...]], float], ...] = (
    (product_by_key, single(Product), 4),
    (stock_by_text, single(Stock), 4),
    (label_by_get, single(Label), 4),
    (fragile_by_key, single(Fragile), 0.3),
    (whole_table, [tuple(row_of(Product, key) for key in range(ROWS))], 0.3),
    (range_of_table, [tuple(row_of(Stock, key + more) for more in range(3)) for key in range(ROWS - 2)], 1),
    (joined, PAIRS, 2),
    (in_one_snapshot, PAIRS, 1),
)


class Ours:
    """An application with a cache, its engines, and everything that it reads."""

    def __init__(self, setting: Setting, engines: Engines) -> None:
        self.reads: list[Read] = []
        self.reads_async: list[Read] = []
        self.writes = self.writes_async = WRITES
        self._engines = engines
        app = Starlette(routes=[
            Route("/async/{key:int}", self._respond_async), Route("/sync/{key:int}", self._respond),
        ])  # fmt: skip
        self.upshift = Upshift(app, engine=[engines.sync, engines.asyncio], cache=cache_of(setting))
        self.cache: Cache = self.upshift.cache
        if setting.mutant:
            MUTANTS[setting.mutant](self.cache)
        self.cache.responses("/*")
        for reader, rows, weight in READERS:
            self._add_sync(reader, rows, weight)
            self._add_async(reader, rows, weight)
        self._add_nested()
        self._add_objects()
        for kind in ("async", "sync"):
            self.reads_async.append(Read(f"response_{kind}", single(Product), partial(self._ask, kind), 3))

    def written(self, versions: Versions) -> None:
        """Do nothing: it has heard of it."""

    async def written_async(self, versions: Versions) -> None:
        """Do nothing: it has heard of it."""

    def hits(self) -> int:
        return sum(each.hits + each.joined for each in self.cache.statistics().values())

    async def close(self) -> None:
        self.upshift.close()

    def _add_sync(self, reader: Reader, rows: list[tuple[int, ...]], weight: float) -> None:
        @self.cache.cached(namespace=f"{reader.__name__}_sync")
        def read(key: int) -> list[int]:
            with Session(self._engines.sync) as session:
                return reader(session, key)

        self.reads.append(Read(f"{reader.__name__}_sync", rows, read, weight))

    def _add_async(self, reader: Reader, rows: list[tuple[int, ...]], weight: float) -> None:
        @self.cache.cached(namespace=f"{reader.__name__}_async")
        async def read_async(key: int) -> list[int]:
            async with AsyncSession(self._engines.asyncio) as session:
                return await session.run_sync(reader, key)

        self.reads_async.append(Read(f"{reader.__name__}_async", rows, read_async, weight))

    def _add_nested(self) -> None:
        """Functions that are computed from the values of others."""
        product, stock = (each.call for each in self.reads[:2])
        product_async, stock_async = (each.call for each in self.reads_async[:2])

        @self.cache.cached(namespace="nested_sync", tags=["pair:{key}"])
        def nested(key: int) -> list[int]:
            return [*product(key), *stock(key)]

        @self.cache.cached(namespace="nested_async", ttl="1s", refresh_ahead=0.5)
        async def nested_async(key: int) -> list[int]:
            return [*await product_async(key), *await stock_async(key)]

        self.reads.append(Read("nested_sync", PAIRS, nested, 2))
        self.reads_async.append(Read("nested_async", PAIRS, nested_async, 2))

    def _add_objects(self) -> None:
        """Mapped objects, by key."""
        labels = self.cache.entities(Label)

        def entity(key: int) -> list[int]:
            with Session(self._engines.sync) as session:
                return [labels.get(session, code_of(key)).version]

        async def entity_async(key: int) -> list[int]:
            async with AsyncSession(self._engines.asyncio) as session:
                return [(await labels.get(session, code_of(key))).version]

        self.reads.append(Read("entity_sync", single(Label), entity))
        self.reads_async.append(Read("entity_async", single(Label), entity_async))

    async def _respond_async(self, request: Request) -> JSONResponse:
        async with AsyncSession(self._engines.asyncio) as session:
            return JSONResponse(await session.run_sync(product_by_key, request.path_params["key"]))

    def _respond(self, request: Request) -> JSONResponse:
        with Session(self._engines.sync) as session:
            return JSONResponse(product_by_key(session, request.path_params["key"]))

    async def _ask(self, kind: str, key: int) -> list[int]:
        """Have the application answer a request."""
        path = f"/{kind}/{key}"
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET",
            "scheme": "http", "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "",
            "headers": [(b"host", b"shop.example")], "client": ("127.0.0.1", 1), "server": ("shop", 80),
        }  # fmt: skip
        body = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            body.append(message.get("body", b""))

        await self.upshift(scope, receive, send)
        return [int(each) for each in b"".join(body).strip(b"[]").split(b",")]


def cache_of(setting: Setting) -> Cache:
    if setting.redis:
        return Cache(setting.redis, lease=setting.lease or None)
    return Cache(page=setting.page) if setting.page else Cache()


open = Ours  # noqa: A001 - the name that the worker asks for
