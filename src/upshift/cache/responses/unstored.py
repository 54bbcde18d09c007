"""Requests whose answers were not stored the last time.

Who asks for such a one does not wait for another's to learn that again: the answers to a request that is
never stored are made side by side, as without a cache.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from upshift.cache.responses.keys import Key

MAX_UNSTORED = 1_024
"""How many are remembered; the one not seen for longest makes room."""


class Unstored:
    """Remembers keys."""

    def __init__(self) -> None:
        self._keys: OrderedDict[Key, None] = OrderedDict()

    def __contains__(self, key: Key) -> bool:
        """Whether an answer was not stored the last time."""
        return key in self._keys

    def note(self, key: Key, *, is_stored: bool) -> None:
        """Remember how it was this time."""
        if is_stored:
            self._keys.pop(key, None)
            return
        self._keys[key] = None
        self._keys.move_to_end(key)
        if len(self._keys) > MAX_UNSTORED:
            self._keys.popitem(last=False)
