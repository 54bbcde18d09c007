"""What is read and written row by row becomes the table where it is too much, and what a snapshot allows."""

from __future__ import annotations

import pytest
from sqlalchemy import create_engine, insert, select, text, update
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool

from tests.unit.cache.dependencies.walks import Product, fill
from upshift.cache import Cache
from upshift.cache.dependencies import Reading, Tables, row_tag, rows_tag, table_tag
from upshift.cache.dependencies.rows import MAX_ROWS
from upshift.cache.tokens import LocalTokens

ROW, ROWS, TABLE = row_tag("t", "1"), rows_tag("t"), table_tag("t")


def reading(expected=(), began=1):
    return Reading(LocalTokens(), began, expected)


def sees(read, *tags, transaction=None, is_first=False):
    read.sees(Tables(frozenset(tags), frozenset()), transaction, is_first=is_first, has_written=False)


def test_after_so_many_rows_of_a_table_what_is_read_further_is_the_table():
    read = reading()
    for number in range(3 * MAX_ROWS):
        sees(read, row_tag("t", str(number)), ROWS)

    assert not read.refusal
    assert len(read.tags) == MAX_ROWS + 3  # rows, the table, and everything
    assert TABLE in read.tags


def test_rows_of_a_table_that_is_read_anyway_are_not_named():
    read = reading()
    sees(read, TABLE)
    sees(read, ROW, ROWS)

    assert read.tags == {TABLE, "*"}


def test_other_calls_are_expected_to_read_the_same_tables_but_not_the_same_rows():
    read = reading()
    sees(read, ROW, ROWS)

    assert read.expected == {ROWS, "*"}


def test_the_first_statement_of_a_snapshot_names_rows():
    read = reading()
    sees(read, ROW, ROWS, transaction=1, is_first=True)
    sees(read, ROW, ROWS, transaction=1)  # stamped before

    assert (read.refusal, read.tags) == ("", {ROW, ROWS, "*"})


def test_a_later_one_counts_for_its_table_if_that_was_stamped_before():
    read = reading(expected=["*", TABLE])
    sees(read, row_tag("u", "1"), transaction=2, is_first=True)
    sees(read, ROW, ROWS, transaction=2)

    assert (read.refusal, read.tags) == ("", {row_tag("u", "1"), TABLE, "*"})


def test_and_else_is_not_kept_but_is_known_the_next_time():
    read = reading()
    sees(read, row_tag("u", "1"), transaction=2, is_first=True)
    sees(read, ROW, ROWS, transaction=2)

    assert read.refusal == "its snapshot may be older than its stamps"
    assert TABLE in read.expected


def test_a_snapshot_from_before_the_function_is_never_kept():
    read = reading(expected=["*", ROW, ROWS, TABLE], began=5)
    sees(read, ROW, ROWS, transaction=4)

    assert read.refusal


@pytest.fixture
def announced(monkeypatch):
    """Return what is announced of transactions on an engine, and the engine."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    fill(engine)
    cache = Cache()
    cache.watch([engine])
    told = []
    announce = cache._tokens.announce
    monkeypatch.setattr(
        cache._tokens,
        "announce",
        lambda tags, transaction: (told.append(set(tags)), announce(tags, transaction)),
    )
    yield told, engine
    cache.close()
    engine.dispose()


def test_a_transaction_that_writes_many_rows_one_by_one_announces_the_table(announced):
    told, engine = announced
    with Session(engine) as session:
        for number in range(1000, 1000 + 2 * MAX_ROWS):
            session.execute(update(Product).where(Product.id == number).values(price=1))
        session.commit()

    (tags,) = told
    assert len(tags) == MAX_ROWS + 2
    assert {"rows:product", "table:product"} <= tags


def test_many_inserts_whose_keys_are_made_announce_the_table(announced):
    told, engine = announced
    with Session(engine) as session:
        for number in range(2 * MAX_ROWS):
            session.execute(insert(Product).values(price=number))
        session.commit()

    assert {"rows:product", "table:product"} <= told[0]
    assert len(told[0]) <= MAX_ROWS + 2


def test_a_made_key_is_announced_before_the_commit(announced):
    told, engine = announced
    with Session(engine) as session:
        session.add(product := Product(price=7))
        session.commit()
        assert told == [{f"row:product:{product.id}", "table:product"}]


def test_a_statement_that_commits_by_itself_announces_all_rows_where_it_makes_keys(announced):
    told, engine = announced
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(insert(Product).values(price=7))
        connection.execute(update(Product).where(Product.id == 1).values(price=7))

    assert told == [{"rows:product", "table:product"}, {"row:product:1", "table:product"}]


def test_an_insert_that_failed_is_taken_for_any(announced):
    told, engine = announced
    with Session(engine) as session:
        with pytest.raises(Exception, match="UNIQUE"), session.begin_nested():
            session.execute(insert(Product).values(sku="sku 1"))
        session.execute(select(Product.id)).all()
        session.commit()

    assert told[-1] >= {"rows:product", "table:product"}


def test_a_text_that_commits_announces_what_was_written_before_it(announced):
    told, engine = announced
    with engine.connect() as connection:
        connection.execute(update(Product).where(Product.id == 1).values(price=7))
        connection.execute(text("COMMIT"))
        assert told == [{"row:product:1", "table:product"}]


def test_parameters_of_an_odd_kind_are_taken_for_the_table(announced):
    told, engine = announced

    class Hostile(str):
        __slots__ = ()

        def __int__(self):
            raise RuntimeError("no number")

    with engine.begin() as connection:
        connection.execute(text("UPDATE product SET price = 1 WHERE id = :id"), {"id": Hostile("1")})

    assert {"rows:product", "table:product"} <= told[0] or "*" in told[0]
