"""What a statement does: known from its structure, and complete once its parameters are."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from upshift.cache.dependencies.names import EVERYTHING, rows_tag, table_tag
from upshift.cache.dependencies.rows import row_tags

if TYPE_CHECKING:
    from collections.abc import Iterable

    from upshift.cache.dependencies.rows import Parameters, Pin


class Tables(NamedTuple):
    """What an execution does to tables.

    Attributes:
        read: tags of what it reads: tables, or rows and their tables' `rows:`.
        written: tags of what it changes, cascades that the mapping knows of included.
        is_understood: whether that is all.
        generated: the table into which it inserts rows whose keys the database makes; empty for none.
    """

    read: frozenset[str]
    written: frozenset[str]
    is_understood: bool = True
    generated: str = ""


class Effect(NamedTuple):
    """What a statement does, whatever its parameters are.

    Attributes:
        tables: what is known without them. Of a table whose rows are pinned, `table:` is in `written`, and
            nothing is in `read`.
        reads: the rows it reads of other tables.
        writes: the rows it changes.
        is_text: whether its pins name parameters as they are sent, and not as SQLAlchemy has compiled them.
        may_commit: whether it may commit what its transaction has written.
        sets_isolation: whether it may set the isolation level of its transaction, or of later ones.
        temporary: the temporary table that it makes; empty for none.
    """

    tables: Tables
    reads: tuple[Pin, ...] = ()
    writes: tuple[Pin, ...] = ()
    is_text: bool = False
    may_commit: bool = False
    sets_isolation: bool = False
    temporary: str = ""


UNREADABLE = Effect(Tables(frozenset(), frozenset({EVERYTHING}), is_understood=False))
"""What a statement does that is not understood."""

UNREADABLE_READ = Effect(Tables(frozenset(), frozenset(), is_understood=False))
"""What a read does that is not understood."""

NOTHING = Effect(Tables(frozenset(), frozenset()))


def effect_of(
    tables: Iterable[str],
    reads: Iterable[Pin] = (),
    written: Iterable[str] = (),
    writes: Iterable[Pin] = (),
    generated: str = "",
) -> Effect:
    """Return what a statement does.

    Args:
        tables: names of tables that it reads anywhere.
        reads: rows that it reads of other tables, or of these, which then count as a whole.
        written: names of tables that it changes anywhere in.
        writes: rows that it changes of other tables, or of these.
        generated: the table into which it inserts rows whose keys the database makes.
    """
    whole, changed = frozenset(tables), frozenset(written)
    pinned = tuple(each for each in writes if each.table not in changed)
    tags = {table_tag(name) for name in changed} | {rows_tag(name) for name in changed}
    tags.update(table_tag(each.table) for each in pinned)
    if generated in changed:
        generated = ""
    if generated:
        tags.add(table_tag(generated))
    return Effect(
        Tables(frozenset(map(table_tag, whole)), frozenset(tags), generated=generated),
        tuple(each for each in reads if each.table not in whole),
        pinned,
    )


def resolved(effect: Effect, parameters: Parameters) -> Tables:
    """Return what an execution with these parameters does."""
    tables, reads, writes, *_ = effect
    if not reads and not writes:
        return tables
    read, written = tables.read, tables.written
    for pin in reads:
        rows = row_tags(pin, parameters)
        read |= {table_tag(pin.table)} if rows is None else {rows_tag(pin.table), *rows}
    for pin in writes:
        rows = row_tags(pin, parameters)
        written |= {rows_tag(pin.table)} if rows is None else rows
    return Tables(read, written, tables.is_understood, tables.generated)
