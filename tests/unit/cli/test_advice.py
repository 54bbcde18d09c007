"""What `upshift find` says of statements that could not be looked at."""

import pytest
from sqlalchemy import create_engine

from upshift.cli.advice import advise_on
from upshift.sql import Digests, StatementStatistics


@pytest.fixture
def database(tmp_path):
    """Make an SQLite database that has the tables named."""
    engines = []

    def make(*tables):
        engines.append(create_engine(f"sqlite:///{tmp_path}/{len(engines)}.db"))
        with engines[-1].begin() as connection:
            for table in ("always", *tables):
                connection.exec_driver_sql(f"CREATE TABLE {table} (id INT)")
        return engines[-1]

    yield make
    for engine in engines:
        engine.dispose()


def seen(*statements):
    return [StatementStatistics(Digests().of(sql), sql) for sql in statements]


def test_a_statement_that_the_database_refuses_to_explain_is_told_with_the_reason(database):
    _, notes = advise_on(seen("SELECT id FROM gone", "SELECT id FROM always"), [database()])

    (note,) = notes
    assert note.startswith("no index advice for a statement that the database would not explain: ")
    assert note.endswith("no such table: gone")


def test_many_that_are_refused_are_counted_and_the_first_reason_is_told(database):
    _, notes = advise_on(seen("SELECT id FROM gone", "SELECT id FROM lost"), [database()])

    (note,) = notes
    assert note.startswith("no index advice for 2 statements that the database would not explain; ")
    assert note.endswith("no such table: gone")


def test_a_statement_of_another_database_is_none_of_those(database):
    engines = [database("orders"), database("users")]

    _, notes = advise_on(
        seen("SELECT id FROM orders", "SELECT id FROM users", "SELECT id FROM gone"), engines
    )

    (note,) = notes
    assert note.endswith("would not explain: no such table: gone")


def test_what_is_explained_is_not_told(database):
    assert advise_on(seen("SELECT id FROM always"), [database()]) == ((), ())


def test_without_a_database_there_is_nothing_to_tell():
    assert advise_on(seen("SELECT id FROM always"), []) == ((), ())
