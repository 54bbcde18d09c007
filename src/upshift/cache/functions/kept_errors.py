"""Exceptions that are answers, such as "there is no such order", in the place of a value."""

from __future__ import annotations

from types import WrapperDescriptorType


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

    __slots__ = ("_arguments", "_attributes", "_is_builtin", "_kind")

    def __init__(self, error: Exception) -> None:
        self._kind = type(error)
        # Built-in ones keep what they are given in fields of their own, and tell it only so.
        self._is_builtin = isinstance(self._kind.__init__, WrapperDescriptorType)
        self._arguments = error.__reduce__()[1] if self._is_builtin else error.args
        self._attributes = dict(vars(error))

    def again(self) -> Exception:
        """Return the exception as if it had just been made."""
        # A constructor of the application's may ask for other arguments than those that it keeps.
        make = self._kind if self._is_builtin else self._made
        error = make(*self._arguments)
        error.__dict__.update(self._attributes)
        return error

    def _made(self, *arguments: object) -> Exception:
        error: Exception = self._kind.__new__(self._kind, *arguments)
        error.args = arguments
        return error
