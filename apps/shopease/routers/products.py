from fastapi import APIRouter, HTTPException
from sqlalchemy import select

from shopease.database import DatabaseSession
from shopease.models import Product
from shopease.parameters import Id, PageNumber
from shopease.schemas import ProductDetail, ProductPage
from shopease.serializers import product_card, product_detail

PAGE_SIZE = 24

router = APIRouter(prefix="/products", tags=["products"])


@router.get("")
def list_products(session: DatabaseSession, page: PageNumber = 1) -> ProductPage:
    newest = (
        select(Product)
        .order_by(Product.created_at.desc(), Product.id.desc())
        .limit(PAGE_SIZE)
        .offset((page - 1) * PAGE_SIZE)
    )
    products = session.scalars(newest).all()
    return ProductPage(page=page, products=[product_card(product) for product in products])


@router.get("/{product_id}")
def get_product(session: DatabaseSession, product_id: Id) -> ProductDetail:
    product = session.get(Product, product_id)
    if product is None:
        raise HTTPException(404, f"no product {product_id}")
    return product_detail(product)
