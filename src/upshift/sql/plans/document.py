"""The plans that a process has kept, as one document for programs on its machine.

The types are the schema, and read a document back. Within one `version` fields are added, never removed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import msgspec

from upshift.sql.plans.history import StatementPlans  # noqa: TC001 - msgspec reads the types when it decodes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanDocument:
    """The whole.

    Attributes:
        version: of the schema.
        statements: the plans of those that were asked for.
    """

    version: Literal[1] = 1
    statements: tuple[StatementPlans, ...]


class ToldPlans:
    """Tells of plans, of all statements or of those whose digest begins with `digest`.

    Args:
        plans: tells what is known.

    Example:
        >>> ToldPlans(tuple).answer({})
        b'{"version":1,"statements":[]}'
    """

    def __init__(self, plans: Callable[[], tuple[StatementPlans, ...]]) -> None:
        self._plans = plans

    def answer(self, query: Mapping[str, str]) -> bytes:
        """Return as JSON what a query asks for."""
        beginning = query.get("digest", "").lower()
        chosen = tuple(each for each in self._plans() if each.digest.id.startswith(beginning))
        return msgspec.json.encode(PlanDocument(statements=chosen))


def decode_plans(body: bytes) -> PlanDocument:
    """Read a document back.

    Raises:
        msgspec.DecodeError: it is none.
    """
    return msgspec.json.decode(body, type=PlanDocument)
