"""The defects that ShopEase has on purpose. A tool that finds all of them and nothing else is exact.

Lines are found by their text, so that the list does not rot when code moves. `test_seeded.py` checks this
list against what the application does: each entry is a defect, and there is no other.
"""

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

ROOT = Path(__file__).parent.parent

CARD_ROUTES = ("/products", "/categories/{slug}/products")


@dataclass(frozen=True, slots=True)
class Site:
    """A line of the application: the one that holds `text` in `function` of `file`."""

    file: str
    function: str
    text: str

    @property
    def path(self) -> Path:
        return ROOT / self.file

    @property
    def line(self) -> int:
        source = self.path.read_text()
        first, last = _span(ast.parse(source), self.function)
        lines = source.splitlines()
        found = [number for number in range(first, last + 1) if self.text in lines[number - 1]]
        if len(found) != 1:
            raise LookupError(f"{self.text!r} is on {len(found)} lines of {self.function} in {self.file}")
        return found[0]


def _span(tree: ast.AST, function: str) -> tuple[int, int]:
    for name in function.split("."):
        tree = next(
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name
        )
    return tree.lineno, tree.end_lineno


@dataclass(frozen=True, slots=True)
class NPlusOne:
    """A relationship read on each of many rows, loaded by one statement each time.

    `cure` is how the query that it begins with would load it at once, at each of `queries`.
    """

    code: ClassVar[str] = "UP101"
    relationship: str
    site: Site
    routes: tuple[str, ...]
    cure: str
    queries: tuple[Site, ...]


@dataclass(frozen=True, slots=True)
class MissingIndex:
    """A search of a whole table.

    An index answers it when it is on `table` and begins with `columns`; any of the sites may be named.
    """

    code: ClassVar[str] = "UP201"
    table: str
    columns: tuple[str, ...]
    sites: tuple[Site, ...]
    routes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LargeResponse:
    """A full page is more than 12 000 bytes of JSON that compress well; other routes stay below 8 000."""

    code: ClassVar[str] = "UP301"
    route: str


RATING = Site("models.py", "Product.rating", "for review in self.reviews]")
CARD_SELLER = Site("serializers.py", "product_card", "product.seller")
REVIEW_AUTHOR = Site("serializers.py", "review_entry", "author = review.author")
AUTHOR_REVIEWS = Site("serializers.py", "review_entry", "len(author.reviews)")
ORDER_TOTAL = Site("models.py", "Order.total_cents", "for item in self.items)")
ORDERED_PRODUCT = Site("serializers.py", "order_summary", "item.product.name")
PRODUCT_SALES = Site("reporting.py", "sales_of", "product.order_items")
SOLD_ORDER = Site("reporting.py", "is_sale", "item.order.status")
NEWEST_PRODUCTS = Site("routers/products.py", "list_products", "session.scalars(newest)")
CATEGORY_PRODUCTS = Site("routers/categories.py", "list_category", "session.scalars(offers)")
USER_ORDERS = Site("routers/users.py", "list_orders", "session.scalars(newest)")
ONE_PRODUCT = Site("routers/products.py", "get_product", "session.get(")
ONE_SELLER = Site("routers/sellers.py", "get_dashboard", "session.get(")
SELLER_PRODUCTS = Site("reporting.py", "dashboard", "seller.products")

DETAIL, ORDERS, DASHBOARD = (
    "/products/{product_id}",
    "/users/{user_id}/orders",
    "/sellers/{seller_id}/dashboard",
)

OF_CARDS = "select(Product).options({})"
OF_DETAIL = "session.get(Product, …, options=[selectinload(Product.reviews){}])"
OF_ORDERS = "select(Order).options(selectinload(Order.items){})"
OF_DASHBOARD = "session.get(Seller, …, options=[selectinload(Seller.products){}])"

N_PLUS_ONES = (
    NPlusOne(
        "Product.seller",
        CARD_SELLER,
        CARD_ROUTES,
        OF_CARDS.format("selectinload(Product.seller)"),
        (CATEGORY_PRODUCTS, NEWEST_PRODUCTS),
    ),
    NPlusOne(
        "Product.reviews",
        RATING,
        CARD_ROUTES,
        OF_CARDS.format("selectinload(Product.reviews)"),
        (CATEGORY_PRODUCTS, NEWEST_PRODUCTS),
    ),
    NPlusOne(
        "Review.author",
        REVIEW_AUTHOR,
        (DETAIL,),
        OF_DETAIL.format(".selectinload(Review.author)"),
        (ONE_PRODUCT,),
    ),
    NPlusOne(
        "User.reviews",
        AUTHOR_REVIEWS,
        (DETAIL,),
        OF_DETAIL.format(".selectinload(Review.author).selectinload(User.reviews)"),
        (ONE_PRODUCT,),
    ),
    NPlusOne("Order.items", ORDER_TOTAL, (ORDERS,), OF_ORDERS.format(""), (USER_ORDERS,)),
    NPlusOne(
        "OrderItem.product",
        ORDERED_PRODUCT,
        (ORDERS,),
        OF_ORDERS.format(".selectinload(OrderItem.product)"),
        (USER_ORDERS,),
    ),
    NPlusOne(
        "Product.order_items",
        PRODUCT_SALES,
        (DASHBOARD,),
        OF_DASHBOARD.format(".selectinload(Product.order_items)"),
        (ONE_SELLER,),
    ),
    NPlusOne(
        "OrderItem.order",
        SOLD_ORDER,
        (DASHBOARD,),
        OF_DASHBOARD.format(".selectinload(Product.order_items).selectinload(OrderItem.order)"),
        (ONE_SELLER,),
    ),
)

MISSING_INDEXES = (
    MissingIndex("products", ("created_at",), (NEWEST_PRODUCTS,), ("/products",)),
    MissingIndex("products", ("category_id", "price_cents"), (CATEGORY_PRODUCTS,), CARD_ROUTES[1:]),
    MissingIndex("products", ("seller_id",), (SELLER_PRODUCTS,), (DASHBOARD,)),
    MissingIndex("reviews", ("product_id",), (RATING,), (*CARD_ROUTES, DETAIL)),
    MissingIndex("reviews", ("author_id",), (AUTHOR_REVIEWS,), (DETAIL,)),
    MissingIndex("orders", ("user_id",), (USER_ORDERS,), (ORDERS,)),
    MissingIndex("order_items", ("order_id",), (ORDER_TOTAL,), (ORDERS,)),
    MissingIndex("order_items", ("product_id",), (PRODUCT_SALES,), (DASHBOARD,)),
)

LARGE_RESPONSES = tuple(LargeResponse(route) for route in CARD_ROUTES)

SEEDED = (*N_PLUS_ONES, *MISSING_INDEXES, *LARGE_RESPONSES)
