"""Loads the values of one function, and keeps those that may be kept."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import contextmanager
from string import Formatter
from time import perf_counter
from typing import TYPE_CHECKING, Any

from upshift.cache.codec import codec_for, copies_of, return_annotation_of
from upshift.cache.dependencies import CURRENT, Reading, reading, whole_tables
from upshift.cache.functions.entries import entry_of
from upshift.cache.functions.flights import Load
from upshift.cache.functions.held_objects import watching_objects
from upshift.cache.functions.kept_errors import KeptError
from upshift.cache.functions.store import Dependence, name_tag, namespace_tag
from upshift.errors import CodecError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from upshift.cache.functions.calls import Call
    from upshift.cache.functions.options import Options
    from upshift.cache.functions.store import Store
    from upshift.cache.memory import Entry

logger = logging.getLogger("upshift.cache")

NOT_COPIED = "it holds a mapped object that would not come back as it is"
"""Why such a value is not kept: all who ask would get the same object."""

MAX_EXPECTED = 64
"""Tags of its values that a function remembers, to stamp them before it loads."""

_READ_ONCE = (Iterator, AsyncIterator, Awaitable)
"""What the next caller would find used up: generators, results of queries, coroutines."""

_PLAIN = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class Loader:
    """Loads for one function.

    Args:
        function: the function, sync or async.
        store: what it works with.
        options: how its values are kept.
        namespace: the first part of its keys.

    Raises:
        SettingsError: a tag names a parameter that the function does not have.

    Attributes:
        expected: tags that its values have depended on, but for those of rows and those that a call tells.
        tag: the one that all of them depend on.
        kept: is told of each call whose value has been loaded and kept.
    """

    def __init__(self, function: Callable[..., Any], store: Store, options: Options, namespace: str) -> None:
        self.expected: frozenset[str] = frozenset()
        self.tag = namespace_tag(namespace)
        self.kept: Callable[[Call, Entry], None] | None = None
        self._function = function
        self._store = store
        self._options = options
        self._signature = inspect.signature(function)
        parameters = self._signature.parameters
        is_plain = all(each.kind in _PLAIN for each in parameters.values())
        self._count = len(parameters) if is_plain else -1
        told = [_template(tag, tuple(parameters), namespace) for tag in options.tags]
        self._tags = (self.tag, *told)
        self._templates = frozenset(tag for tag in told if "{" in tag or "}" in tag)
        self._codec = codec_for(return_annotation_of(function))
        self._has_told = False

    async def run_async(self, call: Call) -> Any:
        """Load a value, whatever is kept, and keep it if it may be."""
        load = self._load(call, asyncio.Event(), asyncio.get_running_loop())
        with self._store.flights.under_way(call.key, load), self._reading(call, load):
            try:
                value = await self._function(*call.arguments, **call.named)
            except self._options.kept_errors as error:
                load.entry = self._keep(call, KeptError(error), load)
                raise
            load.entry = self._keep(call, value, load)
            return value

    def run_sync(self, call: Call) -> Any:
        """Load a value, whatever is kept, and keep it if it may be."""
        load = self._load(call, threading.Event(), threading.get_ident())
        with self._store.flights.under_way(call.key, load), self._reading(call, load):
            try:
                value = self._function(*call.arguments, **call.named)
            except self._options.kept_errors as error:
                load.entry = self._keep(call, KeptError(error), load)
                raise
            load.entry = self._keep(call, value, load)
            return value

    def put(self, call: Call, value: Any) -> bool:
        """Keep a value that was read elsewhere; return whether it is kept."""
        tags = frozenset(self._told(call))
        told = self._store.dependence(tags if CURRENT.get() else tags | whole_tables(self.expected))
        value, told = self._shareable(value, told)
        return self._store.keep(self._entry(call, value, told), told.refusal) is not None

    def _load(self, call: Call, done: Any, owner: Any) -> Load[Any]:
        told = self._told(call)
        mine = Reading(self._store.tokens, self._store.now(), self.expected, CURRENT.get())
        mine.need(told)
        return Load(done, owner, mine, told)

    def _told(self, call: Call) -> tuple[str, ...]:
        """Return the tags that are known of a call before anything is read."""
        templates = self._templates
        if not templates:
            return self._tags
        values = self._arguments(call)
        return tuple([tag.format(*values) if tag in templates else tag for tag in self._tags])

    def _arguments(self, call: Call) -> Iterable[Any]:
        """Return the arguments of a call in the order of their parameters."""
        if not call.named and len(call.arguments) == self._count:
            return call.arguments  # `bind` takes a hundred times as long
        bound = self._signature.bind(*call.arguments, **call.named)
        bound.apply_defaults()
        return bound.arguments.values()

    @contextmanager
    def _reading(self, call: Call, load: Load[Any]) -> Iterator[None]:
        """Gather what a load reads, and count it."""
        with self._counted(), watching_objects(call, load.reading), reading(load.reading):
            yield

    @contextmanager
    def _counted(self) -> Iterator[None]:
        statistics, began = self._store.statistics, perf_counter()
        try:
            yield
        except self._options.kept_errors:
            raise
        except Exception:
            statistics.errors += 1
            raise
        finally:
            statistics.loads.add(perf_counter() - began)

    def _keep(self, call: Call, value: Any, load: Load[Any]) -> Entry | None:
        """Keep what was loaded, if it may be; a call that waits takes it from the entry."""
        if isinstance(value, _READ_ONCE):
            load.reading.refuse("it can be read only once")
        tags = load.reading.tags
        read = load.reading.expected.difference(load.told)
        if not read <= self.expected and len(self.expected | read) <= MAX_EXPECTED:
            self.expected |= read
        depends = Dependence(tags, load.reading.stamp, load.reading.refusal)
        value, depends = self._shareable(value, depends)
        entry = self._store.keep(self._entry(call, value, depends), depends.refusal, load)
        if entry is not None and self.kept is not None:
            self.kept(call, entry)
        return entry

    def _shareable(self, value: Any, depends: Dependence) -> tuple[Any, Dependence]:
        """Return what all callers can be answered by; where that is impossible, the value is not kept."""
        try:
            return copies_of(value, self._codec) or value, depends
        except CodecError as error:
            if not self._has_told:
                logger.warning("a value of %s is not kept: %s", self.tag, error)
            self._has_told = True
            return value, Dependence(depends.tags, depends.stamp, NOT_COPIED)

    def _entry(self, call: Call, value: Any, depends: Dependence) -> Entry:
        options = self._options
        if type(value) is KeptError or (value is None and options.negative_seconds is not None):
            return entry_of(call.key, value, depends, options.negative_seconds)
        return entry_of(call.key, value, depends, options.seconds, options.refresh_share)


def _template(tag: str, names: tuple[str, ...], namespace: str) -> str:
    """Return a tag that may name arguments in braces, as a template for their values.

    Raises:
        SettingsError: the braces are none, or name what is no parameter of the function.
    """
    try:
        return _by_position(name_tag(tag), names)
    except LookupError as error:
        raise SettingsError(
            f"the tag {tag!r} of {namespace}: it has no parameter {error.args[0]!r}"
        ) from None
    except ValueError as error:
        raise SettingsError(f"the tag {tag!r} of {namespace} has braces without a name: {error}") from None


def _by_position(template: str, names: tuple[str, ...]) -> str:
    """Return a template for a text with its fields numbered, by the places of what they name.

    Raises:
        LookupError: one names something else.
        ValueError: the template is none.

    Example:
        >>> _by_position("dish:{number:{width}}:{user.id!r}{{", ("user", "number", "width"))
        'dish:{1:{2}}:{0.id!r}{{'
    """
    parts = []
    for literal, field, form, conversion in Formatter().parse(template):
        parts.append(literal.replace("{", "{{").replace("}", "}}"))
        if field is not None:
            name = field.partition(".")[0].partition("[")[0]
            if name not in names:
                raise LookupError(name)
            how = (f"!{conversion}" if conversion else "") + (f":{_by_position(form, names)}" if form else "")
            parts.append(f"{{{names.index(name)}{field[len(name) :]}{how}}}")
    return "".join(parts)
