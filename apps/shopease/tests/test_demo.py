"""The manifest that `upshift demo` reads: its requests exist in the full data set and are full-sized."""

import tomllib
from collections import Counter
from pathlib import Path

import pytest
from fastapi import FastAPI

from shopease.rows import generate

MANIFEST = tomllib.loads((Path(__file__).parent.parent / "demo.toml").read_text(encoding="utf-8"))
PATHS = {endpoint["name"]: endpoint["paths"] for endpoint in MANIFEST["endpoint"]}


def ids(endpoint: str) -> list[int]:
    return [int(path.split("/")[2]) for path in PATHS[endpoint]]


def test_every_endpoint_has_at_least_six_different_requests() -> None:
    assert len(PATHS) == 5
    for paths in PATHS.values():
        assert len(paths) == len(set(paths)) >= 6


def test_every_route_of_the_application_is_shown(app: FastAPI) -> None:
    from starlette.routing import Match

    shown = set()
    for paths in PATHS.values():
        for path in paths:
            scope = {"type": "http", "method": "GET", "path": path.partition("?")[0]}
            shown |= {route.path for route in app.routes if route.matches(scope)[0] is Match.FULL}
    assert shown == {path for path in app.openapi()["paths"]}


def test_requests_are_full_sized_pages_of_the_full_data_set() -> None:
    rows = generate()
    seller_of = {row[0]: row[1] for row in rows["products"]}
    products = Counter(seller_of.values())
    reviews = Counter(row[1] for row in rows["reviews"])
    orders = Counter(row[1] for row in rows["orders"])
    sales = Counter(seller_of[row[2]] for row in rows["order_items"])
    assert all(20 <= reviews[product] <= 40 for product in ids("product detail"))
    assert all(10 <= orders[user] <= 20 for user in ids("user's orders"))
    for seller in ids("seller's dashboard"):
        assert 14 <= products[seller] <= 24
        assert 130 <= sales[seller] <= 240
