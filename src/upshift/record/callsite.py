"""Where in the application something happened: the nearest frame that is not a library's.

The walk is on the hot path of every statement, so it does no string work: whether a file belongs to
the application is decided once for each file name and remembered. So is the call site of each place in the
application's code, as a frame has to decode a table to tell its line.
"""

from __future__ import annotations

import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import CodeType, FrameType

MAX_FRAMES = 200
"""Frames walked before giving up; deeper stacks have no call site rather than a slow request."""

MAX_FILES = 20_000
"""File names remembered; code that mints file names (templates, notebooks) cannot grow the table further."""


MAX_SITES = 20_000
"""Call sites remembered; those beyond are made anew each time."""


class CallSite(NamedTuple):
    """A line of the application.

    Attributes:
        file: the path as the interpreter has it.
        line: the line number, from 1.
        function: the function's qualified name.

    Example:
        >>> str(CallSite("shop/orders.py", 42, "list_orders"))
        'shop/orders.py:42 list_orders'
    """

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} {self.function}"


class CallSites:
    """Finds call sites, remembering which files are the application's.

    A file is a library's when it lies in the interpreter's standard library or in a `site-packages` or
    `dist-packages` folder, when it is part of Upshift itself, or when it is no file (`<string>`).

    Args:
        packages: top-level packages that are the application's, though they are installed among libraries.

    Example:
        >>> import inspect
        >>> def handler():
        ...     return CallSites().find(inspect.currentframe())
        >>> handler() is None  # a doctest is no file
        True
    """

    def __init__(self, packages: Iterable[str] = ()) -> None:
        paths = sysconfig.get_paths()
        own = str(Path(__file__).resolve().parent.parent)
        libraries = {own, paths["stdlib"], paths["platstdlib"]}
        self._libraries = ("<", *(path.rstrip("/") + "/" for path in libraries))
        self._packages = tuple(f"-packages/{package}{end}" for package in packages for end in ("/", ".py"))
        self._is_application: dict[str, bool] = {}
        # By the code's id, as hashing a code object reads all of it; it is kept, so the id stays its own.
        self._sites: dict[tuple[int, int], tuple[CallSite, CodeType]] = {}

    def find(self, frame: FrameType | None) -> CallSite | None:
        """Return the nearest application line at or above `frame`, or None."""
        known = self._is_application
        for _ in range(MAX_FRAMES):
            if frame is None:
                return None
            # What `find_at` does, without a call for each of a library's frames.
            is_application = known.get(frame.f_code.co_filename)
            if is_application is None:
                is_application = self._classify(frame.f_code.co_filename)
            if is_application:
                return self.find_known(frame) or self._site(frame)
            frame = frame.f_back
        return None

    def find_at(self, frame: FrameType) -> CallSite | None:
        """Return the line of this frame, if it is the application's."""
        file = frame.f_code.co_filename
        is_application = self._is_application.get(file)
        if is_application is None:
            is_application = self._classify(file)
        return self.find_known(frame) or self._site(frame) if is_application else None

    def find_known(self, frame: FrameType) -> CallSite | None:
        """Return the line of this frame, if it has been found before."""
        found = self._sites.get((id(frame.f_code), frame.f_lasti))
        return found[0] if found is not None else None

    def _site(self, frame: FrameType) -> CallSite:
        code = frame.f_code
        site = CallSite(code.co_filename, frame.f_lineno, code.co_qualname)
        if len(self._sites) < MAX_SITES:
            self._sites[id(code), frame.f_lasti] = (site, code)
        return site

    def _classify(self, file: str) -> bool:
        is_application = any(package in file for package in self._packages) or not (
            file.startswith(self._libraries) or "/site-packages/" in file or "/dist-packages/" in file
        )
        if len(self._is_application) < MAX_FILES:
            self._is_application[file] = is_application
        return is_application
