"""What is read and written in a run: rows of several tables, each with a version that counts up.

A row has one number on the board for all tables. What writes is given a session, so that sync and async
writers do the same, and returns the versions that it wrote.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from sqlalchemy import Engine, insert, select, text, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

ROWS = 24
"""Rows of each table, numbered from 0."""

ROLLED_BACK = 1_000_000
"""What is added to a version in transactions that are never committed: nobody may read it."""


class Base(DeclarativeBase):
    pass


class Product(Base):
    __tablename__ = "product"
    id: Mapped[int] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(default=0)


class Stock(Base):
    __tablename__ = "stock"
    id: Mapped[int] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(default=0)


class Label(Base):
    __tablename__ = "label"
    code: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(default=0)


class Fragile(Base):
    """What is written by transactions whose COMMIT takes a while, and is cut short."""

    __tablename__ = "fragile"
    id: Mapped[int] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(default=0)


MODELS = (Product, Stock, Label, Fragile)

COMMIT_SECONDS = 0.01

# A constraint that is looked at when its transaction commits, and takes its time.
SLOW_COMMIT = f"""
CREATE FUNCTION take_time() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_sleep({COMMIT_SECONDS}); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER slow_commit AFTER UPDATE ON fragile DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION take_time();
"""

Versions = dict[int, int]
Write = Callable[[Session, Random], Versions]


def row_of(model: type[Base], number: int) -> int:
    """Return the number of a table's row on the board."""
    return MODELS.index(model) * ROWS + number


def some_key(random: Random, rows: int = ROWS) -> int:
    """Return the number of a row; the first ones come more often, so that readers and writers meet there."""
    return int(rows * random.random() ** 3)


def written(model: type[Base], number: int, version: int | None) -> Versions:
    """Return what a statement has written: nothing, where another transaction has just replaced the row."""
    return {} if version is None else {row_of(model, number): version}


def code_of(number: int) -> str:
    return f"label-{number}"


def fill(engine: Engine) -> None:
    """Make the tables, with all versions 0."""
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(text("DROP FUNCTION IF EXISTS take_time"))
        connection.exec_driver_sql(SLOW_COMMIT)
        for number in range(ROWS):
            for model in (Product, Stock, Fragile):
                connection.execute(insert(model).values(id=number, version=0))
            connection.execute(insert(Label).values(code=code_of(number), version=0))


def by_orm(session: Session, random: Random) -> Versions:
    number = some_key(random)
    product = session.get_one(Product, number, with_for_update=True)
    product.version += 1
    session.flush()
    return written(Product, number, product.version)


def by_core(session: Session, random: Random) -> Versions:
    number = some_key(random)
    statement = update(Stock).where(Stock.id == number).values(version=Stock.version + 1)
    return written(Stock, number, session.scalars(statement.returning(Stock.version)).first())


def by_text(session: Session, random: Random) -> Versions:
    number = some_key(random)
    statement = text("UPDATE label SET version = version + 1 WHERE code = :code RETURNING version")
    return written(Label, number, session.scalars(statement, {"code": code_of(number)}).first())


def in_bulk(session: Session, random: Random) -> Versions:
    first = random.randrange(ROWS // 2)
    statement = (
        update(Product)
        .where(Product.id >= first, Product.id < first + ROWS // 2)
        .values(version=Product.version + 1)
    )
    rows = session.execute(statement.returning(Product.id, Product.version))
    return {row_of(Product, number): version for number, version in rows}


def two_tables(session: Session, random: Random) -> Versions:
    number = some_key(random)
    versions = {}
    for model in (Product, Stock):
        statement = update(model).where(model.id == number).values(version=model.version + 1)
        versions |= written(model, number, session.scalars(statement.returning(model.version)).first())
    return versions


def replaced(session: Session, random: Random) -> Versions:
    """Delete a row and insert it anew."""
    number = some_key(random)
    deleted = text("DELETE FROM stock WHERE id = :id RETURNING version")
    version = session.scalars(deleted, {"id": number}).first()
    if version is None:
        return {}
    session.add(Stock(id=number, version=version + 1))
    session.flush()
    return written(Stock, number, version + 1)


def upserted(session: Session, random: Random) -> Versions:
    number = some_key(random)
    statement = text("""
        INSERT INTO product (id, version) VALUES (:id, 0)
        ON CONFLICT (id) DO UPDATE SET version = product.version + 1 RETURNING version
    """)
    return written(Product, number, session.scalars(statement, {"id": number}).first())


def with_savepoint(session: Session, random: Random) -> Versions:
    """Write in two savepoints, and roll one of them back."""
    with session.begin_nested():
        versions = by_text(session, random)
    savepoint = session.begin_nested()
    spoil(session, random)
    savepoint.rollback()
    return versions


def spoil(session: Session, random: Random) -> None:
    """Write what must not be committed."""
    model = random.choice((Product, Stock))
    number = some_key(random)
    session.execute(
        update(model)
        .where(model.id == number)
        .values(version=model.version + ROLLED_BACK)
        .execution_options(synchronize_session=False)
    )


def fragile(session: Session, random: Random) -> Versions:
    """Write what takes a while to commit."""
    number = some_key(random)
    statement = update(Fragile).where(Fragile.id == number).values(version=Fragile.version + 1)
    return written(Fragile, number, session.scalars(statement.returning(Fragile.version)).first())


WRITES: tuple[Write, ...] = (
    by_orm, by_core, by_text, in_bulk, two_tables, replaced, upserted, with_savepoint,
)  # fmt: skip


def versions_of(session: Session, model: type[Product | Stock]) -> list[int]:
    """Return the versions of all rows of a table."""
    return list(session.scalars(select(model.version).order_by(model.id)))
