"""Where an endpoint is written."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from upshift.record import CallSite

if TYPE_CHECKING:
    from collections.abc import Callable


def definition_of(endpoint: Callable[..., object] | None) -> CallSite | None:
    """Where a function is written, from its code: no source file is read.

    Example:
        >>> definition_of(len) is None  # it is written in C
        True
    """
    code = getattr(inspect.unwrap(endpoint), "__code__", None) if endpoint is not None else None
    return None if code is None else CallSite(code.co_filename, code.co_firstlineno, code.co_qualname)
