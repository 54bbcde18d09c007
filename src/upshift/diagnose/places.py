"""Places as findings name them in their texts, short enough to be read."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from upshift.record import CallSite

_PARTS = 2


def place_of(site: CallSite) -> str:
    """Name a line by its file and the folder of that.

    Example:
        >>> from upshift.record import CallSite
        >>> place_of(CallSite("/srv/app/shop/orders.py", 42, "list_orders"))
        'shop/orders.py:42'
    """
    return f"{'/'.join(PurePath(site.file).parts[-_PARTS:])}:{site.line}"
