"""A record as a line."""

from __future__ import annotations

import inspect
import os
from typing import TYPE_CHECKING, Any

import msgspec

from upshift.record.callsite import CallSite
from upshift.record.encodable import encodable
from upshift.record.ongoing import Excerpt
from upshift.record.recording.frames import (
    MAX_COUNT,
    MAX_DEFINED,
    MAX_SQL,
    RECORD_FIELDS,
    SOCKET_FIELDS,
    STATEMENT_FIELDS,
    Class,
    HoldFrame,
    LazyLoadFrame,
    RecordFrame,
    SocketFrame,
    StatementFrame,
    Step,
    TransactionFrame,
)
from upshift.record.recording.parameters import to_json
from upshift.record.socket import Socket

if TYPE_CHECKING:
    from collections.abc import Callable

    from upshift.record.model import LazyLoad, Record, Statement
    from upshift.record.pool import Hold

ROOM = MAX_DEFINED // 2
"""Numbers that may be taken before a record is encoded; no record needs as many as are left."""

MAX_CHARACTERS = 16_000_000
"""Characters of all remembered texts together."""


class Encoder:
    """Encodes the records of one recording, in their order.

    Args:
        root: the folder that files are told relative to.
        keep_parameters: whether parameters are written, where records have them.
    """

    def __init__(self, root: str, *, keep_parameters: bool) -> None:
        self._root = root.rstrip(os.sep) + os.sep if root else ""
        self._keep_parameters = keep_parameters
        self._encoder = msgspec.json.Encoder(enc_hook=str)  # texts of SQLAlchemy's own kind
        self._frame = _no_record()
        self._is_new = True
        self.forget()

    def forget(self) -> None:
        """Define everything anew, as a line may not have been written."""
        self._texts: dict[str, int] = {}
        self._characters = 0
        self._sites: dict[CallSite, int] = {}
        # By id, as SQLAlchemy's objects are compared by it; they are kept, so that their ids stay their own.
        self._classes: dict[int, tuple[int, Any]] = {}
        self._aliases: dict[int, tuple[int, Any]] = {}
        self._is_new = True

    def encode(self, record: Record) -> bytes:
        """Return the line of a closed record, with its newline; after a fault everything is defined anew."""
        try:
            return self._encode(record)
        except Exception:
            self.forget()
            raise

    def _encode(self, record: Record) -> bytes:
        taken = max(len(self._texts), len(self._sites), len(self._classes), len(self._aliases))
        if taken > ROOM or self._characters > MAX_CHARACTERS:
            self.forget()
        self._frame = frame = RecordFrame(**{name: getattr(record, name) for name in RECORD_FIELDS})
        frame.forget, self._is_new = self._is_new, False
        frame.statements = tuple(map(self._statement, record.statements))
        positions = {id(each): position for position, each in enumerate(record.statements)}
        frame.holds = tuple(self._hold(hold, positions) for hold in record.holds)
        frame.is_excerpt = isinstance(record, Excerpt)
        frame.endpoint = self._definition(record.endpoint)
        if isinstance(record, Socket):
            frame.socket = SocketFrame(**{name: getattr(record, name) for name in SOCKET_FIELDS})
        try:
            return self._encoder.encode(frame) + b"\n"
        except UnicodeEncodeError:
            plain = msgspec.to_builtins(frame, str_keys=True, enc_hook=str)
            return self._encoder.encode(encodable(plain, "backslashreplace")) + b"\n"

    def _statement(self, statement: Statement) -> StatementFrame:
        frame = StatementFrame(
            self._text(statement.sql[:MAX_SQL]),
            **{name: getattr(statement, name) for name in STATEMENT_FIELDS},
        )
        frame.offset = min(statement.offset, MAX_COUNT)  # which a client may have asked for
        if statement.site is not None:
            frame.site = self._site(statement.site)
        if statement.lazy_load is not None:
            frame.lazy_load = self._lazy_load(statement.lazy_load)
        frame.object_load = statement.object_load
        if self._keep_parameters and statement.parameters is not None:
            frame.parameters = to_json(statement.parameters)
        return frame

    def _text(self, sql: str) -> int:
        number = self._texts.get(sql)
        if number is None:
            number = self._texts[sql] = len(self._texts)
            self._characters += len(sql)
            self._frame.texts[number] = sql
        return number

    def _hold(self, hold: Hold, positions: dict[int, int]) -> HoldFrame:
        return HoldFrame(
            pool=hold.pool,
            asked=hold.asked,
            obtained=hold.obtained,
            until=hold.until,
            is_returned=hold.is_returned,
            statements=tuple(positions[id(each)] for each in hold.statements if id(each) in positions),
            transactions=tuple(
                TransactionFrame(
                    began=each.began,
                    ended=each.ended,
                    ending_seconds=each.ending_seconds,
                    outcome=each.outcome,
                    first=each.first,
                    after=each.after,
                    site=self._site(each.site) if each.site else None,
                )
                for each in hold.transactions
            ),
            began=hold.began,
        )

    def _definition(self, endpoint: Callable[..., Any] | None) -> int | None:
        code = getattr(inspect.unwrap(endpoint), "__code__", None) if endpoint is not None else None
        if code is None:
            return None
        return self._site(CallSite(code.co_filename, code.co_firstlineno, code.co_qualname))

    def _site(self, site: CallSite) -> int:
        number = self._sites.get(site)
        if number is None:
            number = self._sites[site] = len(self._sites)
            self._frame.sites[number] = (site.file.removeprefix(self._root), site.line, site.function)
        return number

    def _lazy_load(self, load: LazyLoad) -> LazyLoadFrame:
        frame = LazyLoadFrame(load.relationship, load.target, load.cohort)
        try:
            frame.path = tuple(map(self._step, load.path))
        except AttributeError:  # what no released version of SQLAlchemy has in a path
            frame.path = ()
        return frame

    def _step(self, element: Any) -> Step:  # noqa: ANN401 - SQLAlchemy's, or what stands for it
        if element.is_property:
            return Step(self._class(element.parent), element.key)
        step = Step(self._class(element.mapper))
        if element.is_aliased_class:
            step.alias = self._aliases.setdefault(id(element), (len(self._aliases) + 1, element))[0]
        return step

    def _class(self, mapper: Any) -> int:  # noqa: ANN401 - likewise
        class_ = mapper.class_
        known = self._classes.get(id(class_))
        if known is None:
            base = getattr(mapper, "inherits", None)
            number = None if base is None else self._class(base)
            known = self._classes[id(class_)] = (len(self._classes), class_)
            key = tuple((str(column.table.name), str(column.name)) for column in mapper.primary_key)
            self._frame.classes[known[0]] = Class(class_.__name__, number, key)
        return known[0]


def _no_record() -> RecordFrame:
    return RecordFrame(method="", path="", started=0.0, status=0, seconds=0.0)
