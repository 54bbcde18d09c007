"""The rows of ShopEase's data set: made from a seed, so the same in every run and on every machine.

A few products sell and are reviewed far more than the others, and a few users do most of the buying and
reviewing, as in a real shop. The rows of each table come in the order of their time.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import astuple, dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import accumulate, permutations
from random import Random
from typing import Any, Self

from shopease.models import OrderStatus
from shopease.vocabulary import (
    CATEGORIES,
    DESCRIPTIONS,
    FIRST_NAMES,
    LAST_NAMES,
    MATERIALS,
    REVIEWS,
    SELLER_FIRST,
    SELLER_LAST,
    STYLES,
)

Row = tuple[Any, ...]
Pair = tuple[int, int]
Draw = Callable[[int], list[int]]

SMALLEST_SCALE = 0.005  # below it there are too few users and products for so many distinct reviews
LARGEST_SCALE = 50  # above it the load would take longer than anybody waits

OPENED = datetime.fromisoformat("2021-01-01T08:00:00")  # sellers and users join
STOCKED = datetime.fromisoformat("2023-01-01T08:00:00")  # products are offered
TRADING = datetime.fromisoformat("2024-01-01T08:00:00")  # orders and reviews come in
YEAR = timedelta(days=365)

SOLD_OUT = 0.1  # share of the products


@dataclass(frozen=True, slots=True)
class Size:
    """How many rows each table has. Categories do not grow with the shop."""

    users: int = 20_000
    sellers: int = 1_000
    products: int = 20_000
    reviews: int = 100_000
    orders: int = 50_000
    order_items: int = 200_000

    @classmethod
    def at(cls, scale: float) -> Self:
        if not SMALLEST_SCALE <= scale <= LARGEST_SCALE:
            raise ValueError(f"scale {scale} is not between {SMALLEST_SCALE} and {LARGEST_SCALE}")
        return cls(*(round(count * scale) for count in astuple(cls())))


class Popularity:
    """Draws ids from 1 to `count` by a Zipf-Mandelbrot law, popular ones anywhere among them."""

    def __init__(self, random: Random, count: int, *, exponent: float, flat_head: float) -> None:
        self._ids = list(range(1, count + 1))
        random.shuffle(self._ids)
        offset = 1 + count * flat_head
        self._weights = list(accumulate((rank + offset) ** -exponent for rank in range(count)))

    def draw(self, random: Random, count: int) -> list[int]:
        return random.choices(self._ids, cum_weights=self._weights, k=count)


def generate(scale: float = 1.0) -> dict[str, Iterable[Row]]:
    """Return the rows of each table by its name, parents first, values in the order of its columns."""
    size = Size.at(scale)
    # One stream of random numbers a table, so that a change in one table leaves the others as they were.
    activity = Popularity(Random("activity"), size.users, exponent=0.7, flat_head=0.01)
    demand = Popularity(Random("demand"), size.products, exponent=1.0, flat_head=0.005)
    products = list(product_rows(Random("products"), size))
    prices = [row[PRICE] for row in products]
    return {
        "users": user_rows(Random("users"), size),
        "sellers": seller_rows(Random("sellers"), size),
        "categories": category_rows(),
        "products": products,
        "reviews": review_rows(Random("reviews"), size, activity, demand),
        "orders": order_rows(Random("orders"), size, activity),
        "order_items": order_item_rows(Random("order items"), size, demand, prices),
    }


def user_rows(random: Random, size: Size) -> Iterator[Row]:
    for user_id, joined_at in enumerate(moments(random, OPENED, 3 * YEAR, size.users), start=1):
        first, last = random.choice(FIRST_NAMES), random.choice(LAST_NAMES)
        yield user_id, f"{first} {last}", f"{first}.{last}.{user_id}@example.com".lower(), joined_at


def seller_rows(random: Random, size: Size) -> Iterator[Row]:
    for seller_id, joined_at in enumerate(moments(random, OPENED, 2 * YEAR, size.sellers), start=1):
        yield seller_id, f"{random.choice(SELLER_FIRST)} {random.choice(SELLER_LAST)}", joined_at


def category_rows() -> Iterator[Row]:
    for category_id, name in enumerate(CATEGORIES, start=1):
        yield category_id, name.lower(), name


PRICE = 5  # the place of the price in a row of products


def product_rows(random: Random, size: Size) -> Iterator[Row]:
    kinds = [(number, noun) for number, nouns in enumerate(CATEGORIES.values(), start=1) for noun in nouns]
    sellers = Popularity(random, size.sellers, exponent=0.5, flat_head=0.1)
    owners = sellers.draw(random, size.products)
    created = moments(random, STOCKED, YEAR, size.products)
    for product_id, (seller_id, created_at) in enumerate(zip(owners, created, strict=True), start=1):
        category_id, noun = random.choice(kinds)
        yield (
            product_id,
            seller_id,
            category_id,
            f"{random.choice(STYLES)} {random.choice(MATERIALS)} {noun}",
            " ".join(random.sample(DESCRIPTIONS, 8)),
            random.randrange(5, 400) * 100 + random.choice((0, 49, 90, 95, 99)),
            0 if random.random() < SOLD_OUT else random.randrange(1, 200),
            created_at,
        )


def review_rows(random: Random, size: Size, activity: Popularity, demand: Popularity) -> Iterator[Row]:
    pairs = distinct_pairs(size.reviews, partial(demand.draw, random), partial(activity.draw, random))
    stars = random.choices((1, 2, 3, 4, 5), weights=(6, 5, 10, 27, 52), k=size.reviews)
    written = moments(random, TRADING, 2 * YEAR, size.reviews)
    bodies = {
        given: [" ".join(chosen) for length in (1, 2, 3) for chosen in permutations(sentences, length)]
        for given, (_, sentences) in REVIEWS.items()
    }
    for review_id, ((product_id, author_id), given, created_at) in enumerate(
        zip(pairs, stars, written, strict=True), start=1
    ):
        titles, _ = REVIEWS[given]
        title, body = random.choice(titles), random.choice(bodies[given])
        yield review_id, product_id, author_id, given, title, body, created_at


def order_rows(random: Random, size: Size, activity: Popularity) -> Iterator[Row]:
    buyers = activity.draw(random, size.orders)
    statuses = random.choices(
        [OrderStatus.DELIVERED, OrderStatus.SHIPPED, OrderStatus.PAID, OrderStatus.CANCELLED],
        weights=(85, 5, 4, 6),
        k=size.orders,
    )
    placed = moments(random, TRADING, 2 * YEAR, size.orders)
    for order_id, (user_id, status, placed_at) in enumerate(
        zip(buyers, statuses, placed, strict=True), start=1
    ):
        yield order_id, user_id, status.value, placed_at


def order_item_rows(random: Random, size: Size, demand: Popularity, prices: list[int]) -> Iterator[Row]:
    orders = range(1, size.orders + 1)
    one_each = zip(orders, demand.draw(random, size.orders), strict=True)
    pairs = distinct_pairs(
        size.order_items,
        lambda count: random.choices(orders, k=count),
        partial(demand.draw, random),
        first=one_each,
    )
    quantities = random.choices((1, 2, 3, 4), weights=(78, 14, 5, 3), k=size.order_items)
    for item_id, ((order_id, product_id), quantity) in enumerate(
        zip(sorted(pairs), quantities, strict=True), start=1
    ):
        yield item_id, order_id, product_id, quantity, prices[product_id - 1]


def moments(random: Random, start: datetime, period: timedelta, count: int) -> list[datetime]:
    """Return `count` moments of the period, to the second, in their order."""
    seconds = sorted(random.choices(range(int(period.total_seconds())), k=count))
    return [start + timedelta(seconds=second) for second in seconds]


def distinct_pairs(count: int, draw_left: Draw, draw_right: Draw, first: Iterable[Pair] = ()) -> list[Pair]:
    """Return `count` different pairs: those in `first`, and drawn ones after them."""
    pairs = dict.fromkeys(first)
    while missing := count - len(pairs):
        pairs.update(dict.fromkeys(zip(draw_left(missing), draw_right(missing), strict=True)))
    return list(pairs)
