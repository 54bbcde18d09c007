"""What the rules read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from upshift.sql.shapes import Shapes

if TYPE_CHECKING:
    from upshift.record import Record
    from upshift.record.leak import Leak
    from upshift.settings import Settings
    from upshift.sql import IndexAdvice, StatementPlans, StatementStatistics, SurplusIndex, Use
    from upshift.sql.index_keys import IndexKeys
    from upshift.sql.maintenance.tables import TableHealth


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What was seen of one application.

    Attributes:
        records: requests kept in full, the oldest first.
        statements: statistics of all statements, the most expensive first.
        settings: the settings in force, with the rules' thresholds.
        advice: the indexes that the database's planner was seen to use; empty where none were looked for.
        indexes: the keys of the database's indexes; empty where its catalogue was not read.
        shapes: what is understood of statements' texts.
        plans: the plans of statements that were explained, with their history.
        tables: how the tables of the databases are kept; empty where nobody looked.
        leaks: connections that were not given back as they should.
        uses: what is loaded, and whether sampled requests read it.
        surplus: indexes that the database would be better without; empty where none were looked for.
    """

    records: tuple[Record, ...]
    statements: tuple[StatementStatistics, ...]
    settings: Settings
    advice: tuple[IndexAdvice, ...] = ()
    plans: tuple[StatementPlans, ...] = ()
    indexes: tuple[IndexKeys, ...] = ()
    shapes: Shapes = field(default_factory=Shapes)
    tables: tuple[TableHealth, ...] = ()
    leaks: tuple[Leak, ...] = ()
    uses: tuple[Use, ...] = ()
    surplus: tuple[SurplusIndex, ...] = ()
