"""Upshift finds what makes a Python backend slow, fixes it, and proves the fix.

The names come when they are asked for: behind them are libraries that take half a second to import, and the
command line has to answer before that.
"""

TYPE_CHECKING = False  # as in `typing`, which takes longer to import than all of this
if TYPE_CHECKING:
    from upshift.application import Upshift
    from upshift.cache import Cache
    from upshift.settings import Settings

__all__ = ["Cache", "Settings", "Upshift"]

_ROOMS = {"Cache": "upshift.cache", "Settings": "upshift.settings", "Upshift": "upshift.application"}


def __getattr__(name: str) -> object:
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(_ROOMS[name]), name)
    globals()[name] = value  # the next time without this function
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
