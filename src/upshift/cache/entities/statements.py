"""Names of statements, the same in every process: what a list of objects is kept under."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from sqlalchemy import Select
from sqlalchemy.orm import Load, Mapper
from sqlalchemy.orm.interfaces import MapperProperty

from upshift.cache.codec.shape import name_of
from upshift.errors import CacheKeyError

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect

MAX_NAMES = 1_024
"""Statements whose names are remembered; then they are made anew."""


class StatementNames:
    """Names statements.

    What SQLAlchemy takes for the same statement has the same name. That of another is another: should two
    ever come to the same, the second has none.
    """

    def __init__(self) -> None:
        self._names: dict[Any, str | None] = {}
        self._keys: dict[str, Any] = {}

    def of(self, statement: Select[Any], dialect: Dialect) -> tuple[str, tuple[Any, ...]] | None:
        """Return the name of a statement and its parameters; None where it must be sent.

        Args:
            statement: a SELECT.
            dialect: what it is written for.
        """
        if statement._for_update_arg is not None or statement.get_execution_options():
            return None
        cache_key = statement._generate_cache_key()
        if cache_key is None:
            return None
        key = (dialect.name, cache_key.key)
        if key in self._names:
            name = self._names[key]
        else:
            if len(self._names) >= MAX_NAMES:
                self._names.clear()
                self._keys.clear()
            name = self._names[key] = self._name(statement, dialect, key)
        if name is None:
            return None
        return name, tuple(each.effective_value for each in cache_key.bindparams)

    def _name(self, statement: Select[Any], dialect: Dialect, key: Any) -> str | None:
        options = [_option(each) for each in statement._with_options]
        if None in options:
            return None
        text = "\n".join([dialect.name, str(statement.compile(dialect=dialect)), *filter(None, options)])
        name = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
        return name if self._keys.setdefault(name, key) == key else None


def refuse_other(statement: Any, model: type[Any]) -> None:
    """Refuse a statement that selects something else than objects of a class.

    Raises:
        CacheKeyError: it does.
    """
    described = statement.column_descriptions if isinstance(statement, Select) else []
    classes = [each["entity"] if each["expr"] is each["entity"] else None for each in described]
    is_class = [isinstance(each, type) and issubclass(each, model) for each in classes]
    if is_class != [True]:
        raise CacheKeyError(
            f"a list of {model.__name__} is that of select({model.__name__}), filtered and ordered"
        )


def _option(option: Any) -> str | None:
    """Return a loader option as a text; None where it has what no text tells."""
    if not isinstance(option, Load):
        return None
    parts = [_element(each) for each in option.context]
    return None if None in parts else " ".join(filter(None, parts))


def _element(element: Any) -> str | None:
    steps = [_step(each) for each in element.path.path]
    of_type = getattr(element, "_of_type", None)
    if None in steps or element._extra_criteria or of_type is not None:
        return None
    return f"{'.'.join(filter(None, steps))} {element.strategy!r} {sorted(element.local_opts.items())!r}"


def _step(step: Any) -> str | None:
    if isinstance(step, Mapper):
        return name_of(step.class_)
    if isinstance(step, MapperProperty):
        return step.key
    return step if isinstance(step, str) else None
