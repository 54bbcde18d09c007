"""What views, partitions and children depend on is read from PostgreSQL's catalogue, and need not be told."""

from __future__ import annotations

import logging
import random

import pytest
from sqlalchemy import ForeignKey, ForeignKeyConstraint, create_engine, event, select, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from upshift.cache import Cache
from upshift.cache.dependencies import catalogue as catalogue_module

SCHEMA = """
CREATE TABLE orders (id int, year int, amount int, PRIMARY KEY (id, year)) PARTITION BY RANGE (year);
CREATE TABLE orders_2025 PARTITION OF orders FOR VALUES FROM (2025) TO (2026);
CREATE TABLE orders_2026 PARTITION OF orders FOR VALUES FROM (2026) TO (2027) PARTITION BY RANGE (id);
CREATE TABLE orders_2026_a PARTITION OF orders_2026 FOR VALUES FROM (0) TO (100);
CREATE TABLE orders_2026_b PARTITION OF orders_2026 FOR VALUES FROM (100) TO (1000);
INSERT INTO orders VALUES (1, 2025, 10), (2, 2026, 20), (100, 2026, 30);
CREATE TABLE refund (
    id int PRIMARY KEY, year int, FOREIGN KEY (id, year) REFERENCES orders ON DELETE CASCADE ON UPDATE CASCADE
);
INSERT INTO refund VALUES (1, 2025), (100, 2026);
CREATE TABLE animal (id int, name text);
CREATE TABLE cat (lives int) INHERITS (animal);
INSERT INTO cat VALUES (1, 'Momo', 9);
CREATE TABLE product (id int PRIMARY KEY, price int, is_sold boolean);
CREATE TABLE stock (product_id int PRIMARY KEY REFERENCES product ON DELETE CASCADE, count int);
INSERT INTO product VALUES (1, 10, false), (2, 20, true);
INSERT INTO stock VALUES (1, 5);
CREATE VIEW "On Sale" AS SELECT id, price FROM product WHERE NOT is_sold;
CREATE VIEW there AS SELECT o.id, o.price, s.count FROM "On Sale" o JOIN stock s ON s.product_id = o.id;
CREATE VIEW late AS SELECT id, amount FROM orders_2026_b;
CREATE VIEW of_2026 AS SELECT id, amount FROM orders_2026;
CREATE MATERIALIZED VIEW total AS SELECT sum(price) AS price FROM product;
CREATE TABLE log (id int);
CREATE RULE logged AS ON UPDATE TO stock DO ALSO INSERT INTO log VALUES (new.product_id);
"""
READS = {
    "orders": "SELECT sum(amount) FROM orders",
    "order 1": "SELECT amount FROM orders WHERE id = 1 AND year = 2025",
    "orders_2025": "SELECT sum(amount) FROM orders_2025",
    "orders_2026": "SELECT sum(amount) FROM orders_2026",
    "orders_2026_a": "SELECT sum(amount) FROM orders_2026_a",
    "orders_2026_b": "SELECT sum(amount) FROM orders_2026_b",
    "late": "SELECT sum(amount) FROM late",
    "of 2026": "SELECT sum(amount) FROM of_2026",
    "refund": "SELECT count(*) FROM refund",
    "animal": "SELECT count(*) FROM animal",
    "cat": "SELECT count(*) FROM cat",
    "product": "SELECT sum(price) FROM product",
    "on sale": 'SELECT sum(price) FROM "On Sale"',
    "there": "SELECT sum(price * count) FROM there",
    "total": "SELECT price FROM total",
    "log": "SELECT count(*) FROM log",
}
WRITES = {
    "parent": "UPDATE orders SET amount = amount + 1",
    "row of the parent": "UPDATE orders SET amount = amount + 1 WHERE id = 1 AND year = 2025",
    "row of a partition": "UPDATE orders_2025 SET amount = amount + 1 WHERE id = 1 AND year = 2025",
    "partition": "UPDATE orders_2026 SET amount = amount + 1",
    "leaf": "UPDATE orders_2026_b SET amount = amount + 1",
    "into the parent": "INSERT INTO orders SELECT max(id) + 1, 2025, 5 FROM orders",
    "into the leaf": "INSERT INTO orders_2026_b SELECT max(id) + 1, 2026, 5 FROM orders",
    "move": "UPDATE orders SET year = 2026 WHERE id = 1",
    "move back": "UPDATE orders SET year = 2025 WHERE id = 1",
    "view of a leaf": "UPDATE late SET amount = amount + 1",
    "view of a partition": "UPDATE of_2026 SET amount = amount + 1",
    "cascade from a partition": "DELETE FROM orders_2025 WHERE id = 1",
    "child": "INSERT INTO cat VALUES (2, 'Mimi', 7)",
    "above the child": "DELETE FROM animal WHERE id = 2",
    "table": "UPDATE product SET price = price + 1",
    "row of a table": "UPDATE product SET is_sold = NOT is_sold WHERE id = 2",
    "other table": "UPDATE stock SET count = count + 1",
    "view": 'UPDATE "On Sale" SET price = price + 1',
    "cascade from a view": 'DELETE FROM "On Sale" WHERE id = 1',
    "refresh": "REFRESH MATERIALIZED VIEW total",
}


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    year: Mapped[int] = mapped_column(primary_key=True)
    amount: Mapped[int]


