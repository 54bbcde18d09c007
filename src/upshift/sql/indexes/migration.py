"""The indexes as an Alembic migration: text for a human to review and commit.

PostgreSQL builds an index concurrently only outside a transaction, hence Alembic's `autocommit_block`
(https://alembic.sqlalchemy.org/en/latest/api/runtime.html#alembic.runtime.migration.MigrationContext.autocommit_block).
"""

from __future__ import annotations

import hashlib
from textwrap import indent
from typing import TYPE_CHECKING

from upshift.sql.indexes.declaration import keys, options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from upshift.sql.indexes.index import Index

_TEMPLATE = '''\
"""Indexes that Upshift advised and the planner was seen to use."""

import sqlalchemy as sa
from alembic import op

revision = {revision!r}
down_revision = {down_revision!r}
branch_labels = None
depends_on = None


{operations}
'''


def operations(indexes: Sequence[Index]) -> str:
    """Return `upgrade` and `downgrade` for these indexes, to paste into a migration.

    Example:
        >>> from upshift.sql.indexes.index import Index, IndexColumn
        >>> print(operations([Index("sqlite", "t", (IndexColumn("a"), IndexColumn("b", descending=True)))]))
        def upgrade() -> None:
            op.create_index(
                'upshift_t_a_b_a2de5e3c',
                't',
                ['a', sa.column('b').desc()],
                if_not_exists=True,
            )
        <BLANKLINE>
        <BLANKLINE>
        def downgrade() -> None:
            op.drop_index(
                'upshift_t_a_b_a2de5e3c',
                't',
                if_exists=True,
            )
    """
    up = _block(indexes, [_call("op.create_index", _creation(index)) for index in indexes])
    down = _block(indexes, [_call("op.drop_index", _removal(index)) for index in reversed(indexes)])
    return f"def upgrade() -> None:\n{up}\n\n\ndef downgrade() -> None:\n{down}"


def migration(indexes: Sequence[Index], down_revision: str | None = None) -> str:
    """Return a whole migration file.

    Args:
        indexes: what it creates; one at least.
        down_revision: the revision it follows; None for a first migration.
    """
    names = "\0".join(index.name for index in indexes)
    return _TEMPLATE.format(
        revision=hashlib.sha256(names.encode()).hexdigest()[:12],
        down_revision=down_revision,
        operations=operations(indexes),
    )


def _block(indexes: Sequence[Index], lines: list[str]) -> str:
    body = "\n".join(lines)
    if any(index.dialect == "postgresql" for index in indexes):
        body = "with op.get_context().autocommit_block():\n" + indent(body, "    ")
    return indent(body, "    ")


def operation(index: Index) -> str:
    """Return the Alembic operation that creates an index, on one line.

    Example:
        >>> from upshift.sql.indexes.index import Index, IndexColumn
        >>> operation(Index("sqlite", "t", (IndexColumn("a"),)))
        "op.create_index('upshift_t_a_bc6f9628', 't', ['a'], if_not_exists=True)"
    """
    return f"op.create_index({', '.join(_creation(index))})"


def _creation(index: Index) -> list[str]:
    return [
        repr(index.name),
        repr(index.table),
        f"[{keys(index)}]",
        *options(index),
        *_options(index),
        "if_not_exists=True",
    ]


def _removal(index: Index) -> list[str]:
    return [repr(index.name), repr(index.table), *_options(index), "if_exists=True"]


def _call(function: str, arguments: list[str]) -> str:
    return "\n".join([f"{function}(", *(f"    {argument}," for argument in arguments), ")"])


def _options(index: Index) -> list[str]:
    schema = [f"schema={index.schema!r}"] if index.schema else []
    return schema + (["postgresql_concurrently=True"] if index.dialect == "postgresql" else [])
