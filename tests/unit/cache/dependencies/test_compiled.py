"""What statements do that SQLAlchemy has compiled: asked of those that are sent to a real SQLite."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest
from sqlalchemy import (
    ForeignKey,
    String,
    Uuid,
    and_,
    bindparam,
    create_engine,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    text,
    union_all,
    update,
)
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    aliased,
    joinedload,
    mapped_column,
    relationship,
    selectinload,
)

from upshift.cache.dependencies import StatementTables
from upshift.cache.dependencies.rows import MAX_ROWS


class Base(DeclarativeBase):
    pass


class Shop(Base):
    __tablename__ = "shop"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(default="")
    products: Mapped[list[Product]] = relationship(back_populates="shop")


class Product(Base):
    __tablename__ = "product"
    id: Mapped[int] = mapped_column(primary_key=True)
    sku: Mapped[str | None] = mapped_column(unique=True)
    price: Mapped[int] = mapped_column(default=0)
    shop_id: Mapped[int | None] = mapped_column(ForeignKey("shop.id", ondelete="CASCADE"))
    shop: Mapped[Shop | None] = relationship(back_populates="products")


class Stock(Base):
    __tablename__ = "stock"
    place: Mapped[str] = mapped_column(String(20), primary_key=True)
    product_id: Mapped[int] = mapped_column(ForeignKey("product.id", onupdate="CASCADE"), primary_key=True)
    count: Mapped[int] = mapped_column(default=0)


class Token(Base):
    __tablename__ = "token"
    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True, default=uuid4)


class Person(Base):
    __tablename__ = "person"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(default="person")
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}


class Engineer(Person):
    __tablename__ = "engineer"
    id: Mapped[int] = mapped_column(ForeignKey("person.id"), primary_key=True)
    level: Mapped[int] = mapped_column(default=0)
    __mapper_args__ = {"polymorphic_identity": "engineer"}


class Seen:
    """What was sent, from a listener in the place of `CommitHooks`."""

    def __init__(self, engine):
        self.known = StatementTables()
        self.all = []
        for name in ("do_execute", "do_executemany", "do_execute_no_params"):
            setattr(engine.dialect, name, self._wrapped(getattr(engine.dialect, name)))

    def _wrapped(self, execute):
        def wrapped(cursor, sql, *arguments):
            effect = self.known.of_context(arguments[-1], sql)
            self.all.append(self.known.complete(effect, arguments[-1], arguments[0]))
            return execute(cursor, sql, *arguments)

        return wrapped

    def read(self):
        return sorted(frozenset().union(*(each.read for each in self.all)))

    def written(self):
        return sorted(frozenset().union(*(each.written for each in self.all)))


@pytest.fixture
def seen_and_session():
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Shop(id=1, products=[Product(id=7, sku="a"), Product(id=8, sku="b")]))
        session.add(Stock(place="north", product_id=7))
        session.add(Engineer(id=3))
        session.commit()
        yield Seen(engine), session
    engine.dispose()


P, S = Product, Shop
OTHER = aliased(Product)

READS = {
    "equality": (select(P).where(P.id == 7), ["row:product:7", "rows:product"]),
    "reversed": (select(P.price).where(bindparam(None, 7) == P.id), ["row:product:7", "rows:product"]),
    "and": (select(P).where(and_(P.price > 1, P.id == 7)), ["row:product:7", "rows:product"]),
    "in": (select(P).where(P.id.in_([7, 8])), ["row:product:7", "row:product:8", "rows:product"]),
    "nothing": (select(P).where(P.id.in_([])), ["rows:product"]),
    "or": (select(P).where(or_(P.id == 7, P.price == 0)), ["table:product"]),
    "not": (select(P).where(P.id != 7), ["table:product"]),
    "not in": (select(P).where(P.id.not_in([7])), ["table:product"]),
    "range": (select(P).where(P.id <= 7), ["table:product"]),
    "null": (select(P).where(P.id == None), ["table:product"]),  # noqa: E711
    "expression": (select(P).where(P.id + 1 == 7), ["table:product"]),
    "function": (select(P).where(P.id == func.abs(7)), ["table:product"]),
    "other column": (select(P).where(P.price == 7), ["table:product"]),
    "too many": (select(P).where(P.id.in_(range(MAX_ROWS + 1))), ["table:product"]),
    "as many": (select(P).where(P.id.in_([7] * 999)), ["row:product:7", "rows:product"]),
    "float": (select(P).where(P.id == bindparam(None, 7.0)), ["table:product"]),
    "composite": (
        select(Stock).where(Stock.place == "North", Stock.product_id == 7),
        ["row:stock:north:7", "rows:stock"],
    ),
    "composite in": (
        select(Stock).where(Stock.place.in_(["a", "b"]), Stock.product_id == 7),
        ["row:stock:a:7", "row:stock:b:7", "rows:stock"],
    ),
    "part of composite": (select(Stock).where(Stock.product_id == 7), ["table:stock"]),
    "join": (
        select(P).join(S).where(P.id == 7),
        ["row:product:7", "rows:product", "table:shop"],
    ),
    "joined by key": (
        select(Stock).join(P, P.id == Stock.product_id).where(P.id == 7, Stock.place == "x"),
        ["row:product:7", "row:stock:x:7", "rows:product", "rows:stock"],
    ),
    "outer join, the side that is kept": (
        select(P).outerjoin(OTHER, OTHER.id == P.id).where(P.id == 7),
        ["row:product:7", "rows:product"],
    ),
    "outer join, ON names the side that is kept": (
        select(P).outerjoin(OTHER, and_(P.id == 7, OTHER.id == 8)),
        ["table:product"],
    ),
    "outer join, ON names the side that is filled up": (
        select(S.id).outerjoin(P, P.id == 7),
        ["row:product:7", "rows:product", "table:shop"],
    ),
    "outer join, the side that is filled up pins nothing": (
        select(P).outerjoin(OTHER, and_(OTHER.id == P.id, OTHER.id == 7)),
        ["table:product"],
    ),
    "full join": (select(P).join(S, P.shop_id == 7, full=True), ["table:product", "table:shop"]),
    "alias": (select(OTHER).where(OTHER.id == 7), ["row:product:7", "rows:product"]),
    "only one of two": (select(P).join(OTHER, OTHER.price == P.price).where(P.id == 7), ["table:product"]),
    "subquery": (
        select(S.id).where(S.id == 1, S.id.in_(select(P.shop_id).where(P.id == 7))),
        ["row:product:7", "row:shop:1", "rows:product", "rows:shop"],
    ),
    "one pinned, one in a subquery": (
        select(P).where(P.id == 7, P.price == select(func.max(P.price)).scalar_subquery()),
        ["table:product"],
    ),
    "from a subquery": (
        select(select(P.price).where(P.id == 7).subquery()),
        ["row:product:7", "rows:product"],
    ),
    "pinned outside of a subquery": (
        select(sub := select(P.id).subquery()).where(sub.c.id == 7),
        ["table:product"],
    ),
    "cte": (select(select(P.price).where(P.id == 7).cte()), ["row:product:7", "rows:product"]),
    "union": (
        union_all(select(P.id).where(P.id == 7), select(P.id).where(P.id == 8)),
        ["row:product:7", "row:product:8", "rows:product"],
    ),
    "union with all": (union_all(select(P.id).where(P.id == 7), select(P.id)), ["table:product"]),
    "exists": (
        select(S.id).where(S.id == 1, exists().where(P.id == 7)),
        ["row:product:7", "row:shop:1", "rows:product", "rows:shop"],
    ),
    "joined inheritance": (
        select(Engineer).where(Engineer.id == 3),
        ["row:engineer:3", "row:person:3", "rows:engineer", "rows:person"],
    ),
    "for update": (select(P).where(P.id == 7).with_for_update(), ["row:product:7", "rows:product"]),
    "text": (text("SELECT * FROM product WHERE id = :id"), ["row:product:7", "rows:product"]),
    "text within": (select(P).where(text("id = :id")), ["row:product:7", "rows:product"]),
}  # fmt: skip


@pytest.mark.parametrize("name", READS)
def test_a_read_depends_on_the_rows_that_it_pins_or_on_the_table(seen_and_session, name):
    seen, session = seen_and_session
    statement, expected = READS[name]
    session.execute(select(Product.id)).all()  # the mapping is known from here on
    seen.all.clear()

    session.execute(statement, {"id": 7} if name.startswith("text") else {}).all()

    assert seen.read() == expected
    assert seen.written() == []


def test_the_orm_reads_by_key_wherever_it_can(seen_and_session):
    seen, session = seen_and_session

    product = session.get(Product, 7)
    assert seen.read() == ["row:product:7", "rows:product"]
    seen.all.clear()
    assert product.shop.name == ""
    assert seen.read() == ["row:shop:1", "rows:shop"]
    seen.all.clear()
    assert len(product.shop.products) == 2
    assert seen.read() == ["table:product"]
    session.expire_all()
    seen.all.clear()
    assert product.price == 0
    assert seen.read() == ["row:product:7", "rows:product"]
    session.expire_all()
    seen.all.clear()
    session.scalars(select(Product).where(Product.id == 7).options(selectinload(Product.shop))).all()
    assert seen.read() == ["row:product:7", "row:shop:1", "rows:product", "rows:shop"]
    session.expire_all()
    seen.all.clear()
    session.get(Product, 8, options=[joinedload(Product.shop)])
    assert seen.read() == ["row:product:8", "rows:product", "table:shop"]
    session.expire_all()
    seen.all.clear()
    session.get(Person, 3)
    assert seen.read() == ["row:person:3", "rows:person"]


def orm_update(session):
    session.get(Product, 7).price = 5


def orm_updates(session):
    session.get(Product, 7).price = session.get(Product, 8).price = 5


def orm_delete(session):
    session.delete(session.get(Stock, ("north", 7)))


def orm_insert(session):
    session.add(Product(id=9))


def orm_key(session):
    session.get(Product, 8).id = 10


def orm_default(session):
    session.add(Token(id=UUID(int=5)))


def core(statement, parameters=None):
    return lambda session: session.execute(statement, parameters)


ALL_PRODUCTS = ["rows:product", "table:product"]
ROW_7 = ["row:product:7", "table:product"]
ROWS_7_8 = ["row:product:7", "row:product:8", "table:product"]
UPSERT = sqlite_insert(P).values(id=7, sku="a")
WRITES = {
    "orm update": (orm_update, ROW_7),
    "orm updates": (orm_updates, ROWS_7_8),
    "orm delete": (orm_delete, ["row:stock:north:7", "table:stock"]),
    "orm insert": (orm_insert, ["row:product:9", "table:product"]),
    "orm key": (orm_key, sorted([*ALL_PRODUCTS, "rows:stock", "table:stock"])),
    "client default": (orm_default, [f"row:token:{UUID(int=5).hex}", "table:token"]),
    "update": (core(update(P).where(P.id == 7).values(price=1)), ROW_7),
    "update in": (core(update(P).where(P.id.in_([7, 8])).values(price=1)), ROWS_7_8),
    "update all": (core(update(P).values(price=1)), ALL_PRODUCTS),
    "update or": (core(update(P).where(or_(P.id == 7, P.sku == "b")).values(price=1)), ALL_PRODUCTS),
    "update many": (
        core(update(P.__table__).where(P.id == bindparam("b")).values(price=1), [{"b": 7}, {"b": 8}]),
        ROWS_7_8,
    ),
    "update by primary key": (core(update(P), [{"id": 7, "price": 1}, {"id": 8, "price": 2}]), ROWS_7_8),
    "update of the key": (
        core(update(P).where(P.id == 8).values(id=9)),
        sorted([*ALL_PRODUCTS, "rows:stock", "table:stock"]),
    ),
    "delete with a cascade": (
        core(delete(S).where(S.id == 1)),
        sorted([*ALL_PRODUCTS, "row:shop:1", "rows:stock", "table:shop", "table:stock"]),
    ),
    "update without": (core(update(S).where(S.id == 1).values(name="x")), ["row:shop:1", "table:shop"]),
    "insert": (core(insert(P).values(id=9)), ["row:product:9", "table:product"]),
    "insert many": (
        core(insert(P.__table__), [{"id": 9}, {"id": 10}]),
        ["row:product:10", "row:product:9", "table:product"],
    ),
    "insert too many": (
        core(insert(P.__table__), [{"id": number} for number in range(100, 101 + MAX_ROWS)]),
        ALL_PRODUCTS,
    ),
    "insert values": (core(insert(P).values([{"id": 9}, {"id": 10}])), ALL_PRODUCTS),
    "insert from select": (core(insert(P).from_select(["id"], select(P.id + 100))), ALL_PRODUCTS),
    "insert an expression": (
        core(insert(P).values(id=select(func.max(P.id) + 1).scalar_subquery())),
        ["table:product"],  # and the row, once it is told
    ),
    "replace": (
        core(insert(S).prefix_with("OR REPLACE").values(id=1)),
        sorted([*ALL_PRODUCTS, "rows:shop", "rows:stock", "table:shop", "table:stock"]),
    ),
    "update or replace": (
        core(update(P).prefix_with("OR REPLACE").where(P.id == 7).values(sku="b")),
        sorted([*ALL_PRODUCTS]),
    ),
    "upsert by key": (core(UPSERT.on_conflict_do_update(index_elements=[P.id], set_={"price": 3})), ROW_7),
    "upsert by another key": (
        core(UPSERT.on_conflict_do_update(index_elements=[P.sku], set_={"price": 3})),
        ALL_PRODUCTS,
    ),
    "upsert of the key": (
        core(UPSERT.on_conflict_do_update(index_elements=[P.id], set_={"id": 11})),
        sorted([*ALL_PRODUCTS, "rows:stock", "table:stock"]),
    ),
    "do nothing": (core(UPSERT.on_conflict_do_nothing()), ROW_7),
    "text": (core(text("UPDATE product SET price = :p WHERE id = :id"), {"p": 1, "id": 7}), ROW_7),
    "text many": (
        core(text("UPDATE product SET price = :p WHERE id = :id"), [{"p": 1, "id": 7}, {"p": 1, "id": 8}]),
        ROWS_7_8,
    ),
    "driver": (
        lambda session: session.connection().exec_driver_sql(
            "UPDATE product SET price = ? WHERE id = ?", (1, 7)
        ),
        ROW_7,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRITES)
def test_a_write_changes_the_rows_that_it_pins_or_any(seen_and_session, name):
    seen, session = seen_and_session
    session.execute(select(Product.id)).all()
    seen.all.clear()
    write, expected = WRITES[name]

    write(session)
    session.flush()

    assert seen.written() == expected


@pytest.mark.parametrize(
    "statement", [select(func.abs(P.price)).where(P.id == 7), update(P).values(price=func.abs(P.price))]
)
def test_a_function_reads_what_it_was_told_to_read(seen_and_session, statement):
    seen, session = seen_and_session
    seen.known = StatementTables({"abs": ["shop"]})
    session.execute(statement)

    assert {"table:abs", "table:shop"} <= {*seen.read()}
