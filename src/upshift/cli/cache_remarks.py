"""What `upshift cache doctor` finds, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "note", "warning", "problem"]


@dataclass(frozen=True, slots=True)
class Remark:
    """One thing that was looked at.

    Attributes:
        level: how bad it is; a `note` is to be known, and nothing has to be done.
        about: what was looked at.
        found: what was found.
        advice: what to do about it; "" where nothing is.
    """

    level: Level
    about: str
    found: str
    advice: str = ""
