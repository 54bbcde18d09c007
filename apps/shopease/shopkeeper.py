"""What goes on in the shop while its pages are read: orders, reviews and new prices, one at a time."""

from datetime import datetime, timedelta
from random import Random

from sqlalchemy import func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from shopease.database import new_session
from shopease.models import Base, Order, OrderItem, OrderStatus, Product, Review, User

BUSY_PRODUCTS = (1320, 3314, 5375, 5934, 8775, 9039, 12708, 13649)
BUSY_USERS = (190, 5776, 6356, 7734, 12315, 12425, 12471, 17850)


def work(random: Random) -> None:
    """Let one thing happen, and commit it."""
    happens = random.choices((order, review, reprice), weights=(6, 3, 1))[0]
    with new_session.begin() as session:
        happens(session, random)


def order(session: Session, random: Random) -> None:
    product, user = busy(session, random)
    quantity = random.randint(1, 3)
    product.stock = max(0, product.stock - quantity)
    placed = Order(
        id=next_id(session, Order),
        user_id=user.id,
        status=OrderStatus.PAID,
        placed_at=later(session, Order.placed_at),
    )
    item = OrderItem(
        id=next_id(session, OrderItem),
        order_id=placed.id,
        product_id=product.id,
        quantity=quantity,
        unit_price_cents=product.price_cents,
    )
    session.add(placed)
    session.flush()
    session.add(item)


def review(session: Session, random: Random) -> None:
    product, user = busy(session, random)
    session.add(
        Review(
            id=next_id(session, Review),
            product_id=product.id,
            author_id=user.id,
            stars=random.randint(1, 5),
            title="As described",
            body="Arrived within two days, and does what it should.",
            created_at=later(session, Review.created_at),
        )
    )


def reprice(session: Session, random: Random) -> None:
    product, _ = busy(session, random)
    product.price_cents += random.randint(1, 100)  # never back, so that no answer comes twice


def busy(session: Session, random: Random) -> tuple[Product, User]:
    """A product and a user that are looked at, or where the data set is small, the last ones."""
    product = session.get(Product, random.choice(BUSY_PRODUCTS))
    user = session.get(User, random.choice(BUSY_USERS))
    return (
        product or session.scalars(select(Product).order_by(Product.id.desc()).limit(1)).one(),
        user or session.scalars(select(User).order_by(User.id.desc()).limit(1)).one(),
    )


def next_id(session: Session, kind: type[Base]) -> int:
    """The data set comes with its ids, so no sequence knows which are taken."""
    last: int = session.scalar(select(func.max(kind.__table__.c.id)))
    return last + 1


def later(session: Session, column: InstrumentedAttribute[datetime]) -> datetime:
    """A second after the latest: orders and reviews are shown the newest first."""
    return session.scalars(select(func.max(column))).one() + timedelta(seconds=1)
