"""The manifest that `upshift demo` reads: its requests exist in the full data set and are full-sized."""

import re
import tomllib
from collections import Counter
from pathlib import Path

from fastapi import FastAPI
from shopease.rows import Row

MANIFEST = tomllib.loads((Path(__file__).parent.parent / "demo.toml").read_text(encoding="utf-8"))
PATHS = {endpoint["name"]: endpoint["paths"] for endpoint in MANIFEST["endpoint"]}


def ids(endpoint: str) -> list[int]:
    return [int(path.split("/")[2]) for path in PATHS[endpoint]]


def test_every_endpoint_has_at_least_six_different_requests() -> None:
    assert len(PATHS) == 5
    for paths in PATHS.values():
        assert len(paths) == len(set(paths)) >= 6


def test_every_route_of_the_application_is_shown(app: FastAPI) -> None:
    requested = [path.partition("?")[0] for paths in PATHS.values() for path in paths]
    for route in app.openapi()["paths"]:
        pattern = re.compile(re.sub(r"{\w+}", r"[\\w-]+", route))
        assert any(pattern.fullmatch(path) for path in requested), route


def test_requests_are_full_sized_pages_of_the_full_data_set(full: dict[str, list[Row]]) -> None:
    seller_of = {row[0]: row[1] for row in full["products"]}
    products = Counter(seller_of.values())
    reviews = Counter(row[1] for row in full["reviews"])
    orders = Counter(row[1] for row in full["orders"])
    sales = Counter(seller_of[row[2]] for row in full["order_items"])
    assert all(20 <= reviews[product] <= 40 for product in ids("product detail"))
    assert all(10 <= orders[user] <= 20 for user in ids("user's orders"))
    for seller in ids("seller's dashboard"):
        assert 10 <= products[seller] <= 15
        assert 80 <= sales[seller] <= 150
