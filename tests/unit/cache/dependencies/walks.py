"""Random walks of reads and writes, in which every cached read is compared with a fresh one.

The same walks run on SQLite and on PostgreSQL. Numbers of rows are few, so that reads and writes meet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import (
    ForeignKey,
    String,
    and_,
    bindparam,
    delete,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    text,
    union_all,
    update,
)
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, aliased, mapped_column, relationship

if TYPE_CHECKING:
    from random import Random

ROWS = 4
"""Keys are 1 to this; those that the database makes follow."""


class Base(DeclarativeBase):
    pass


class Shop(Base):
    __tablename__ = "shop"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(default="")


class Product(Base):
    __tablename__ = "product"
    id: Mapped[int] = mapped_column(primary_key=True)
    sku: Mapped[str | None] = mapped_column(unique=True)
    price: Mapped[int] = mapped_column(default=0)
    shop_id: Mapped[int | None] = mapped_column(ForeignKey("shop.id", ondelete="CASCADE", onupdate="CASCADE"))
    shop: Mapped[Shop | None] = relationship(passive_deletes=True)


class Stock(Base):
    __tablename__ = "stock"
    place: Mapped[str] = mapped_column(String(20), primary_key=True)
    product_id: Mapped[int] = mapped_column(
        ForeignKey("product.id", ondelete="CASCADE", onupdate="CASCADE"), primary_key=True
    )
    count: Mapped[int] = mapped_column(default=0)


class Note(Base):
    """On SQLite its keys are compared without regard to case."""

    __tablename__ = "note"
    name: Mapped[str] = mapped_column(
        String(20).with_variant(String(20, collation="NOCASE"), "sqlite"), primary_key=True
    )
    body: Mapped[int] = mapped_column(default=0)


class Person(Base):
    __tablename__ = "person"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(default="person")
    age: Mapped[int] = mapped_column(default=0)
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}


class Engineer(Person):
    __tablename__ = "engineer"
    id: Mapped[int] = mapped_column(ForeignKey("person.id"), primary_key=True)
    level: Mapped[int] = mapped_column(default=0)
    __mapper_args__ = {"polymorphic_identity": "engineer"}


NAMES = ("north", "North", "NORTH", "south")
Other = aliased(Product)


def fill(engine):
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        for number in range(1, ROWS):
            session.add(Shop(id=number))
            session.flush()
            session.add(Product(id=number, sku=f"sku {number}", shop_id=number))
            session.flush()
            session.add(Stock(place="north", product_id=number))
            session.add(Engineer(id=number))
        session.add(Note(name="north"))
        session.commit()


def rows(statement, **parameters):
    """Return a read of the rows of a statement, told by a function of a number."""

    def read(session, number):
        found = session.execute(statement(number), parameters and {"n": number})
        return sorted(map(tuple, found), key=repr)

    return read


def through_lazy_load(session, number):
    product = session.get(Product, number)
    return product and (product.price, product.shop and product.shop.name)


def engineer(session, number):
    found = session.get(Engineer, number)
    return found and (found.age, found.level)


P, S = Product, Shop
PRODUCT = (P.id, P.sku, P.price, P.shop_id)
READS = {
    "lazy load": through_lazy_load,
    "joined inheritance": engineer,
    "row": rows(lambda n: select(*PRODUCT).where(P.id == n)),
    "rows": rows(lambda n: select(*PRODUCT).where(P.id.in_([n, n + 1]))),
    "row as text": rows(lambda n: select(*PRODUCT).where(P.id == literal(str(n)).cast(P.id.type))),
    "or": rows(lambda n: select(*PRODUCT).where(or_(P.id == n, P.price == n))),
    "table": rows(lambda n: select(func.count()).where(P.shop_id == n)),
    "join": rows(lambda n: select(P.price, S.name).join(S, S.id == P.shop_id).where(P.id == n)),
    "outer join": rows(lambda n: select(S.name, P.price).outerjoin(P, P.id == S.id).where(S.id == n)),
    "filled up": rows(lambda n: select(S.id, P.price).outerjoin(P, P.id == n)),
    "kept": rows(lambda n: select(S.id, S.name, P.price).outerjoin(P, and_(P.id == S.id, P.id == n))),
    "twice": rows(
        lambda n: select(P.price, Other.price).join(Other, Other.price == P.price).where(P.id == n)
    ),
    "exists": rows(lambda n: select(S.name).where(S.id == n, exists().where(P.id == n, P.price > 0))),
    "union": rows(lambda n: union_all(select(P.price).where(P.id == n), select(S.id).where(S.id == n))),
    "composite": rows(
        lambda n: select(Stock.count).where(Stock.place == NAMES[n % 4], Stock.product_id == n)
    ),
    "note": rows(lambda n: select(Note.body).where(Note.name == NAMES[n % 4])),
    "text": rows(lambda _: text("SELECT price FROM product WHERE id = :n"), n=0),
    "text in": rows(lambda n: text(f"SELECT price FROM product WHERE id IN ({n}, {n} + 0)")),
    "text join": rows(
        lambda _: text("SELECT p.price FROM shop s JOIN product p ON p.id = s.id AND s.id = :n"), n=0
    ),
    "text composite": rows(
        lambda _: text("SELECT count FROM stock WHERE place = 'north' AND product_id = :n"), n=0
    ),
}  # fmt: skip


def new_number(session, random):
    return random.randint(1, ROWS) + random.choice([0, 0, 100])


def orm_update(session, n, v):
    if (product := session.get(Product, n)) is not None:
        product.price = v


def orm_delete(session, n, _):
    if (product := session.get(Product, n)) is not None:
        session.delete(product)


def orm_key(session, n, v):
    if (product := session.get(Product, n)) is not None:
        product.id = 1 + v % ROWS


def orm_subclass(session, n, v):
    if (found := session.get(Engineer, n)) is not None:
        found.age, found.level = (v, found.level) if v % 2 else (found.age, v)


def upsert(session, values, key, changes):
    from sqlalchemy.dialects import postgresql, sqlite

    dialect = {"sqlite": sqlite, "postgresql": postgresql}[session.get_bind().dialect.name]
    made = dialect.insert(Product).values(values)
    session.execute(made.on_conflict_do_update(index_elements=[key], set_=changes))


def driver(session, n, v):
    mark = "?" if session.get_bind().dialect.name == "sqlite" else "%s"
    sql = f"UPDATE product SET price = {mark} WHERE id = {mark}"
    session.connection().exec_driver_sql(sql, (v, n))


def orm_pair(session, n, v):
    orm_update(session, n, v)
    orm_update(session, 1 + n % ROWS, v)


def update_many(session, n, v):
    statement = update(Product.__table__).where(Product.id == bindparam("n")).values(price=v)
    session.execute(statement, [{"n": n}, {"n": 1 + n % ROWS}])


def executes(statement):
    return lambda session, n, v: session.execute(statement(n, v))


WRITES = {
    "orm update": orm_update,
    "orm updates": orm_pair,
    "orm delete": orm_delete,
    "orm key": orm_key,
    "orm insert": lambda session, n, v: session.add(Product(id=n, price=v)),
    "orm insert of a made key": lambda session, n, v: session.add(Product(price=v, sku=f"made {n} {v}")),
    "orm inserts of made keys": lambda session, n, v: session.add_all(
        [Product(price=v, sku=f"many {n} {v} {each}") for each in range(3)]
    ),
    "orm subclass": orm_subclass,
    "update": executes(lambda n, v: update(P).where(P.id == n).values(price=v)),
    "update in": executes(lambda n, v: update(P).where(P.id.in_([n, n + 1])).values(price=v)),
    "update or": executes(lambda n, v: update(P).where(or_(P.id == n, P.price == v)).values(price=v + 1)),
    "update by another key": executes(lambda n, v: update(P).where(P.sku == f"sku {n}").values(price=v)),
    "update all": executes(lambda _, v: update(P).values(price=P.price + v)),
    "update many": update_many,
    "update by primary key": lambda session, n, v: session.execute(update(P), [{"id": n, "price": v}]),
    "update of the key": executes(lambda n, v: update(P).where(P.id == n).values(id=1 + v % ROWS)),
    "update of the parent's key": executes(lambda n, v: update(S).where(S.id == n).values(id=1 + v % ROWS)),
    "update of the parent": executes(lambda n, v: update(S).where(S.id == n).values(name=str(v))),
    "delete": executes(lambda n, _: delete(P).where(P.id == n)),
    "delete of the parent": executes(lambda n, _: delete(S).where(S.id == n)),
    "insert": executes(lambda n, v: insert(P).values(id=n, price=v)),
    "insert of the parent": executes(lambda n, v: insert(S).values(id=n, name=str(v))),
    "insert of a made key": executes(lambda n, v: insert(P).values(price=v, sku=f"core {n} {v}")),
    "insert from select": executes(
        lambda n, v: insert(P).from_select(["id", "price"], select(literal(n), literal(v)))
    ),
    "upsert by key": lambda session, n, v: upsert(session, {"id": n, "price": v}, P.id, {"price": v}),
    "upsert by another key": lambda session, n, v: upsert(
        session, {"id": 50 + v, "sku": f"sku {n}"}, P.sku, {"price": v}
    ),
    "upsert of the key": lambda session, n, v: upsert(
        session, {"id": n, "price": v}, P.id, {"id": 1 + v % ROWS}
    ),
    "composite": executes(
        lambda n, v: update(Stock).where(Stock.place == NAMES[v % 4], Stock.product_id == n).values(count=v)
    ),
    "composite insert": executes(
        lambda n, v: insert(Stock).values(place=NAMES[v % 4], product_id=n, count=v)
    ),
    "note": executes(lambda n, v: update(Note).where(Note.name == NAMES[n % 4]).values(body=v)),
    "note insert": executes(lambda n, v: insert(Note).values(name=NAMES[n % 4], body=v)),
    "note delete": executes(lambda n, _: delete(Note).where(Note.name == NAMES[n % 4])),
    "text": executes(lambda n, v: text(f"UPDATE product SET price = {v} WHERE product.id = {n}")),
    "text delete": executes(lambda n, _: text(f"DELETE FROM product WHERE id IN ({n}, {n})")),
    "text insert": executes(lambda n, v: text(f"INSERT INTO product (price, id) VALUES ({v}, {n})")),
    "text of the key": executes(lambda n, v: text(f"UPDATE product SET id = {1 + v % ROWS} WHERE id = {n}")),
    "text from": executes(
        lambda n, v: text(f"UPDATE product SET price = {v} FROM shop s WHERE s.id = {n} AND shop_id = s.id")
    ),
    "driver": driver,
}  # fmt: skip


class Walk:
    """Reads and writes at random, through a cache and past it.

    Attributes:
        stale: what a cached read answered that a fresh one did not, and what was written before.
    """

    def __init__(self, engine, cache, random: Random, namespace="walk"):
        self.stale = []
        self._engine = engine
        self._random = random
        self._written = []
        self._cached = {
            name: cache.cached(namespace=f"{namespace} {name}")(self._reader(read))
            for name, read in READS.items()
        }

    def _reader(self, read):
        def reader(number):
            with Session(self._engine) as session:
                return read(session, number)

        return reader

    def write(self):
        """Run one transaction of a few writes; how it ends is chance."""
        random, names = self._random, []
        with Session(self._engine) as session:
            for _ in range(random.randint(1, 3)):
                names.append(name := random.choice(list(WRITES)))
                number, value = random.randint(1, ROWS), random.randint(1, 40)
                try:
                    if random.random() < 0.3:
                        with session.begin_nested():
                            WRITES[name](session, number, value)
                    else:
                        WRITES[name](session, number, value)
                        session.flush()
                except SQLAlchemyError:
                    session.rollback()
            try:
                session.rollback() if random.random() < 0.1 else session.commit()
            except SQLAlchemyError:
                session.rollback()
        self._written.append(names)

    def compare(self, reads=12):
        """Compare some cached reads with fresh ones."""
        for _ in range(reads):
            name, number = self._random.choice(list(READS)), self._random.randint(1, ROWS)
            cached = self._cached[name](number)
            fresh = self._reader(READS[name])(number)
            if cached != fresh:
                self.stale.append((name, number, cached, fresh, self._written[-1]))

    def run(self, transactions):
        for _ in range(transactions):
            self.compare()
            self.write()
            self.compare()
