"""What UP101 tells to write is written, and the N+1 is gone."""

from __future__ import annotations

import inspect
import re
from contextlib import closing
from contextvars import ContextVar
from pathlib import Path

import pytest
from sqlalchemy import ForeignKey, create_engine, select
from sqlalchemy import inspect as mapper_of
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    aliased,
    defaultload,  # noqa: F401 - what is written uses it
    joinedload,
    mapped_column,
    relationship,
    selectin_polymorphic,  # noqa: F401 - what is written uses it
    selectinload,
)
from sqlalchemy.pool import StaticPool

from upshift.diagnose import Observation, diagnose
from upshift.diagnose.eager_loading import EagerLoad, LoadPaths
from upshift.record import CallSite, LazyLoad, Record, Statement
from upshift.settings import Settings
from upshift.sql import Capture


class Base(DeclarativeBase):
    pass


class Shop(Base):
    __tablename__ = "shop"
    id: Mapped[int] = mapped_column(primary_key=True)
    staff: Mapped[list[Employee]] = relationship(back_populates="shop", order_by="Employee.id")


class Employee(Base):
    __tablename__ = "employee"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    shop_id: Mapped[int] = mapped_column(ForeignKey("shop.id"))
    shop: Mapped[Shop] = relationship(back_populates="staff")
    orders: Mapped[list[Order]] = relationship(back_populates="seller", order_by="Order.id")
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "employee"}


class Manager(Employee):
    __tablename__ = "manager"
    id: Mapped[int] = mapped_column(ForeignKey("employee.id"), primary_key=True)
    reports: Mapped[list[Report]] = relationship(order_by="Report.id")
    __mapper_args__ = {"polymorphic_identity": "manager"}


class Report(Base):
    __tablename__ = "report"
    id: Mapped[int] = mapped_column(primary_key=True)
    manager_id: Mapped[int] = mapped_column(ForeignKey("manager.id"))


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    seller_id: Mapped[int] = mapped_column(ForeignKey("employee.id"))
    seller: Mapped[Employee] = relationship(back_populates="orders")
    items: Mapped[list[Item]] = relationship(back_populates="order", order_by="Item.id")


class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"))
    category_id: Mapped[int] = mapped_column(ForeignKey("category.id"))
    order: Mapped[Order] = relationship(back_populates="items")
    category: Mapped[Category] = relationship()


class Category(Base):
    __tablename__ = "category"
    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("category.id"))
    children: Mapped[list[Category]] = relationship(order_by="Category.id")


