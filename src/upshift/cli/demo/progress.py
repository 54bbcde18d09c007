"""What the demo is doing: a line for each step done, and at a terminal the step under way."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from upshift.cli.progress import ProgressLine

if TYPE_CHECKING:
    from rich.console import Console


class Progress(ProgressLine):
    """Numbers the steps and times them.

    Args:
        console: where the lines go.
        steps: how many there will be.
    """

    def __init__(self, console: Console, steps: int) -> None:
        super().__init__(console.file)
        self._console = console
        self._steps = steps
        self._done = 0
        self._since = time.monotonic()

    def begin(self, what: str) -> None:
        """Tell that a step begins."""
        self._since = time.monotonic()
        self.show(f"[{self._done + 1}/{self._steps}] {what} ...")

    def part(self, what: str) -> None:
        """Tell how far the step under way is."""
        self.show(f"      {what}")

    def done(self, what: str) -> None:
        """Tell that a step is done."""
        self._done += 1
        self.clear()
        seconds = time.monotonic() - self._since
        self._console.print(f"[bold]\\[{self._done}/{self._steps}][/] {what} [dim]({seconds:.1f} s)[/]")
