"""The JSON of each route, the same on PostgreSQL and on SQLite, and what the routes refuse."""

import json
from pathlib import Path
from typing import Any

import pytest
from httpx import AsyncClient

GOLDEN = Path(__file__).parent / "golden"


async def get(client: AsyncClient, path: str) -> dict[str, Any]:
    response = await client.get(path)
    assert response.status_code == 200, response.text
    return response.json()


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("product-list", "/products?page=2"),
        ("product-detail", "/products/283"),
        ("category-listing", "/categories/kitchen/products?min_price=5000&in_stock=true&sort=-price"),
        ("user-orders", "/users/1104/orders"),
        ("seller-dashboard", "/sellers/19/dashboard"),
    ],
)
async def test_answer_is_as_recorded(client: AsyncClient, name: str, path: str) -> None:
    """To record an answer anew, delete its file, run the test twice and read the difference."""
    answer = json.dumps(await get(client, path), indent=1, ensure_ascii=False) + "\n"
    recording = GOLDEN / f"{name}.json"
    if not recording.exists():
        recording.write_text(answer, encoding="utf-8")
        pytest.fail(f"{recording.name} was missing and has been written")
    assert answer == recording.read_text(encoding="utf-8")


async def test_product_list_is_newest_first_and_pages_do_not_overlap(client: AsyncClient) -> None:
    pages = [(await get(client, f"/products?page={page}"))["products"] for page in (1, 2)]
    ids = [product["id"] for page in pages for product in page]
    assert ids == list(range(2_000, 2_000 - 48, -1))


async def test_product_without_reviews_has_no_rating(client: AsyncClient) -> None:
    product = await get(client, "/products/1")
    assert (product["rating"], product["review_count"], product["reviews"]) == (None, 0, [])


async def test_detail_counts_all_reviews_and_shows_the_newest(client: AsyncClient) -> None:
    product = await get(client, "/products/283")
    written = [review["created_at"] for review in product["reviews"]]
    assert product["review_count"] > len(written) == 20
    assert written == sorted(written, reverse=True)


@pytest.mark.parametrize("sort", ["price", "-price"])
async def test_category_listing_filters_and_sorts(client: AsyncClient, sort: str) -> None:
    path = f"/categories/toys/products?min_price=10000&max_price=30000&in_stock=true&sort={sort}"
    products = (await get(client, path))["products"]
    prices = [product["price_cents"] for product in products]
    assert prices == sorted(prices, reverse=sort == "-price")
    assert 10_000 <= min(prices) <= max(prices) <= 30_000
    assert all(product["in_stock"] for product in products)


async def test_orders_are_newest_first_and_their_totals_add_up(client: AsyncClient) -> None:
    orders = (await get(client, "/users/1104/orders"))["orders"]
    placed = [order["placed_at"] for order in orders]
    assert placed == sorted(placed, reverse=True)
    for order in orders:
        lines = order["items"]
        assert order["total_cents"] == sum(line["quantity"] * line["unit_price_cents"] for line in lines)


async def test_dashboard_totals_are_those_of_its_products_and_leave_out_cancelled_orders(
    client: AsyncClient,
) -> None:
    board = await get(client, "/sellers/19/dashboard")
    revenues = [product["revenue_cents"] for product in board["products"]]
    assert revenues == sorted(revenues, reverse=True)
    assert board["revenue_cents"] == sum(revenues)
    assert board["units"] == sum(product["units"] for product in board["products"])
    assert "cancelled" not in {sale["status"] for sale in board["recent_sales"]}


@pytest.mark.parametrize(
    "path", ["/products?page=900", "/categories/toys/products?page=900", "/users/1/orders?page=900"]
)
async def test_page_beyond_the_last_is_empty(client: AsyncClient, path: str) -> None:
    answer = await get(client, path)
    assert answer.get("products", answer.get("orders")) == []


@pytest.mark.parametrize(
    "path",
    [
        "/products/2000000",
        "/categories/weapons/products",
        "/users/2000000/orders",
        "/sellers/2000000/dashboard",
    ],
)
async def test_what_does_not_exist_is_404(client: AsyncClient, path: str) -> None:
    response = await client.get(path)
    assert response.status_code == 404
    assert response.json()["detail"].startswith("no ")


@pytest.mark.parametrize(
    "path",
    [
        "/products?page=0",
        "/products?page=1001",
        "/products?page=two",
        "/products/0",
        "/products/99999999999999999999",
        "/products/one",
        "/categories/toys/products?sort=name",
        "/categories/toys/products?min_price=-1",
        "/categories/toys/products?max_price=cheap",
        "/categories/toys/products?in_stock=perhaps",
        "/categories/%00/products",
        "/users/-1/orders",
        "/users/1/orders?page=0",
        "/sellers/99999999999/dashboard",
    ],
)
async def test_parameters_out_of_bounds_are_422(client: AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 422