class Refund(Base):
    __tablename__ = "refund"
    __table_args__ = (
        ForeignKeyConstraint(
            ["id", "year"], ["orders.id", "orders.year"], ondelete="CASCADE", onupdate="CASCADE"
        ),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    year: Mapped[int]


class Product(Base):
    __tablename__ = "product"
    id: Mapped[int] = mapped_column(primary_key=True)
    price: Mapped[int]


class Stock(Base):
    __tablename__ = "stock"
    product_id: Mapped[int] = mapped_column(ForeignKey("product.id", ondelete="CASCADE"), primary_key=True)
    count: Mapped[int]


@pytest.fixture
def others(postgres_database):
    """Send a statement as others do, whom the cache does not see."""
    engine = create_engine(postgres_database)

    def send(sql):
        with engine.begin() as connection:
            return connection.execute(text(sql))

    send(SCHEMA)
    yield send
    engine.dispose()


@pytest.fixture
def engine(postgres_database, others):
    engine = create_engine(postgres_database)
    yield engine
    engine.dispose()


@pytest.fixture
def cache(engine):
    cache = Cache()
    cache.watch([engine])
    yield cache
    cache.close()


@pytest.fixture
def read(cache, engine):
    """Read what `READS` names, or by any other text, through the cache."""
    return reader(cache, engine)


def reader(cache, engine):
    @cache.cached(namespace="read")
    def read(what):
        with engine.connect() as connection:
            return connection.scalar(text(READS.get(what, what)))

    return read


@pytest.fixture
def write(engine):
    def write(sql):
        with engine.begin() as connection:
            connection.execute(text(WRITES.get(sql, sql)))

    return write


def hits(cache):
    return cache.statistics()["read"].hits


def is_hit(cache, read, what):
    before = hits(cache)
    read(what)
    return hits(cache) > before


@pytest.mark.parametrize(
    ("what", "by"),
    [
        ("orders", "leaf"),
        ("orders", "partition"),
        ("order 1", "row of a partition"),
        ("orders_2025", "row of the parent"),
        ("orders_2025", "into the parent"),
        ("orders_2025", "move"),
        ("orders_2026_a", "move"),
        ("orders_2026_a", "partition"),
        ("late", "partition"),
        ("late", "parent"),
        ("orders", "view of a leaf"),
        ("orders_2026_a", "view of a partition"),
        ("of 2026", "leaf"),
        ("animal", "child"),
        ("on sale", "row of a table"),
        ("there", "table"),
        ("there", "other table"),
        ("product", "view"),
        ("log", "other table"),
        ("total", "refresh"),
    ],
)
def test_what_is_changed_by_another_name_is_not_served_any_more(cache, read, write, what, by):
    write("table")  # so that the refreshed view is another
    before = read(what)
    assert is_hit(cache, read, what)
    write(by)

    assert read(what) != before


@pytest.mark.parametrize(
    ("what", "by"),
    [
        ("orders_2025", "leaf"),
        ("orders_2026_a", "leaf"),
        ("orders_2026_b", "row of a partition"),
        ("orders", "table"),
        ("on sale", "other table"),
        ("total", "table"),
        ("cat", "parent"),
    ],
)
def test_what_is_not_changed_stays(cache, read, write, what, by):
    read(what)
    write(by)

    assert is_hit(cache, read, what)


@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_stale_whatever_is_written_by_whatever_name(engine, read, write, seed):
    choice = random.Random(seed)
    with Session(engine) as session:  # from here on keys and cascades are known
        session.get(Order, (1, 2025))
        session.get(Stock, 1)
    for _ in range(60):
        write(choice.choice(list(WRITES)))
        for what in choice.sample(list(READS), 8):
            with engine.connect() as connection:
                assert read(what) == connection.scalar(text(READS[what])), what


def test_objects_are_told_as_well(cache, engine, write):
    @cache.cached(namespace="read")
    def amount():
        with Session(engine) as session:
            return session.get(Order, (1, 2025)).amount

    amount()
    write("row of a partition")

    assert amount() == 11


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_async_engines_are_as_good(postgres_database, others, driver):
    engine = create_async_engine(postgres_database.replace("+psycopg", f"+{driver}"))
    cache = Cache()
    cache.watch([engine])

    @cache.cached(namespace="read")
    async def read(what):
        async with engine.connect() as connection:
            return await connection.scalar(text(READS[what]))

    before = [await read(what) for what in ("orders", "there")]
    for by in ("leaf", "table"):
        async with engine.begin() as connection:
            await connection.execute(text(WRITES[by]))
    after = [await read(what) for what in ("orders", "there")]
    cache.close()
    await engine.dispose()

    assert [one != other for one, other in zip(before, after, strict=True)] == [True, True]


def test_what_its_own_engine_makes_is_known_from_its_commit_on(cache, read, write):
    read("orders")
    write("CREATE TABLE orders_2027 PARTITION OF orders FOR VALUES FROM (2027) TO (2028)")
    write("CREATE VIEW dear AS SELECT * FROM product WHERE price > 5")
    before = read("orders"), read("SELECT sum(price) FROM dear")
    assert is_hit(cache, read, "orders")
    write("INSERT INTO orders_2027 VALUES (1, 2027, 5)")
    write("table")

    assert (read("orders"), read("SELECT sum(price) FROM dear")) == (before[0] + 5, before[1] + 2)


def test_a_partition_that_is_made_and_filled_in_one_transaction_is_told_of(engine, read):
    before = read("orders")
    for year in (2027, 2028):
        with engine.begin() as connection:
            connection.execute(
                text(f"CREATE TABLE y{year} PARTITION OF orders FOR VALUES FROM ({year}) TO ({year + 1})")
            )
            connection.execute(text(f"INSERT INTO y{year} VALUES (1, {year}, 5)"))
        before += 5
        assert read("orders") == before


def test_what_its_own_engine_alters_is_known_from_its_commit_on(read, write):
    write("CREATE TABLE orders_2027 (LIKE orders)")
    before = read("SELECT sum(price) FROM there"), read("orders")
    write("CREATE OR REPLACE VIEW there AS SELECT id, amount AS price, 1 AS count FROM orders")
    write("ALTER TABLE orders ATTACH PARTITION orders_2027 FOR VALUES FROM (2027) TO (2028)")
    assert (read("SELECT sum(price) FROM there"), read("orders")) == (60, before[1])
    write("INSERT INTO orders_2027 VALUES (1, 2027, 5)")

    assert (read("SELECT sum(price) FROM there"), read("orders")) == (65, before[1] + 5)


def test_a_partition_that_others_have_made_is_known_to_who_writes_to_it(cache, read, write, others):
    before = read("orders")
    others("CREATE TABLE orders_2027 PARTITION OF orders FOR VALUES FROM (2027) TO (2028)")
    for _ in range(2):
        write("INSERT INTO orders_2027 SELECT count(*), 2027, 5 FROM orders")
        before += 5
        assert read("orders") == before

    read("cat")
    write("INSERT INTO orders_2027 SELECT count(*), 2027, 5 FROM orders")
    assert is_hit(cache, read, "cat")


def test_a_view_that_others_have_made_is_kept_when_it_is_known_what_it_reads(cache, read, write, others):
    dear = "SELECT sum(price) FROM dear"
    read("on sale")
    others("CREATE VIEW dear AS SELECT * FROM product WHERE price > 5")
    assert read(dear) == 30
    assert not is_hit(cache, read, dear)
    assert is_hit(cache, read, dear)
    write("table")

    assert read(dear) == 32


def test_what_others_alter_is_known_when_the_catalogue_is_read_again(cache, read, write, others):
    dear = "SELECT sum(price) FROM there"
    assert read(dear) == 10
    others("CREATE OR REPLACE VIEW there AS SELECT id, amount AS price, 1 AS count FROM orders")
    cache._tables.expire()  # as after a minute
    write("SELECT 1")

    assert read(dear) == 60
    write("leaf")
    assert read(dear) == 61


def test_what_others_add_ends_nothing(cache, read, write, others):
    read("orders")
    others("CREATE TABLE orders_2027 PARTITION OF orders FOR VALUES FROM (2027) TO (2028)")
    cache._tables.expire()
    write("SELECT 1")

    assert is_hit(cache, read, "orders")


def test_temporary_tables_end_nothing_else(cache, engine, read):
    read("product")
    for number in range(3):
        with engine.begin() as connection:
            connection.execute(text(f"CREATE TEMP TABLE staged_{number} (id int)"))
            connection.execute(text(f"INSERT INTO staged_{number} VALUES (1)"))

    assert is_hit(cache, read, "product")


def test_functions_in_a_from_are_asked_for_once(cache, read):
    series = "SELECT sum(n) FROM product, generate_series(1, 3) AS n"
    read(series)

    assert is_hit(cache, read, series)


def test_what_is_told_by_hand_counts_as_well(engine, write):
    cache = Cache(views={"log": ["on sale"]})
    cache.watch([engine])
    read = reader(cache, engine)
    for what, by in (("log", "table"), ("orders", "leaf")):
        read(what)
        assert is_hit(cache, read, what)
        write(by)
        assert not is_hit(cache, read, what)
    cache.close()


def test_a_transaction_from_before_keeps_nothing_that_lasts(postgres_database, others):
    engine, cache = create_engine(postgres_database), Cache()
    read = reader(cache, engine)
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
        cache.watch([engine])

        @cache.cached(namespace="early")
        def early():
            return connection.scalar(text(READS["orders"]))

        before = early()
        connection.commit()
        read("cat")
        with engine.begin() as other:
            other.execute(text(WRITES["leaf"]))
        assert early() == before + 1
    cache.close()
    engine.dispose()


def test_a_transaction_that_a_listener_has_begun_is_left_alone(postgres_database, others):
    engine, cache = create_engine(postgres_database), Cache()

    @event.listens_for(engine, "checkout")
    def set_tenant(connection, *_others):
        connection.execute("SET LOCAL upshift.tenant = 'Mei'")

    cache.watch([engine])
    with engine.connect() as connection:
        assert connection.scalar(text("SHOW upshift.tenant")) == "Mei"
    cache.close()
    engine.dispose()


def test_where_the_catalogue_cannot_be_read_it_is_as_without(cache, read, write, caplog, monkeypatch):
    monkeypatch.setattr(catalogue_module, "_QUERY", "SELECT nothing")
    before = read("orders")
    assert is_hit(cache, read, "orders")
    write("leaf")
    write("parent")

    assert read("orders") == before + 1 + 3
    assert [each.message for each in caplog.records if each.levelno == logging.WARNING] == [
        "what views and partitions depend on cannot be read"
    ]


def test_what_was_kept_while_it_could_not_be_read_ends_when_it_can(cache, read, write, monkeypatch):
    monkeypatch.setattr(catalogue_module, "_QUERY", "SELECT nothing")
    before = read("orders")
    monkeypatch.undo()
    cache._tables.expire()
    write("leaf")

    assert read("orders") == before + 1


def test_it_is_read_once_for_many_transactions(engine, monkeypatch):
    asked = []
    ask = catalogue_module._rows
    monkeypatch.setattr(
        catalogue_module, "_rows", lambda connection: asked.append(connection) or ask(connection)
    )
    cache = Cache()
    cache.watch([engine])
    for _ in range(20):
        with engine.begin() as connection:
            connection.execute(select(Product))
    cache.close()

    assert len(asked) == 1
