"""The shapes of statements by text, each understood once."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from upshift.sql.shape import Shape

MAX_TEXTS = 2_000
"""Texts whose shapes are remembered."""


class Shapes:
    """Shapes by text, remembered for at most `MAX_TEXTS` of them; never asked on the way of a request.

    Without sqlglot (extra `find`) nothing is known of any text.

    Example:
        >>> Shapes().of("SELECT name FROM book LIMIT 10").paged
        frozenset({'book'})
    """

    def __init__(self) -> None:
        self._by_text: dict[str, Shape | None] = {}

    def of(self, sql: str) -> Shape | None:
        """Return the shape of a statement; None where it is no SELECT that can be understood."""
        if sql not in self._by_text:
            try:
                from upshift.sql.shape import read_shape  # it needs an extra
            except ModuleNotFoundError:
                return None
            if len(self._by_text) >= MAX_TEXTS:
                self._by_text.clear()
            self._by_text[sql] = read_shape(sql)
        return self._by_text[sql]
