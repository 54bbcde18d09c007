"""Creates ShopEase's tables and loads its data set: `python -m shopease.dataset --url URL`.

PostgreSQL gets the rows by COPY and the foreign keys after them, so that each key is checked once for
its whole table; SQLite gets ordinary INSERTs. Either way the load is one transaction.
"""

import argparse
import sys
from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, func, insert, inspect, literal, select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.schema import AddConstraint, CreateTable

from shopease.config import with_driver
from shopease.models import Base
from shopease.rows import Row, generate

TABLES = Base.metadata.sorted_tables


class AlreadyLoadedError(Exception):
    """Tables of these names have rows already, and they may be somebody's."""


def load(engine: Engine, *, scale: float = 1.0, reset: bool = False) -> dict[str, int]:
    """Create and fill the tables, then bring the planner's statistics up to date.

    Returns the number of rows in each table. Raises AlreadyLoadedError where a table has rows and `reset`
    does not say to drop them.
    """
    rows = generate(scale)
    with engine.begin() as connection:
        if not reset and (filled := filled_tables(connection)):
            raise AlreadyLoadedError(
                f"{engine.url.render_as_string()} has rows already, in {', '.join(filled)}: "
                "--reset drops these tables and loads them again"
            )
        Base.metadata.drop_all(connection)
        if connection.dialect.name == "postgresql":
            counts = copy_in(connection, rows)
        else:
            counts = insert_in(connection, rows)
    analyze(engine)
    return counts


def filled_tables(connection: Connection) -> list[str]:
    existing = inspect(connection).get_table_names()
    return [
        table.name
        for table in TABLES
        if table.name in existing and connection.scalar(select(literal(1)).select_from(table).limit(1))
    ]


def copy_in(connection: Connection, rows: dict[str, Iterable[Row]]) -> dict[str, int]:
    driver: Any = connection.connection.driver_connection
    counts = {}
    for table in TABLES:
        name, columns = table.name, ", ".join(table.columns.keys())
        connection.execute(CreateTable(table, include_foreign_key_constraints=[]))
        with driver.cursor() as cursor:
            with cursor.copy(f"COPY {name} ({columns}) FROM STDIN") as copy:
                for row in rows[name]:
                    copy.write_row(row)
            counts[name] = cursor.rowcount
        connection.execute(select(func.setval(func.pg_get_serial_sequence(name, "id"), counts[name])))
    for table in TABLES:
        for foreign_key in table.foreign_key_constraints:
            connection.execute(AddConstraint(foreign_key, isolate_from_table=False))
    return counts


def insert_in(connection: Connection, rows: dict[str, Iterable[Row]]) -> dict[str, int]:
    Base.metadata.create_all(connection)
    counts = {}
    for table in TABLES:
        columns = table.columns.keys()
        values = [dict(zip(columns, row, strict=True)) for row in rows[table.name]]
        connection.execute(insert(table), values)
        counts[table.name] = len(values)
    return counts


def analyze(engine: Engine) -> None:
    # VACUUM as well, or autovacuum would do it a minute later, in the middle of somebody's measurement.
    command = "VACUUM ANALYZE" if engine.dialect.name == "postgresql" else "ANALYZE"
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for table in TABLES:
            connection.execute(text(f"{command} {table.name}"))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m shopease.dataset", description=__doc__.splitlines()[0])
    parser.add_argument("--url", required=True, help="the database: postgresql://… or sqlite:///…")
    parser.add_argument("--scale", type=float, default=1.0, help="1 is 20 000 products; tests use 0.02")
    parser.add_argument("--reset", action="store_true", help="drop ShopEase's tables, with all rows in them")
    options = parser.parse_args(arguments)

    try:
        engine = create_engine(with_driver(options.url))
        counts = load(engine, scale=options.scale, reset=options.reset)
    except (AlreadyLoadedError, SQLAlchemyError, ValueError) as error:
        sys.exit(f"ShopEase's data set was not loaded: {error}")
    engine.dispose()
    print(", ".join(f"{count:,} {name}" for name, count in counts.items()))  # noqa: T201 - the command's answer


if __name__ == "__main__":
    main()
