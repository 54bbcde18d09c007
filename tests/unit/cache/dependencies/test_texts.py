"""Which rows a text pins."""

from __future__ import annotations

import pytest
from sqlalchemy import Column, ForeignKey, Integer, MetaData, String, Table, Uuid

from upshift.cache.dependencies.rows import MAX_ROWS
from upshift.cache.dependencies.tables import StatementTables

UUID_TEXT = "550E8400-E29B-41D4-A716-446655440000"

THING = [f"row:thing:{UUID_TEXT.replace('-', '').lower()}", "rows:thing"]


@pytest.fixture(scope="module")
def known():
    metadata = MetaData()
    a = Table(
        "a", metadata, Column("id", Integer, primary_key=True), Column("b_id", Integer), Column("x", Integer)
    )
    Table("b", metadata, Column("id", Integer, primary_key=True), Column("x", Integer))
    Table("pair", metadata, Column("k", String, primary_key=True), Column("n", Integer, primary_key=True))
    Table("thing", metadata, Column("id", Uuid, primary_key=True))
    Table("child", metadata, Column("id", Integer, ForeignKey("a.id", onupdate="CASCADE"), primary_key=True))
    known = StatementTables()
    known.schema.learn(a)
    return known


A5 = ["row:a:5", "rows:a"]
A5_B5 = ["row:a:5", "row:b:5", "rows:a", "rows:b"]
A56 = ["row:a:5", "row:a:6", "rows:a"]


@pytest.mark.parametrize(
    ("sql", "parameters", "read"),
    [
        ("SELECT * FROM a WHERE id = 5", (), A5),
        ("SELECT * FROM public.a WHERE a.id = 5 AND x > 1", (), A5),
        ("SELECT * FROM a WHERE 5 = id", (), A5),
        ("SELECT * FROM a WHERE ((id = 5) AND x = 1)", (), A5),
        ("SELECT * FROM a WHERE id IN (5, 6)", (), A56),
        ("SELECT * FROM a WHERE id = '5'", (), A5),
        ('SELECT * FROM a WHERE "id" = %s', (5,), A5),
        ("SELECT * FROM a WHERE x = %s AND id = %s", (1, 5), A5),
        ("SELECT * FROM a WHERE x = '%%' AND id = %s", (5,), A5),
        ("SELECT * FROM a WHERE id = %(id)s", {"id": 5}, A5),
        ("SELECT * FROM a WHERE id IN (%(one)s, %(two)s)", {"one": 5, "two": 6}, A56),
        ("SELECT * FROM a WHERE x = $2 AND id = $1", (5, 1), A5),
        ("SELECT * FROM a WHERE id = $1::INTEGER", (5,), A5),
        ("SELECT * FROM a WHERE id = CAST(%s AS BIGINT)", (5,), A5),
        ("SELECT * FROM a AS z WHERE z.id = 5 ORDER BY x LIMIT 1", (), A5),
        ("SELECT * FROM a JOIN b ON b.id = a.b_id WHERE a.id = 5", (), [*A5, "table:b"]),
        ("SELECT * FROM a JOIN b ON b.id = a.b_id WHERE a.b_id = 7", (), ["row:b:7", "rows:b", "table:a"]),
        ("SELECT * FROM a, b WHERE a.id = 5 AND b.id = a.id", (), A5_B5),
        ("SELECT * FROM a LEFT JOIN b ON b.id = a.id WHERE a.id = 5", (), A5_B5),
        ("SELECT * FROM a LEFT JOIN b ON b.id = 7", (), ["row:b:7", "rows:b", "table:a"]),
        ("SELECT * FROM a WHERE id = 5 UNION SELECT * FROM a WHERE id = 6", (), A56),
        ("WITH z AS (SELECT * FROM a WHERE id = 5) SELECT * FROM z", (), A5),
        ("SELECT * FROM pair WHERE k = 'North ' AND n = 3", (), ["row:pair:north:3", "rows:pair"]),
        (f"SELECT * FROM thing WHERE id = '{UUID_TEXT}'", (), THING),
    ],
)  # fmt: skip
def test_a_read_of_named_rows_depends_on_them(known, sql, parameters, read):
    assert sorted(known.of_text(sql, "postgresql", parameters).read) == read


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM a",
        "SELECT * FROM a WHERE id = 5 OR x = 1",
        "SELECT * FROM a WHERE NOT id = 5",
        "SELECT * FROM a WHERE id <> 5",
        "SELECT * FROM a WHERE id NOT IN (5)",
        "SELECT * FROM a WHERE (id = 5) = true",
        "SELECT * FROM a WHERE id = -5",
        "SELECT * FROM a WHERE id = 5.0",
        "SELECT * FROM a WHERE id = ' 5'",
        "SELECT * FROM a WHERE id = '5.0'",
        "SELECT * FROM a WHERE id = NULL",
        "SELECT * FROM a WHERE id = x",
        "SELECT * FROM a WHERE id = %s",
        "SELECT * FROM a WHERE id = %(other)s",
        "SELECT * FROM a WHERE id = '%s'",
        "SELECT * FROM a WHERE id + 1 = 5",
        "SELECT * FROM a WHERE id IN (SELECT 5)",
        "SELECT * FROM a WHERE id IN (5, abs(6))",
        f"SELECT * FROM a WHERE id IN ({', '.join(map(str, range(MAX_ROWS + 1)))})",
        "SELECT * FROM a AS z(x, id) WHERE z.id = 5",
        "SELECT * FROM a WHERE id = 5 UNION SELECT * FROM a",
        "SELECT * FROM a WHERE id = (SELECT max(id) FROM a WHERE id = 5) AND x = 1",
        "SELECT * FROM (SELECT * FROM a) AS s WHERE s.id = 5",
        "SELECT * FROM a RIGHT JOIN a AS z ON a.id = 5 AND z.id = a.id",
        "SELECT * FROM a LEFT JOIN a AS z ON a.id = 5",
        "SELECT * FROM a FULL JOIN a AS z ON a.id = 5 AND z.id = 5",
        "SELECT * FROM a JOIN a AS z USING (id) WHERE a.id = 5",
        "SELECT * FROM a WHERE id = 7919000000",
    ],
)
def test_a_read_of_others_depends_on_the_table(known, sql):
    expected = {"table:a"} if "7919" not in sql else {"row:a:7919000000", "rows:a"}
    assert known.of_text(sql, "postgresql", (5.5,)).read == expected


