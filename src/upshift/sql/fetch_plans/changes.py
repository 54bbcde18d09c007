"""What a session does its changes through, which tells before there is one.

SQLAlchemy has no event for it. It notes every change in three containers of the session. And some methods of
a session go on to what an object has loaded, without loading it: they are told before they look.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import ref

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session

    Tells = list[Callable[[], None]]

CASCADING = ("delete", "delete_all", "expire", "expunge", "merge", "merge_all", "refresh")
"""Methods of a session that go on to what an object has loaded; not all versions have all of them."""


def tells_of(session: Session) -> Tells:
    """Return the functions that a session calls before a change. Who adds one takes it out again."""
    identities: Any = session.identity_map
    noted = identities._modified
    if (
        type(noted) is not _Modified
        or type(session._new) is not _Marks
        or type(session._deleted) is not _Marks
    ):
        tells: Tells = []
        noted = identities._modified = _Modified(noted, tells)
        session._new = _Marks(session._new, tells)
        session._deleted = _Marks(session._deleted, tells)
        for name in CASCADING:
            if hasattr(session, name):
                vars(session)[name] = _Method(session, name, tells)
    found: Tells = noted.tells
    return found


def is_changed(session: Session) -> bool:
    """Tell whether a session has changes to flush."""
    known: Any = session.identity_map
    return bool(known._modified or session._new or session._deleted)


class _Marks(dict[Any, Any]):
    """The states that a session notes as new or deleted."""

    def __init__(self, noted: dict[Any, Any], tells: Tells) -> None:
        super().__init__(noted)
        self._tells = tells

    def __setitem__(self, state: Any, value: Any) -> None:  # noqa: ANN401 - as SQLAlchemy has them
        for tell in tuple(self._tells):
            tell()
        super().__setitem__(state, value)


class _Modified(set[Any]):
    """The states that a session notes as modified."""

    def __init__(self, noted: set[Any], tells: Tells) -> None:
        super().__init__(noted)
        self.tells = tells

    def add(self, state: Any) -> None:  # noqa: ANN401 - as SQLAlchemy has them
        for tell in tuple(self.tells):
            tell()
        super().add(state)


class _Method:
    """A method of one session; it does not keep the session alive."""

    def __init__(self, session: Session, name: str, tells: Tells) -> None:
        own = vars(session).get(name)
        self._session = ref(session)
        self._name = name
        self._tells = tells
        self._own: Callable[..., Any] | None = own._own if isinstance(own, _Method) else own

    def __call__(self, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - as SQLAlchemy has them
        for tell in tuple(self._tells):
            tell()
        if self._own is not None:  # one that somebody else has given this session
            return self._own(*arguments, **options)
        session = self._session()
        return getattr(type(session), self._name)(session, *arguments, **options)
