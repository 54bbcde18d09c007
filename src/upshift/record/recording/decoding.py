"""A line as the record that it was made of."""

from __future__ import annotations

from types import FunctionType
from typing import TYPE_CHECKING, Any

from upshift.record.callsite import CallSite
from upshift.record.model import LazyLoad, Record, Statement
from upshift.record.ongoing import Excerpt
from upshift.record.pool import Hold, Transaction
from upshift.record.recording.frames import RECORD_FIELDS, SOCKET_FIELDS, STATEMENT_FIELDS
from upshift.record.recording.loader_path import Column, Entity, Relationship, Table
from upshift.record.recording.parameters import from_json
from upshift.record.socket import Socket

if TYPE_CHECKING:
    from collections.abc import Callable

    from upshift.record.recording.frames import (
        Class,
        HoldFrame,
        LazyLoadFrame,
        RecordFrame,
        StatementFrame,
        Step,
    )

MAX_CHARACTERS = 64_000_000
"""Characters of all defined texts together; no writer defines as many."""

MAX_BASES = 50
"""Classes that one may inherit from, one from the other; making it takes time in proportion."""


class Decoder:
    """Decodes the lines of one recording, in their order."""

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self._texts: dict[int, str] = {}
        self._characters = 0
        self._sites: dict[int, CallSite] = {}
        self._endpoints: dict[int, Callable[..., Any]] = {}
        self._entities: dict[tuple[int, int], Entity] = {}
        self._relationships: dict[tuple[int, str], Relationship] = {}

    def decode(self, frame: RecordFrame) -> Record:
        """Return the record of a line.

        Raises:
            ValueError: it refers to what no line has defined, or a value in it is none.
        """
        try:
            return self._record(frame)
        except (LookupError, OverflowError, TypeError) as error:
            raise ValueError("it refers to what no line before it has defined") from error

    def _record(self, frame: RecordFrame) -> Record:
        self._define(frame)
        kind = Excerpt if frame.is_excerpt else Record
        record = Socket(frame.path, frame.started) if frame.socket else kind("", "", 0.0)
        for name in RECORD_FIELDS:
            setattr(record, name, getattr(frame, name))
        if isinstance(record, Socket):
            for name in SOCKET_FIELDS:
                setattr(record, name, getattr(frame.socket, name))
        record.statements = [self._statement(each) for each in frame.statements]
        record.holds = tuple(self._hold(each, record.statements) for each in frame.holds)
        if frame.endpoint is not None:
            record.endpoint = self._endpoint(frame.endpoint)
        record.is_closed = True
        return record

    def _define(self, frame: RecordFrame) -> None:
        if frame.forget:
            self._forget()
        self._characters += sum(map(len, frame.texts.values()))
        if self._characters > MAX_CHARACTERS:
            raise ValueError(f"more than {MAX_CHARACTERS:,} characters of statements are defined")
        self._texts |= frame.texts
        self._sites |= {number: CallSite(*site) for number, site in frame.sites.items()}
        for number, each in frame.classes.items():
            self._entities[number, 0] = self._entity(each)

    def _entity(self, defined: Class) -> Entity:
        bases = () if defined.base is None else (self._entities[defined.base, 0].class_,)
        if bases and len(bases[0].__mro__) > MAX_BASES:
            raise ValueError(f"a class inherits from more than {MAX_BASES} others")
        key = tuple(Column(Table(table), name) for table, name in defined.key)
        return Entity(type(defined.name, bases, {}), key)

    def _statement(self, frame: StatementFrame) -> Statement:
        statement = Statement(self._texts[frame.sql], frame.started)
        for name in STATEMENT_FIELDS:
            setattr(statement, name, getattr(frame, name))
        if frame.site is not None:
            statement.site = self._sites[frame.site]
        if frame.lazy_load is not None:
            statement.lazy_load = self._lazy_load(frame.lazy_load)
        statement.object_load = frame.object_load
        if frame.parameters is not None:
            statement.parameters = from_json(frame.parameters)
        return statement

    def _lazy_load(self, frame: LazyLoadFrame) -> LazyLoad:
        return LazyLoad(frame.relationship, frame.target, frame.cohort, tuple(map(self._step, frame.path)))

    def _step(self, step: Step) -> Entity | Relationship:
        owner = self._entities[step.of, 0]
        if step.key is not None:
            return self._relationships.setdefault((step.of, step.key), Relationship(owner, step.key))
        if not step.alias:
            return owner
        alias = self._entities.get((step.of, step.alias))
        if alias is None:
            alias = self._entities[step.of, step.alias] = Entity(owner.class_, owner.primary_key, owner)
        return alias

    def _hold(self, frame: HoldFrame, statements: list[Statement]) -> Hold:
        return Hold(
            frame.pool,
            frame.asked,
            frame.obtained,
            frame.until,
            frame.is_returned,
            [statements[position] for position in frame.statements],
            [
                Transaction(
                    each.began,
                    each.ended,
                    each.ending_seconds,
                    each.outcome,
                    None if each.site is None else self._sites[each.site],
                    each.first,
                    each.after,
                )
                for each in frame.transactions
            ],
            frame.began,
        )

    def _endpoint(self, number: int) -> Callable[..., Any]:
        endpoint = self._endpoints.get(number)
        if endpoint is None:
            endpoint = self._endpoints[number] = _defined_at(self._sites[number])
        return endpoint


def _defined_at(site: CallSite) -> Callable[..., Any]:
    """Return a function that does nothing and tells that it is written at a line, as an endpoint does."""

    def endpoint() -> None: ...

    code = endpoint.__code__.replace(
        co_filename=site.file, co_firstlineno=site.line, co_qualname=site.function
    )
    return FunctionType(code, {}, endpoint.__name__)
