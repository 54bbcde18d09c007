"""The tables. Money is in cents, times are in UTC without a zone."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import ForeignKey, MetaData, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class OrderStatus(StrEnum):
    PAID = "paid"
    SHIPPED = "shipped"
    DELIVERED = "delivered"
    CANCELLED = "cancelled"


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "pk": "%(table_name)s_pkey",
            "uq": "%(table_name)s_%(column_0_name)s_key",
            "fk": "%(table_name)s_%(column_0_name)s_fkey",
        }
    )


class User(Base):
    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(120))
    email: Mapped[str] = mapped_column(String(254), unique=True)
    joined_at: Mapped[datetime]

    reviews: Mapped[list["Review"]] = relationship(back_populates="author")


class Seller(Base):
    __tablename__ = "sellers"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(120))
    joined_at: Mapped[datetime]

    products: Mapped[list["Product"]] = relationship(back_populates="seller", order_by="Product.id")


class Category(Base):
    __tablename__ = "categories"

    id: Mapped[int] = mapped_column(primary_key=True)
    slug: Mapped[str] = mapped_column(String(60), unique=True)
    name: Mapped[str] = mapped_column(String(120))


class Product(Base):
    __tablename__ = "products"

    id: Mapped[int] = mapped_column(primary_key=True)
    seller_id: Mapped[int] = mapped_column(ForeignKey("sellers.id"))
    category_id: Mapped[int] = mapped_column(ForeignKey("categories.id"))
    name: Mapped[str] = mapped_column(String(200))
    description: Mapped[str] = mapped_column(Text)
    price_cents: Mapped[int]
    stock: Mapped[int]
    created_at: Mapped[datetime]

    seller: Mapped[Seller] = relationship(back_populates="products")
    category: Mapped[Category] = relationship()
    reviews: Mapped[list["Review"]] = relationship(
        back_populates="product", order_by="Review.created_at.desc(), Review.id.desc()"
    )
    order_items: Mapped[list["OrderItem"]] = relationship(back_populates="product", order_by="OrderItem.id")

    @property
    def rating(self) -> float | None:
        """Average stars, to two decimals; None before the first review."""
        stars = [review.stars for review in self.reviews]
        return round(sum(stars) / len(stars), 2) if stars else None


class Review(Base):
    __tablename__ = "reviews"

    id: Mapped[int] = mapped_column(primary_key=True)
    product_id: Mapped[int] = mapped_column(ForeignKey("products.id"))
    author_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    stars: Mapped[int]
    title: Mapped[str] = mapped_column(String(120))
    body: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime]

    product: Mapped[Product] = relationship(back_populates="reviews")
    author: Mapped[User] = relationship(back_populates="reviews")


class Order(Base):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    status: Mapped[str] = mapped_column(String(12))
    placed_at: Mapped[datetime]

    items: Mapped[list["OrderItem"]] = relationship(back_populates="order", order_by="OrderItem.id")

    @property
    def total_cents(self) -> int:
        return sum(item.total_cents for item in self.items)


class OrderItem(Base):
    __tablename__ = "order_items"

    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"))
    product_id: Mapped[int] = mapped_column(ForeignKey("products.id"))
    quantity: Mapped[int]
    unit_price_cents: Mapped[int]

    order: Mapped[Order] = relationship(back_populates="items")
    product: Mapped[Product] = relationship(back_populates="order_items")

    @property
    def total_cents(self) -> int:
        return self.quantity * self.unit_price_cents