ROW_5 = ["row:a:5", "table:a"]
ALL = ["rows:a", "table:a"]
ALL_B = ["rows:b", "table:b"]
CHILD = ["rows:child", "table:child"]


@pytest.mark.parametrize(
    ("sql", "dialect", "parameters", "written"),
    [
        ("UPDATE a SET x = ? WHERE id = ?", "sqlite", (1, 5), ROW_5),
        ("UPDATE a SET x = '?' /* ? */ WHERE id = ? -- ?", "sqlite", (5,), ROW_5),
        ("UPDATE a SET x = :x WHERE id = :id", "sqlite", {"x": 1, "id": 5}, ROW_5),
        ("UPDATE a SET x = 1 WHERE id = 5 OR x = 2", "sqlite", (), ALL),
        ("UPDATE a SET x = 1 FROM b WHERE a.id = 5 AND b.id = a.b_id", "postgresql", (), ROW_5),
        ("UPDATE a SET x = 1 FROM b WHERE b.id = 5 AND a.id = b.id", "postgresql", (), ROW_5),
        ("UPDATE a SET x = 1 FROM b WHERE b.id = 5", "postgresql", (), ALL),
        ("UPDATE a SET id = 6 WHERE id = 5", "sqlite", (), [*ALL, *CHILD]),
        ("UPDATE a SET rowid = 6 WHERE id = 5", "sqlite", (), [*ALL, *CHILD]),
        ("UPDATE a SET (id, x) = (6, 1) WHERE id = 5", "postgresql", (), [*ALL, *CHILD]),
        ("UPDATE a JOIN b ON b.id = a.id SET b.x = 1 WHERE a.id = 5", "mysql", (), [*ALL, *ALL_B]),
        ("DELETE FROM a WHERE id IN (5, 6)", "sqlite", (), ["row:a:5", "row:a:6", "table:a", *CHILD]),
        ("DELETE FROM a", "sqlite", (), [*ALL, *CHILD]),
        ("INSERT INTO a (id, x) VALUES (5, 1), (?, 2)", "sqlite", (6,), ["row:a:5", "row:a:6", "table:a"]),
        ("INSERT INTO a (x) VALUES (5)", "sqlite", (), ALL),
        ("INSERT INTO a VALUES (5, 1, 1)", "sqlite", (), ALL),
        ("INSERT INTO a (id) SELECT 5", "sqlite", (), ALL),
        ("INSERT OR REPLACE INTO a (id) VALUES (5)", "sqlite", (), [*ALL, *CHILD]),
        ("INSERT OR IGNORE INTO a (id) VALUES (5)", "sqlite", (), ROW_5),
        ("INSERT INTO a (id) VALUES (5) ON CONFLICT DO NOTHING", "sqlite", (), ROW_5),
        ("INSERT INTO a (id) VALUES (5) ON CONFLICT (id) DO UPDATE SET x = 1", "sqlite", (), ROW_5),
        ("INSERT INTO a (id) VALUES (5) ON CONFLICT (x) DO UPDATE SET x = 1", "sqlite", (), ALL),
        ("INSERT INTO a (id) VALUES (5) ON DUPLICATE KEY UPDATE x = 1", "mysql", (), ALL),
        ("INSERT INTO pair (k, n) VALUES ('x', 1)", "sqlite", (), ["row:pair:x:1", "table:pair"]),
        ("INSERT INTO pair (k, n) VALUES ('x', 1), ('y', 2)", "sqlite", (), ["rows:pair", "table:pair"]),
        ("MERGE INTO a USING b ON a.id = b.id WHEN MATCHED THEN DELETE", "postgresql", (), [*ALL, *CHILD]),
        ("WITH w AS (UPDATE a SET x = 1 WHERE id = 5 RETURNING id) SELECT * FROM w", "postgresql", (), ALL),
        ("UPDATE a SET x = 1 WHERE id = 5; UPDATE a SET x = 1 WHERE id = 6", "sqlite", (), ALL),
        ("TRUNCATE a", "postgresql", (), [*ALL, *CHILD]),
    ],
)  # fmt: skip
def test_a_write_changes_the_rows_that_it_names_or_any(known, sql, dialect, parameters, written):
    # What deletes does not reach the child, whose key has ON UPDATE alone.
    deletes = sql.startswith(("DELETE", "TRUNCATE", "INSERT OR REPLACE"))
    expected = [each for each in written if not deletes or each not in CHILD]
    assert sorted(known.of_text(sql, dialect, parameters).written) == sorted(expected)


