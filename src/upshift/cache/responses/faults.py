"""What goes wrong here is told once, counted, and kept from the request."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

logger = logging.getLogger("upshift.cache")


class Faults:
    """A `with` block that ends where an exception is raised in it; any number of them at once.

    Attributes:
        count: exceptions until now.

    Example:
        >>> faults = Faults()
        >>> faults.count
        0
    """

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> None:
        """Begin a block."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        """Count an exception; what ends a task or the process is none."""
        if isinstance(error, Exception):
            self.note(error)
            return True
        return False

    def note(self, error: Exception) -> None:
        """Count an exception."""
        self.count += 1
        if self.count == 1:
            logger.error(
                "a response could not be looked up or stored; later faults are only counted", exc_info=error
            )
