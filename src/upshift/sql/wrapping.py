"""Wraps methods of one object, and takes the wrappers out again in any order.

Nothing is changed in a class, so other objects of it are not touched. Several owners may wrap one method.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


class Owner(Protocol):
    """Whoever wraps methods; once it is closed, its wrappers only pass calls through."""

    is_closed: bool


def wrap(target: object, name: str, wrapper: Callable[..., Any], owner: Owner) -> None:
    """Put a wrapper in the place of a method, or of a function that is an attribute, on one object.

    Args:
        target: the object.
        name: what the wrapper calls.
        wrapper: a function of its own for each call of this one.
        owner: whose wrapper it is.
    """
    vars(wrapper).update(owner=owner, __wrapped__=getattr(target, name))
    setattr(target, name, wrapper)


def unwrap(target: object, name: str) -> None:
    """Take out the wrappers of closed owners, down to the first that is in use or somebody else's.

    One that somebody has wrapped after us stays, and passes calls through.

    Example:
        >>> from types import SimpleNamespace
        >>> owner, target = SimpleNamespace(is_closed=False), SimpleNamespace(greet=lambda: "hello")
        >>> greet = target.greet
        >>> wrap(target, "greet", lambda: greet().upper(), owner)
        >>> target.greet()
        'HELLO'
        >>> owner.is_closed = True
        >>> unwrap(target, "greet")
        >>> target.greet()
        'hello'
    """
    method: Any = vars(target).get(name)
    while (owner := getattr(method, "owner", None)) is not None and owner.is_closed:
        method = method.__wrapped__
        function = getattr(method, "__func__", None)
        if function is not None and function is getattr(type(target), name, None):
            delattr(target, name)
        else:
            setattr(target, name, method)