def test_of_tables_that_no_mapping_has_told_of_no_rows_are_named():
    known = StatementTables()

    assert known.of_text("SELECT * FROM a WHERE id = 5", "sqlite").read == {"table:a"}
    assert known.of_text("UPDATE a SET x = 1 WHERE id = 5", "sqlite").written == {"rows:a", "table:a"}


def test_a_text_is_understood_anew_once_its_tables_are_known():
    known = StatementTables()
    sql = "SELECT * FROM a WHERE id = 5"
    assert known.of_text(sql, "sqlite").read == {"table:a"}

    known.schema.learn(Table("a", MetaData(), Column("id", Integer, primary_key=True)))

    assert known.of_text(sql, "sqlite").read == {"row:a:5", "rows:a"}


def test_tables_of_one_name_with_other_keys_are_not_told_by_rows():
    known = StatementTables()
    known.schema.learn(Table("a", MetaData(), Column("id", Integer, primary_key=True)))
    known.schema.learn(Table("a", MetaData(), Column("n", Integer, primary_key=True), schema="other"))

    assert known.of_text("SELECT * FROM a WHERE id = 5", "sqlite").read == {"table:a"}
    assert known.of_text("UPDATE a SET x = 1 WHERE n = 5", "sqlite").written == {"rows:a", "table:a"}


def test_a_table_whose_rows_make_room_for_others_is_not_told_by_rows():
    key = Column("id", Integer, primary_key=True)
    name = Column("name", String, unique=True, sqlite_on_conflict_unique="REPLACE")
    known = StatementTables()
    known.schema.learn(Table("a", MetaData(), key, name))

    assert known.of_text("INSERT INTO a (id, name) VALUES (5, 'x')", "sqlite").written == {
        "rows:a",
        "table:a",
    }
