"""What the demo is doing: a line for each step done, and at a terminal the step under way."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


class Progress:
    """Numbers the steps and times them.

    Args:
        console: where the lines go.
        steps: how many there will be.
    """

    def __init__(self, console: Console, steps: int) -> None:
        self._console = console
        self._steps = steps
        self._done = 0
        self._since = time.monotonic()

    def done(self, what: str) -> None:
        """Tell that a step is done."""
        self._done += 1
        now = time.monotonic()
        self._clear()
        self._console.print(
            f"[bold]\\[{self._done}/{self._steps}][/] {what} [dim]({now - self._since:.1f} s)[/]"
        )
        self._since = now

    def part(self, done: int, total: int, what: str) -> None:
        """Tell how far the step under way is; where lines cannot be overwritten, only now and then."""
        if self._console.is_terminal:
            self._clear()
            self._console.file.write(f"      {done}/{total}  {what}")
            self._console.file.flush()
        elif done and total >= _PARTS and done % (total // _PARTS) == 0:
            self._console.print(f"      {done}/{total}  {what}")

    def _clear(self) -> None:
        if self._console.is_terminal:
            self._console.file.write("\r\x1b[K")


_PARTS = 4
