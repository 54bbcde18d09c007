"""How bad it is what a statement does, by the time that it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from upshift.diagnose.finding import Severity

if TYPE_CHECKING:
    from collections.abc import Iterable

    from upshift.diagnose.observation import Observation
    from upshift.record import Statement


def severity_by_time(statements: Iterable[Statement], observation: Observation) -> Severity:
    """A warning where statements take long enough to be felt on average, else for information."""
    seconds = [statement.seconds for statement in statements]
    threshold = observation.settings.diagnose.costly_statement_seconds
    return Severity.WARNING if sum(seconds) >= threshold * len(seconds) else Severity.INFO
