"""Tells objects of a fork for as long as they live."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from weakref import WeakMethod

if TYPE_CHECKING:
    from collections.abc import Callable


def after_fork(method: Callable[[], None]) -> None:
    """Call an object's method in each child that this process forks.

    A hook cannot be taken back, so it does not keep the object alive. Nothing happens where there is no fork.

    Args:
        method: a bound method.
    """
    reference = WeakMethod(method)

    def call_if_alive() -> None:
        alive = reference()
        if alive is not None:
            alive()

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=call_if_alive)
