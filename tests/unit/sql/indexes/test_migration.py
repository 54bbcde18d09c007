from __future__ import annotations

from upshift.sql.indexes.index import Index, IndexColumn
from upshift.sql.indexes.migration import migration, operations

ODD = Index(
    "postgresql", 'say "hi"', (IndexColumn("it's"), IndexColumn("ts", descending=True)), schema="a\\b"
)


def test_postgres_indexes_are_built_outside_the_migrations_transaction():
    text = operations([Index("postgresql", "t", (IndexColumn("a"),))])
    assert text.count("with op.get_context().autocommit_block():") == 2
    assert text.count("postgresql_concurrently=True") == 2


def test_sqlite_indexes_need_neither():
    text = operations([Index("sqlite", "t", (IndexColumn("a"),))])
    assert "autocommit_block" not in text
    assert "concurrently" not in text


def test_indexes_are_dropped_in_reverse_order():
    first, second = (Index("sqlite", "t", (IndexColumn(name),)) for name in "ab")
    down = operations([first, second]).partition("def downgrade")[2]
    assert down.index(second.name) < down.index(first.name)


def test_any_name_is_a_python_literal():
    compile(migration([ODD], down_revision="abc'\n"), "migration.py", "exec")


def test_the_revision_follows_from_the_indexes():
    first, second = (migration([Index("sqlite", "t", (IndexColumn(name),))]) for name in "ab")
    assert first != second
    assert first == migration([Index("sqlite", "t", (IndexColumn("a"),))])


def test_the_migration_follows_the_revision_asked_for():
    assert "down_revision = '1a2b'" in migration([ODD], "1a2b")
    assert "down_revision = None" in migration([ODD])