@pytest.fixture(scope="module")
def engine():
    engine = create_engine("sqlite://", poolclass=StaticPool)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all(Category(id=n, parent_id=n // 2 or None) for n in range(1, 32))
        for n in range(1, 5):
            staff = [Employee(), *(Manager(reports=[Report(), Report()]) for _ in range(3))]
            session.add(Shop(id=n, staff=staff))
            for each in staff:
                each.orders = [Order(items=[Item(category_id=n * 5 + i) for i in range(3)]) for _ in range(3)]
        session.commit()
    yield engine
    engine.dispose()


def orders(session, options):
    found = session.scalars(select(Order).options(*options))
    return [[(item.id, item.category.id) for item in order.items] for order in found]


def orders_with_items(session, options):
    found = session.scalars(select(Order).options(selectinload(Order.items), *options))
    return [[(item.id, item.category.id) for item in order.items] for order in found]


def orders_with_items_joined(session, options):
    found = session.scalars(select(Order).options(joinedload(Order.items), *options)).unique()
    return [[(item.id, item.category.id) for item in order.items] for order in found]


def one_shop(session, options):
    shop = session.get(Shop, 1, options=options)
    return [[order.id for order in employee.orders] for employee in shop.staff]


def one_shop_by_a_query(session, options):
    shop = session.scalars(select(Shop).where(Shop.id == 1).options(*options)).one()
    return [[order.id for order in employee.orders] for employee in shop.staff]


def one_shop_in_depth(session, options):
    shop = session.get_one(Shop, 1, options=options)
    return [
        [[item.category.id for item in order.items] for order in employee.orders] for employee in shop.staff
    ]


def round_trip(session, options):
    found = session.scalars(select(Order).options(*options))
    return [[other.id for other in order.seller.orders] for order in found]


def reports_of_staff(session, options):
    found = session.scalars(select(Employee).options(*options))
    return [[report.id for report in each.reports] for each in found if isinstance(each, Manager)]


def reports_of_a_shop(session, options):
    shop = session.get(Shop, 2, options=options)
    return [[report.id for report in each.reports] for each in shop.staff if isinstance(each, Manager)]


def orders_of_managers(session, options):
    return [
        [order.id for order in each.orders] for each in session.scalars(select(Manager).options(*options))
    ]


def tree(session, options):
    def walk(category):
        return category.id, [walk(child) for child in category.children]

    top = select(Category).where(Category.parent_id.is_(None)).options(*options)
    return [walk(category) for category in session.scalars(top)]


SHOP = "session.get(Shop, …, options=[selectinload(Shop.staff)"
WALKS = {
    orders: {
        "select(Order).options(selectinload(Order.items))",
        "select(Order).options(selectinload(Order.items).selectinload(Item.category))",
    },
    orders_with_items: {"select(Order).options(defaultload(Order.items).selectinload(Item.category))"},
    orders_with_items_joined: {"select(Order).options(defaultload(Order.items).selectinload(Item.category))"},
    one_shop: {f"{SHOP}.selectinload(Employee.orders)])"},
    one_shop_by_a_query: {"select(Shop).options(selectinload(Shop.staff).selectinload(Employee.orders))"},
    one_shop_in_depth: {
        f"{SHOP}.selectinload(Employee.orders)])",
        f"{SHOP}.selectinload(Employee.orders).selectinload(Order.items)])",
        f"{SHOP}.selectinload(Employee.orders).selectinload(Order.items).selectinload(Item.category)])",
    },
    round_trip: {
        "select(Order).options(selectinload(Order.seller))",
        "select(Order).options(selectinload(Order.seller).selectinload(Employee.orders))",
    },
    reports_of_staff: {
        "select(Employee).options(selectin_polymorphic(Employee, [Manager]), selectinload(Manager.reports))"
    },
    reports_of_a_shop: {f"{SHOP[:-1]}.of_type(Manager)).selectinload(Manager.reports)])"},
    orders_of_managers: {"select(Manager).options(selectinload(Employee.orders))"},
    tree: {"select(Category).options(selectinload(Category.children, recursion_depth=-1))"},
}


def observe(engine, walk, options=()):
    """Return what a walk sees, the statements that it sends, and what is found in them."""
    record = Record("GET", "/", 0.0)
    with (
        closing(Capture([engine], ContextVar("current", default=record))),
        Session(engine) as session,
    ):
        seen = walk(session, options)
    found = diagnose(Observation(records=(record,), statements=(), settings=Settings()))
    return seen, record.statements, found


def written(finding):
    return finding.fix[0].partition("  # at ")[0]


def options_of(finding):
    arguments = re.search(r"(?:\.options\(|options=\[)(.*?)\]?\)$", written(finding))[1]
    return eval(f"[{arguments}]", globals())


def place(walk, text):
    lines, first = inspect.getsourcelines(walk)
    return first + next(number for number, line in enumerate(lines) if text in line)


@pytest.mark.parametrize("walk", WALKS, ids=lambda walk: walk.__name__)
def test_the_fix_names_the_whole_way_from_the_query(engine, walk):
    _, _, found = observe(engine, walk)

    assert {written(finding) for finding in found} == WALKS[walk]


@pytest.mark.parametrize("walk", WALKS, ids=lambda walk: walk.__name__)
def test_what_the_fixes_say_removes_all_repetition(engine, walk):
    seen, before, found = observe(engine, walk)
    options = [option for finding in found for option in options_of(finding)]

    same, after, left = observe(engine, walk, options)

    assert same == seen
    assert left == ()
    assert len(after) < len(before)


def test_what_was_loaded_alone_by_no_n_plus_one_is_none(engine):
    def alone(session, _):
        first, second = session.get(Order, 1), session.get(Shop, 2)
        return first.items, second.staff, [first.seller.orders, first.seller.shop]

    assert observe(engine, alone)[2] == ()


def test_the_fix_tells_the_line_that_sends_the_query(engine):
    _, _, (found,) = observe(engine, one_shop)

    line = place(one_shop, "session.get")
    assert found.fix[0].endswith(f"  # at diagnose/{Path(__file__).name}:{line}")


def test_one_fix_for_several_queries_tells_the_line_of_each(engine):
    def twice(session, options):
        first = session.scalars(select(Order).where(Order.id < 9).options(*options)).all()
        for order in first:
            order.items  # noqa: B018 - read for its lazy load
        second = session.scalars(select(Order).where(Order.id > 8).options(*options)).all()
        return [len(order.items) for order in (*first, *second)]

    _, _, found = observe(engine, twice)

    assert len({written(finding) for finding in found}) == 1
    assert {finding.fix[0].rpartition(":")[2] for finding in found} == {
        str(place(twice, "Order.id < 9")),
        str(place(twice, "Order.id > 8")),
    }


def test_an_alias_is_told_as_one(engine):
    def aliases(session, options):
        employee = aliased(Employee)
        return [each.orders for each in session.scalars(select(employee).options(*options))]

    _, _, (found,) = observe(engine, aliases)

    assert written(found) == "select(aliased(Employee)).options(selectinload(aliased(Employee).orders))"


def test_a_relationship_that_leads_back_to_itself_is_followed_once(engine):
    _, _, found = observe(engine, round_trip)

    assert all(finding.fix[0].count("Employee.orders") <= 1 for finding in found)


@pytest.mark.parametrize(
    ("condition", "is_get"),
    [
        ("shop.id = %(pk_1)s::INTEGER", True),
        ("shop.id = :pk_1", True),
        ("shop.id = %(id_1)s::INTEGER", False),
        ("shop.id = :id_1", False),
        ("shop.id = $1::INTEGER", True),
        ("shop.id = $1::TIMESTAMP WITHOUT TIME ZONE", True),
        ("shop.id = ?", True),
        ("shop.id = %s", True),
        ("shop.id = ? AND shop.closed = ?", False),
        ("shop.id > ?", False),
        ("shop.id = ?\n LIMIT ? OFFSET ?", False),
    ],
)
def test_a_get_is_told_from_a_select_by_key_in_every_style_of_parameters(condition, is_get):
    record = Record("GET", "/", 0.0)
    line = place(one_shop, "session.get")
    query = Statement(
        f"SELECT shop.id \nFROM shop \nWHERE {condition}", 0.0, CallSite(__file__, line, "one_shop")
    )
    lazy = Statement("SELECT …", 0.0)
    path = (mapper_of(Shop), Shop.staff.property)
    lazy.lazy_load = LazyLoad("Shop.staff", "Employee", 1, path)
    record.add(query)
    record.add(lazy)

    (load,) = LoadPaths(record).eager_loads([lazy])

    assert load == EagerLoad("Shop", "selectinload(Shop.staff)", is_get, query.site)
