"""Exceptions that are answers, such as "there is no such order", in the place of a value."""

from __future__ import annotations


class KeptError:
    """An exception that is raised for each call that is answered by it.

    Each gets one of its own: an exception that is raised again and again collects tracebacks, and with them
    the frames of all who caught it.

    Example:
        >>> kept = KeptError(LookupError("no order 7"))
        >>> kept.again()
        LookupError('no order 7')
        >>> kept.again() is kept.again()
        False
    """

    __slots__ = ("_arguments", "_attributes", "_kind")

    def __init__(self, error: Exception) -> None:
        self._kind = type(error)
        self._arguments = error.args
        self._attributes = dict(vars(error))

    def again(self) -> Exception:
        """Return the exception as if it had just been made."""
        # Not by its constructor, which may ask for other arguments than those it keeps.
        error: Exception = self._kind.__new__(self._kind, *self._arguments)
        error.args = self._arguments
        error.__dict__.update(self._attributes)
        return error
