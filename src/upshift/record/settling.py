"""What is made of a record's statements and connections when its request is over.

It refers to parameters and to the uses of connections while it is open; here it lets go of them.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

from upshift.record.parameters import note_parameters
from upshift.record.pool import hold_of

if TYPE_CHECKING:
    from upshift.record.model import Record


def settle(record: Record) -> None:
    """Note what is told of parameters, and how connections were held; twice changes nothing."""
    note_parameters(record.statements)
    checkouts, record.checkouts = record.checkouts, None
    if checkouts:
        now = perf_counter()
        record.holds = tuple(hold_of(each, now) for each in checkouts)
