"""The data set: the same everywhere, at a realistic size, with a few popular products and busy users."""

import hashlib
from collections import Counter
from dataclasses import asdict

import pytest
from shopease.models import Base
from shopease.rows import Row, Size, generate

Rows = dict[str, list[Row]]


def column(rows: Rows, table: str, name: str) -> list:
    place = Base.metadata.tables[table].columns.keys().index(name)
    return [row[place] for row in rows[table]]


def test_same_rows_in_every_run_and_on_every_python() -> None:
    digest = hashlib.sha256()
    for name, rows in generate(0.02).items():
        digest.update(repr((name, list(rows))).encode())
    assert digest.hexdigest() == "c0a3d8e2c9568c33824b75c1792d8ff4e16bc45363e96aa3d6712a6d873e7924"


def test_full_size(full: Rows) -> None:
    assert {name: len(rows) for name, rows in full.items()} == {
        "users": 20_000,
        "sellers": 1_000,
        "categories": 16,
        "products": 20_000,
        "reviews": 100_000,
        "orders": 50_000,
        "order_items": 200_000,
    }


def test_scale_shrinks_every_table_but_the_categories() -> None:
    counts = {name: len(list(rows)) for name, rows in generate(0.02).items()}
    assert counts.pop("categories") == 16
    assert counts == asdict(Size.at(0.02))


@pytest.mark.parametrize("scale", [0, -1, 0.004, 51, float("nan"), float("inf")])
def test_scale_out_of_bounds_is_refused(scale: float) -> None:
    with pytest.raises(ValueError, match=r"not between 0\.005 and 50"):
        generate(scale)


@pytest.mark.parametrize("table", list(Base.metadata.tables))
def test_rows_fit_their_table(full: Rows, table: str) -> None:
    columns = Base.metadata.tables[table].columns
    assert {len(row) for row in full[table]} == {len(columns)}
    assert column(full, table, "id") == list(range(1, len(full[table]) + 1))
    for foreign in (key for key in columns if key.foreign_keys):
        (parent,) = (key.column.table.name for key in foreign.foreign_keys)
        assert set(column(full, table, foreign.name)) <= set(column(full, parent, "id"))


@pytest.mark.parametrize(
    ("table", "time"), [("products", "created_at"), ("reviews", "created_at"), ("orders", "placed_at")]
)
def test_rows_come_in_the_order_of_their_time(full: Rows, table: str, time: str) -> None:
    times = column(full, table, time)
    assert times == sorted(times)


def test_every_order_has_items_and_no_product_twice(full: Rows) -> None:
    orders, products = column(full, "order_items", "order_id"), column(full, "order_items", "product_id")
    assert set(orders) == set(range(1, 50_001))
    assert len(set(zip(orders, products, strict=True))) == 200_000


def test_nobody_reviews_a_product_twice(full: Rows) -> None:
    pairs = zip(column(full, "reviews", "product_id"), column(full, "reviews", "author_id"), strict=True)
    assert len(set(pairs)) == 100_000


@pytest.mark.parametrize(
    ("table", "name", "largest_share"),
    [
        ("reviews", "product_id", 0.01),
        ("order_items", "product_id", 0.01),
        ("reviews", "author_id", 0.001),
        ("orders", "user_id", 0.001),
    ],
)
def test_popularity_is_skewed_and_bounded(full: Rows, table: str, name: str, largest_share: float) -> None:
    counts = sorted(Counter(column(full, table, name)).values(), reverse=True)
    top_tenth = sum(counts[: 20_000 // 10])
    assert top_tenth > 0.25 * sum(counts), "the busiest tenth has more than a quarter of all"
    assert counts[0] < largest_share * sum(counts), "nobody has so much that one page is unlike all others"
