"""What stands for no value, where None may be one."""

from __future__ import annotations

from enum import Enum
from typing import Final, Literal


class Missing(Enum):
    """The type of `MISSING`."""

    MISSING = "missing"

    def __bool__(self) -> Literal[False]:
        """Say no, as None does."""
        return False

    def __repr__(self) -> str:
        """Return its name."""
        return "MISSING"


MISSING: Final = Missing.MISSING
"""What `get` of a cached function returns where nothing is kept: None may be a value."""
