"""Recorded SELECTs are sent again to real databases, and nothing else is, whatever a recording holds."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from upshift.errors import DatabaseUnavailableError
from upshift.record import Record, Statement
from upshift.sql.analysis import replay as module
from upshift.sql.analysis.workload import Workload


@pytest.fixture
def postgres(postgres_database):
    engine = sa.create_engine(postgres_database, poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE item (id int PRIMARY KEY, price numeric, note text)")
        connection.exec_driver_sql(
            "INSERT INTO item SELECT i, i * 1.5, 'n' || i FROM generate_series(1, 500) i"
        )
        connection.exec_driver_sql("CREATE SEQUENCE counter")
        connection.exec_driver_sql(
            "CREATE FUNCTION sneaky() RETURNS int LANGUAGE sql VOLATILE"
            " AS 'INSERT INTO item VALUES (0) RETURNING 1'"
        )
        connection.exec_driver_sql("CREATE VIEW harmless AS SELECT sneaky() AS it")
        connection.exec_driver_sql("ANALYZE")
    yield engine
    engine.dispose()


@pytest.fixture
def sqlite(tmp_path):
    engine = sa.create_engine(f"sqlite:///{tmp_path}/shop.db", poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE item (id INTEGER PRIMARY KEY, price NUMERIC, note TEXT)")
        connection.exec_driver_sql(
            "INSERT INTO item WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < 500)"
            " SELECT i, i * 1.5, 'n' || i FROM s"
        )
    yield engine
    engine.dispose()


def replay(*arguments, **settings):
    return module.replay(*arguments, **settings).statements


def cases(*statements):
    """Cases of statements: a text, or a text with parameters and rows."""
    record = Record("GET", "/", 0.0)
    for each in statements:
        sql, parameters, rows = each if isinstance(each, tuple) else (each, None, None)
        statement = Statement(sql, 0.0)
        statement.execute_seconds, statement.parameters, statement.rows = 0.5, parameters, rows
        record.add(statement)
    workload = Workload()
    workload.add(record)
    return workload.cases()


def contents(engine):
    with engine.connect() as connection:
        return connection.exec_driver_sql("SELECT id, price, note FROM item ORDER BY id").all()


@pytest.mark.parametrize(
    ("sql", "parameters", "paramstyle"),
    [
        ("SELECT * FROM item WHERE id < %(id)s", {"id": 11}, "pyformat"),
        ("SELECT * FROM item WHERE id < %s", (11,), "format"),
        ("SELECT * FROM item WHERE id < $1", (11,), "numeric_dollar"),
        ("SELECT * FROM item WHERE id < 11;", None, "pyformat"),
        ("SELECT * FROM item WHERE id < 11 AND note LIKE '%%' ", (), "pyformat"),
    ],
)
def test_a_select_is_executed_with_what_was_recorded(postgres, sql, parameters, paramstyle):
    (done,) = replay(postgres, cases((sql, parameters, 10)), paramstyle=paramstyle)
    assert (done.note, done.samples, done.rows, done.recorded_rows) == ("", 1, 10, 10)
    assert 0 < done.seconds < 5
    assert done.recorded_seconds == 0.5


def test_every_sample_of_a_kind_is_executed(postgres):
    (done,) = replay(
        postgres, cases(*[("SELECT * FROM item WHERE id = %(id)s", {"id": i}, 1) for i in range(1, 9)])
    )
    assert (done.samples, done.rows, done.count) == (8, 8, 8)


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO item VALUES (0)",
        "DELETE FROM item",
        "UPDATE item SET price = 0",
        "DROP TABLE item",
        "TRUNCATE item",
        "SELECT * INTO other FROM item",
        "WITH gone AS (DELETE FROM item RETURNING id) SELECT * FROM gone",
        "SELECT 1; DELETE FROM item",
        "SELECT nextval('counter')",
        "SELECT setval('counter', 100)",
        "SELECT sneaky()",
        "SELECT * FROM harmless",
        "SELECT * FROM item FOR UPDATE",
        "SELECT pg_terminate_backend(pg_backend_pid())",
        "SELECT pg_sleep(100)",
        "SELECT set_config('transaction_read_only', 'off', true)",
        "SELECT pg_advisory_lock(1)",
        "SELECT pg_read_file('/etc/passwd')",
        "COPY item TO PROGRAM 'true'",
        "COMMIT",
        "EXPLAIN ANALYZE DELETE FROM item",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
        "\x1b[2J",
        "",
        "SELECT '\0'",
    ],
)
def test_what_may_change_something_is_never_executed(postgres, sql):
    before = contents(postgres)
    done, also = replay(postgres, [*cases(sql), *cases("SELECT count(*) FROM item")])
    assert done.seconds is None
    assert done.note
    assert (also.rows, also.note) == (1, "")
    assert contents(postgres) == before
    with postgres.connect() as connection:
        assert connection.exec_driver_sql("SELECT last_value, is_called FROM counter").one() == (1, False)


def test_a_statement_that_takes_too_long_is_ended_and_the_others_go_on(postgres):
    endless = "SELECT count(*) FROM item a, item b, item c, item d"
    done, also = replay(postgres, [*cases(endless), *cases("SELECT 1")], seconds=0.3)
    assert "timeout" in done.note
    assert also.note == ""


def test_without_parameters_the_planner_is_asked_for_a_cost(postgres):
    (done,) = replay(postgres, cases("SELECT * FROM item WHERE id = %(id)s"))
    assert "were not recorded" in done.note
    assert done.cost > 0
    assert done.seconds is None


def test_parameters_that_do_not_fit_are_told(postgres):
    (done,) = replay(postgres, cases(("SELECT * FROM item WHERE id = %(id)s", {"id": "seven"}, None)))
    assert "do not fit" in done.note


def test_a_table_that_is_not_there_is_told_in_the_databases_words(postgres):
    (done,) = replay(postgres, cases("SELECT * FROM nowhere"))
    assert 'relation "nowhere" does not exist' in done.note


def test_the_database_is_told(postgres):
    assert module.replay(postgres, ()).database.startswith("postgresql 1")


def test_an_index_is_seen_to_matter(postgres):
    """Not by time, which decides nothing here, but by the cost of the generic plan."""
    wanted = cases("SELECT * FROM item WHERE note = %(note)s")
    (before,) = replay(postgres, wanted)
    with postgres.begin() as connection:
        connection.exec_driver_sql("CREATE INDEX ON item (note)")
    (after,) = replay(postgres, wanted)
    assert after.cost < before.cost


def test_no_transaction_is_left_behind(postgres):
    replay(postgres, cases("SELECT * FROM item", "SELECT * FROM nowhere"))
    with postgres.connect() as connection:
        others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        assert connection.exec_driver_sql(others).scalar_one() == 1  # this one


def test_a_database_that_is_away_is_told():
    engine = sa.create_engine("postgresql+psycopg://nobody@127.0.0.1:1/nowhere", poolclass=sa.NullPool)
    with pytest.raises(DatabaseUnavailableError):
        replay(engine, cases("SELECT 1"))


def test_sqlite_executes_selects(sqlite):
    (done,) = replay(sqlite, cases(("SELECT * FROM item WHERE id < ?", (11,), 10)))
    assert (done.note, done.rows, done.samples) == ("", 10, 1)


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM item",
        "PRAGMA user_version = 7",
        "ATTACH 'other.db' AS o",
        "SELECT 1; DELETE FROM item",
        "VACUUM",
    ],
)
def test_sqlite_is_never_written_to(sqlite, sql):
    before = contents(sqlite)
    (done,) = replay(sqlite, cases(sql))
    assert done.note
    assert contents(sqlite) == before


def test_sqlite_refuses_what_lacks_its_parameters(sqlite):
    (done,) = replay(sqlite, cases("SELECT * FROM item WHERE id = ?"))
    assert done.note
    assert done.seconds is None


def test_sqlite_ends_what_takes_too_long(sqlite):
    endless = "SELECT count(*) FROM item a, item b, item c, item d"
    done, also = replay(sqlite, [*cases(endless), *cases("SELECT 1")], seconds=0.2)
    assert "interrupted" in done.note
    assert also.note == ""
