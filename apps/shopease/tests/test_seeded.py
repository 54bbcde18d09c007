"""The list of seeded defects is right: each entry is a defect, and the application has no other."""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from httpx import AsyncClient
from shopease.tests.seeded import (
    CARD_ROUTES,
    DASHBOARD,
    DETAIL,
    LARGE_RESPONSES,
    MISSING_INDEXES,
    N_PLUS_ONES,
    ORDERS,
    ROOT,
    SEEDED,
    MissingIndex,
)
from sqlalchemy import Connection, Engine, event, inspect, text
from sqlalchemy.orm import ORMExecuteState, Session

PRODUCTS, CATEGORY = CARD_ROUTES
REQUESTS = {
    PRODUCTS: ["/products", "/products?page=7"],
    DETAIL: ["/products/283", "/products/1902"],
    CATEGORY: [
        "/categories/toys/products",
        "/categories/kitchen/products?min_price=3000&max_price=39000&in_stock=true&sort=-price",
    ],
    ORDERS: ["/users/190/orders", "/users/1104/orders"],
    DASHBOARD: ["/sellers/19/dashboard", "/sellers/48/dashboard"],
}
TINY_TABLES = {"categories", "sellers"}  # read whole whatever their indexes

Place = tuple[str, int]


@dataclass
class Executed:
    """What one request made the database do."""

    lazy_loads: Counter[tuple[str, Place]] = field(default_factory=Counter)
    statements: Counter[tuple[str, Place]] = field(default_factory=Counter)
    parameters: dict[str, Any] = field(default_factory=dict)


def application_line() -> Place:
    frame = sys._getframe()
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(f"{ROOT}/") and "/tests/" not in file:
            return file, frame.f_lineno
        frame = frame.f_back
    raise LookupError("a statement that no line of the application caused")


@contextmanager
def observed(engine: Engine) -> Iterator[Executed]:
    executed = Executed()

    def on_orm_execute(state: ORMExecuteState) -> None:
        if state.is_relationship_load:
            relationship = state.loader_strategy_path.prop
            name = f"{relationship.parent.class_.__name__}.{relationship.key}"
            executed.lazy_loads[name, application_line()] += 1

    def on_cursor_execute(_c: Any, _u: Any, sql: str, parameters: Any, _x: Any, _m: Any) -> None:
        executed.statements[sql, application_line()] += 1
        executed.parameters[sql] = parameters

    event.listen(Session, "do_orm_execute", on_orm_execute)
    event.listen(engine, "before_cursor_execute", on_cursor_execute)
    yield executed
    event.remove(Session, "do_orm_execute", on_orm_execute)
    event.remove(engine, "before_cursor_execute", on_cursor_execute)


@pytest.fixture
async def observations(postgres_client: AsyncClient, postgres_engine: Engine) -> dict[str, list[Executed]]:
    found: dict[str, list[Executed]] = {}
    for route, paths in REQUESTS.items():
        for path in paths:
            with observed(postgres_engine) as executed:
                response = await postgres_client.get(path)
            assert response.status_code == 200
            found.setdefault(route, []).append(executed)
    return found


def test_every_place_is_found_in_the_source() -> None:
    for defect in SEEDED[: len(N_PLUS_ONES)]:
        assert defect.site.line > 0
    for index in MISSING_INDEXES:
        assert all(site.line > 0 for site in index.sites)


def test_repeated_lazy_loads_are_the_seeded_n_plus_ones(observations: dict[str, list[Executed]]) -> None:
    seeded = {
        (route, defect.relationship, (str(defect.site.path), defect.site.line))
        for defect in N_PLUS_ONES
        for route in defect.routes
    }
    for fewest_repeats in (2, 9):  # nothing repeats a little: what is no N+1 runs once
        repeated = {
            (route, *load)
            for route, requests in observations.items()
            for load in set.intersection(
                *(
                    {load for load, count in each.lazy_loads.items() if count >= fewest_repeats}
                    for each in requests
                )
            )
        }
        assert repeated == seeded


def test_no_statement_repeats_but_by_a_lazy_load(observations: dict[str, list[Executed]]) -> None:
    for requests in observations.values():
        for executed in requests:
            repeated = {place for (_sql, place), count in executed.statements.items() if count > 1}
            assert repeated <= {place for _relationship, place in executed.lazy_loads}


def test_missing_indexes_are_the_seeded_ones(
    observations: dict[str, list[Executed]], postgres_engine: Engine
) -> None:
    """Each search of a big table is in the list, and the index that it misses halves its cost."""
    searches = [
        (route, place, sql, executed.parameters[sql])
        for route, requests in observations.items()
        for executed in requests
        for sql, place in executed.statements
    ]
    with postgres_engine.connect() as connection:
        before = [plan(connection, sql, parameters) for _route, _place, sql, parameters in searches]
        for index in MISSING_INDEXES:
            connection.execute(
                text(f"CREATE INDEX {name_of(index)} ON {index.table} ({', '.join(index.columns)})")
            )
        after = [plan(connection, sql, parameters) for _route, _place, sql, parameters in searches]
        connection.rollback()

    costs: dict[MissingIndex, list[tuple[float, float]]] = {}
    needed = set()
    for (route, place, sql, _parameters), old, new in zip(searches, before, after, strict=True):
        if scanned(old) <= TINY_TABLES:
            continue
        (index,) = (
            index
            for index in MISSING_INDEXES
            if route in index.routes and place in {(str(site.path), site.line) for site in index.sites}
        )
        assert name_of(index) in json.dumps(new), sql
        assert scanned(new) == set(), sql
        needed.add((index, route))
        costs.setdefault(index, []).append((old["Total Cost"], new["Total Cost"]))
    assert needed == {(index, route) for index in MISSING_INDEXES for route in index.routes}
    for index, pairs in costs.items():
        assert sum(new for _old, new in pairs) < sum(old for old, _new in pairs) / 2, index


def test_tables_start_with_no_index_but_their_keys(postgres_engine: Engine) -> None:
    found = inspect(postgres_engine)
    indexes = {
        (table, *index["column_names"])
        for table in found.get_table_names()
        for index in found.get_indexes(table)
    }
    assert indexes == {("users", "email"), ("categories", "slug")}


async def test_large_responses_are_the_seeded_ones(postgres_client: AsyncClient) -> None:
    large = {defect.route for defect in LARGE_RESPONSES}
    for route, paths in REQUESTS.items():
        for path in paths:
            size = len((await postgres_client.get(path)).content)
            assert size > 12_000 if route in large else size < 8_000, (path, size)


def name_of(index: MissingIndex) -> str:
    return f"seeded_{index.table}_{'_'.join(index.columns)}"


def plan(connection: Connection, sql: str, parameters: Any) -> dict[str, Any]:
    answer = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {sql}", parameters).scalar_one()
    return answer[0]["Plan"]


def scanned(node: dict[str, Any]) -> set[str]:
    """The tables that a plan reads from end to end."""
    tables = {node["Relation Name"]} if node["Node Type"] == "Seq Scan" else set()
    return tables.union(*(scanned(child) for child in node.get("Plans", [])))
