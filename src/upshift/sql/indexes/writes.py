"""What the workload writes, and so what an index would cost it.

Every row inserted gets an entry in every index of its table. An updated row gets none while it can stay a
heap-only tuple (HOT: PostgreSQL's src/backend/access/heap/README.HOT), which it cannot once a column that any
index of the table names has changed; then it gets one in every index. An index on such a column therefore
costs more than its own entries: it takes HOT from the updates that had it. Deleting writes no entry.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sqlglot import exp, parse
from sqlglot.optimizer.normalize_identifiers import normalize_identifiers

from upshift.sql.placeholders import name_placeholders
from upshift.sql.statement import LANGUAGES, MAX_LENGTH, table_name

if TYPE_CHECKING:
    from upshift.sql.catalog import Table, TableName
    from upshift.sql.indexes.index import DialectName, Index


@dataclass(frozen=True, slots=True)
class Write:
    """A statement that writes a table.

    Attributes:
        table: the table, as the statement names it.
        kind: what it does to rows.
        columns: the columns that an update sets; empty for the others.
    """

    table: TableName
    kind: Literal["insert", "update", "delete"]
    columns: frozenset[str] = frozenset()

    def entries(self, index: Index, table: Table, others: int) -> float:
        """How many index entries one written row costs because of an index.

        Args:
            index: the index, which is on the written table.
            table: the table, without that index.
            others: how many other indexes the table has.

        Example:
            >>> from upshift.sql.catalog import Table, TableName
            >>> from upshift.sql.indexes.index import Index, IndexColumn
            >>> jobs = Table("job", "public", {"id": "id", "state": "state"}, ((IndexColumn("id"),),), rows=9)
            >>> index = Index("postgresql", "job", (IndexColumn("state"),))
            >>> Write(TableName("job"), "insert").entries(index, jobs, 1)
            1.0
            >>> Write(TableName("job"), "update", frozenset({"state"})).entries(index, jobs, 1)
            2.0
        """
        if self.kind == "insert":
            return 1.0
        if self.kind == "delete":
            return 0.0
        named = (
            {key.name for key in index.columns} | set(index.include) | {each.column for each in index.where}
        )
        is_hot = not any(key.name in self.columns for existing in table.indexes for key in existing)
        if index.dialect == "sqlite":  # without HOT, only what names a changed column is written
            return 1.0 if named & self.columns else 0.0
        if not is_hot:
            return 1.0
        return 1.0 + others if named & self.columns else 0.0


def read_write(sql: str, dialect: DialectName) -> Write | None:
    """What a statement writes; None where it writes nothing, or cannot be read.

    Args:
        sql: the text, with PostgreSQL's own placeholders (`$1`) or SQLite's.
        dialect: the database it is written for.

    Example:
        >>> read_write("UPDATE job SET state = $1 WHERE id = $2", "postgresql").columns
        frozenset({'state'})
    """
    if len(sql) > MAX_LENGTH:
        return None
    language = LANGUAGES[dialect]
    try:
        root = parse(name_placeholders(sql) if dialect == "postgresql" else sql, dialect=language)[0]
        root = normalize_identifiers(root, dialect=language) if root is not None else None
    except Exception:  # noqa: BLE001 - a parser given any text at all fails in any way at all
        return None
    match root:
        case exp.Insert():
            kind: Literal["insert", "update", "delete"] = "insert"
            target = root.this.this if isinstance(root.this, exp.Schema) else root.this
        case exp.Update() | exp.Delete():
            kind = "update" if isinstance(root, exp.Update) else "delete"
            target = root.this
        case _:
            return None
    name = table_name(target)
    if name is None:
        return None
    columns: frozenset[str] = frozenset()
    if isinstance(root, exp.Update):
        columns = frozenset(each.this.name for each in root.expressions if isinstance(each, exp.EQ))
    return Write(name, kind, columns)
