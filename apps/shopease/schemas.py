"""What the API answers."""

from datetime import datetime

from pydantic import BaseModel


class SellerSummary(BaseModel):
    id: int
    name: str


class CategorySummary(BaseModel):
    slug: str
    name: str


class ProductCard(BaseModel):
    """A product as the shop's lists show it."""

    id: int
    name: str
    description: str
    price_cents: int
    in_stock: bool
    seller: SellerSummary
    rating: float | None
    review_count: int


class ProductPage(BaseModel):
    page: int
    products: list[ProductCard]


class CategoryPage(BaseModel):
    category: CategorySummary
    page: int
    products: list[ProductCard]


class ReviewAuthor(BaseModel):
    user_id: int
    name: str
    review_count: int


class ReviewEntry(BaseModel):
    id: int
    stars: int
    title: str
    body: str
    created_at: datetime
    author: ReviewAuthor


class ProductDetail(BaseModel):
    id: int
    name: str
    description: str
    price_cents: int
    stock: int
    created_at: datetime
    category: CategorySummary
    seller: SellerSummary
    rating: float | None
    review_count: int
    reviews: list[ReviewEntry]


class OrderLine(BaseModel):
    product_id: int
    product: str
    quantity: int
    unit_price_cents: int


class OrderSummary(BaseModel):
    id: int
    status: str
    placed_at: datetime
    total_cents: int
    items: list[OrderLine]


class OrderPage(BaseModel):
    user_id: int
    page: int
    orders: list[OrderSummary]


class ProductSales(BaseModel):
    product_id: int
    name: str
    stock: int
    units: int
    revenue_cents: int


class RecentSale(BaseModel):
    order_id: int
    placed_at: datetime
    status: str
    product: str
    quantity: int
    total_cents: int


class SellerDashboard(BaseModel):
    seller: SellerSummary
    units: int
    revenue_cents: int
    order_count: int
    products: list[ProductSales]
    recent_sales: list[RecentSale]
