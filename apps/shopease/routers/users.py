from fastapi import APIRouter, HTTPException
from sqlalchemy import select

from shopease.database import DatabaseSession
from shopease.models import Order, User
from shopease.parameters import Id, PageNumber
from shopease.schemas import OrderPage
from shopease.serializers import order_summary

PAGE_SIZE = 10

router = APIRouter(prefix="/users", tags=["users"])


@router.get("/{user_id}/orders")
def list_orders(session: DatabaseSession, user_id: Id, page: PageNumber = 1) -> OrderPage:
    if session.get(User, user_id) is None:
        raise HTTPException(404, f"no user {user_id}")
    newest = (
        select(Order)
        .where(Order.user_id == user_id)
        .order_by(Order.placed_at.desc(), Order.id.desc())
        .limit(PAGE_SIZE)
        .offset((page - 1) * PAGE_SIZE)
    )
    orders = session.scalars(newest).all()
    return OrderPage(user_id=user_id, page=page, orders=[order_summary(order) for order in orders])
