from typing import Annotated, Literal

from fastapi import APIRouter, HTTPException, Query
from pydantic import BaseModel
from sqlalchemy import select

from shopease.database import DatabaseSession
from shopease.models import Category, Product
from shopease.parameters import Cents, PageNumber, Slug
from shopease.schemas import CategoryPage
from shopease.serializers import category_summary, product_card

PAGE_SIZE = 24
SORTS = {
    "price": (Product.price_cents, Product.id),
    "-price": (Product.price_cents.desc(), Product.id.desc()),
}

router = APIRouter(prefix="/categories", tags=["categories"])


class Filter(BaseModel):
    min_price: Cents | None = None
    max_price: Cents | None = None
    in_stock: bool = False
    sort: Literal["price", "-price"] = "price"
    page: PageNumber = 1


@router.get("/{slug}/products")
def list_category(session: DatabaseSession, slug: Slug, wanted: Annotated[Filter, Query()]) -> CategoryPage:
    category = session.scalar(select(Category).where(Category.slug == slug))
    if category is None:
        raise HTTPException(404, f"no category {slug}")

    offers = select(Product).where(Product.category_id == category.id)
    if wanted.min_price is not None:
        offers = offers.where(Product.price_cents >= wanted.min_price)
    if wanted.max_price is not None:
        offers = offers.where(Product.price_cents <= wanted.max_price)
    if wanted.in_stock:
        offers = offers.where(Product.stock > 0)
    offers = offers.order_by(*SORTS[wanted.sort]).limit(PAGE_SIZE).offset((wanted.page - 1) * PAGE_SIZE)
    products = session.scalars(offers).all()

    return CategoryPage(
        category=category_summary(category),
        page=wanted.page,
        products=[product_card(product) for product in products],
    )
