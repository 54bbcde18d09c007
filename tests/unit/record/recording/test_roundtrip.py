"""Records that are read back are those that were written, in every field that is recorded."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upshift.record import (
    CallSite,
    Hold,
    LazyLoad,
    ObjectLoad,
    Record,
    Socket,
    Statement,
    Transaction,
)
from upshift.record.model import Product
from upshift.record.recording import frames
from upshift.record.recording.decoding import Decoder
from upshift.record.recording.encoding import Encoder
from upshift.record.recording.frames import (
    LEFT_OUT,
    RECORD_FIELDS,
    SOCKET_FIELDS,
    STATEMENT_FIELDS,
    HoldFrame,
    LazyLoadFrame,
    Line,
    RecordFrame,
    TransactionFrame,
)
from upshift.record.recording.parameters import Unrecorded, from_json, is_recorded, to_json


def through(record, **arguments):
    encoder = Encoder("", keep_parameters=arguments.get("keep_parameters", True))
    return Decoder().decode(msgspec.json.decode(encoder.encode(record), type=Line))


def fields_of(kind):
    """Its slots, and what its objects have from the class until it is set."""
    return {*kind.__slots__} - {"__dict__"} | {
        name
        for name, value in vars(kind).items()
        if not name.startswith("_")
        and not callable(value)
        and not isinstance(value, property)
        and type(value).__name__ != "member_descriptor"
    }


def test_every_field_of_a_record_is_recorded_or_said_to_be_left_out():
    fields = fields_of(Record)
    special = {"statements", "holds", "endpoint"}
    assert fields - special - set(RECORD_FIELDS) - LEFT_OUT.keys() == set()


def test_every_field_of_a_statement_is_recorded_or_said_to_be_left_out():
    special = {"sql", "site", "lazy_load", "object_load", "parameters"}
    assert fields_of(Statement) - special - set(STATEMENT_FIELDS) - LEFT_OUT.keys() == set()


def test_every_field_of_a_connection_is_recorded():
    assert set(Socket.__slots__) == set(SOCKET_FIELDS)


@pytest.mark.parametrize(
    ("kind", "frame"), [(LazyLoad, LazyLoadFrame), (Hold, HoldFrame), (Transaction, TransactionFrame)]
)
def test_every_field_of_the_parts_of_a_record_is_recorded(kind, frame):
    assert set(kind._fields) == set(frame.__struct_fields__)


def test_what_is_left_out_exists_and_has_a_reason():
    known = {*Record.__slots__, *vars(Record), *Statement.__slots__}
    assert set(LEFT_OUT) <= known
    assert all(LEFT_OUT.values())


NAMES = st.text(max_size=20)
SECONDS = st.floats(0, 1e6)
WHOLE = st.integers(0, 2**40)
STATEMENTS = st.builds(
    dict,
    sql=st.text(max_size=60),
    started=SECONDS,
    ended=SECONDS,
    execute_seconds=SECONDS,
    fetch_seconds=SECONDS,
    rows=st.none() | WHOLE,
    executions=WHOLE,
    is_eager=st.booleans(),
    is_bulk=st.booleans(),
    product=st.none() | st.builds(Product, st.lists(NAMES, max_size=3).map(tuple), WHOLE, WHOLE),
    error=st.none() | NAMES,
    site=st.none() | st.builds(CallSite, NAMES, WHOLE, NAMES),
    object_load=st.none() | st.builds(ObjectLoad, NAMES, st.sampled_from(["get", "expired", "refresh"])),
    fingerprint=st.none() | WHOLE,
    lazy_load=st.none() | st.builds(LazyLoad, NAMES, NAMES, WHOLE, st.just(())),
)


def statement_of(fields):
    made = Statement("", 0.0)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


RECORDS = st.builds(
    dict,
    path=NAMES,
    started=SECONDS,
    seconds=SECONDS,
    status=st.integers(0, 999),
    error=st.none() | NAMES,
    route=st.none() | NAMES,
    is_streamed=st.booleans(),
    response_bytes=WHOLE,
)


@given(RECORDS, st.lists(STATEMENTS, max_size=5))
def test_a_record_comes_back_as_it_was(fields, statements):
    record = Record("GET", "", 0.0)
    for name, value in fields.items():
        setattr(record, name, value)
    record.statements = list(map(statement_of, statements))
    back = through(record)
    assert {name: getattr(back, name) for name in RECORD_FIELDS} == {
        name: getattr(record, name) for name in RECORD_FIELDS
    }
    assert [
        {name: getattr(each, name) for name in given}
        for each, given in zip(back.statements, statements, strict=True)
    ] == statements
    assert back.is_closed


def test_files_are_told_relative_to_the_folder_of_the_process(record, statement):
    encoder = Encoder("/srv/shop", keep_parameters=False)
    one, other = statement(), statement()
    one.site = CallSite("/srv/shop/orders.py", 1, "f")
    other.site = CallSite("/srv/shopping/orders.py", 1, "f")
    line = encoder.encode(record(one, other))
    back = Decoder().decode(msgspec.json.decode(line, type=Line))
    assert [each.site.file for each in back.statements] == ["orders.py", "/srv/shopping/orders.py"]


def test_an_endpoint_comes_back_as_a_function_of_the_same_place(record):
    back = through(record(endpoint=test_what_is_left_out_exists_and_has_a_reason))
    code = test_what_is_left_out_exists_and_has_a_reason.__code__
    found = back.endpoint.__code__
    assert (found.co_filename, found.co_firstlineno) == (code.co_filename, code.co_firstlineno)
    assert found.co_qualname == "test_what_is_left_out_exists_and_has_a_reason"


def test_holds_refer_to_the_statements_of_the_record(record, statement):
    one, other, unknown = statement(), statement(), statement()
    ended = Transaction(1.0, 2.0, 0.1, "commit", CallSite("a.py", 3, "f"), 0, 2)
    hold = Hold("shop", 0.5, 0.6, 3.0, True, [other, one, unknown], [ended], 2.5)
    (back,) = through(record(one, other, holds=(hold,))).holds
    assert back._replace(statements=[]) == hold._replace(statements=[])
    assert [each.started for each in back.statements] == [other.started, one.started]


def test_a_websocket_connection_comes_back_as_one():
    socket = Socket("/ws", 1.0)
    socket.messages_received, socket.close_code, socket.statements_dropped = 3, 1001, 9
    back = through(socket)
    assert isinstance(back, Socket)
    assert (back.messages_received, back.close_code, back.statements_dropped) == (3, 1001, 9)


def test_a_text_is_written_once_and_again_when_it_was_forgotten(record, statement):
    encoder = Encoder("", keep_parameters=False)
    first, second = (encoder.encode(record(statement())) for _ in range(2))
    encoder.forget()
    third = encoder.encode(record(statement()))
    assert [b"SELECT" in line for line in (first, second, third)] == [True, False, True]
    decoder = Decoder()
    backs = [decoder.decode(msgspec.json.decode(line, type=Line)) for line in (first, second, third)]
    assert [each.statements[0].sql for each in backs] == ["SELECT a FROM t WHERE id = ?"] * 3


def test_numbers_begin_anew_before_they_run_out(record, statement):
    encoder, decoder = Encoder("", keep_parameters=False), Decoder()
    for number in range(30):
        made = record(*[statement(f"SELECT {number * 2_000 + each}", line=each) for each in range(2_000)])
        back = decoder.decode(msgspec.json.decode(encoder.encode(made), type=RecordFrame))
        assert back.statements[-1].sql == made.statements[-1].sql
    assert max(encoder._texts.values()) < frames.MAX_DEFINED


def test_an_offset_that_nobody_reaches_is_cut(record, statement):
    assert through(record(statement(offset=9 * 10**18))).statements[0].offset == 2**40


def test_what_is_no_unicode_is_written_all_the_same(record, statement):
    back = through(record(statement("SELECT '\udcff'"), path="/\udcff"))
    assert back.path == "/\\udcff"


VALUES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=50)
    | st.binary(max_size=50)
    | st.dates()
    | st.datetimes(timezones=st.none() | st.just(UTC)).map(lambda value: value.replace(fold=0))
    | st.times().map(lambda value: value.replace(fold=0))
    | st.timedeltas()
    | st.decimals(allow_nan=False)
    | st.uuids()
)
NESTED = VALUES | st.lists(VALUES, max_size=4) | st.dictionaries(st.text(max_size=5), VALUES, max_size=4)


@given(
    st.lists(NESTED, max_size=6).map(tuple) | st.dictionaries(st.text(max_size=9).filter("$".__ne__), NESTED)
)
def test_parameters_come_back_with_their_types(parameters):
    back = from_json(msgspec.json.decode(msgspec.json.encode(to_json(parameters))))
    assert back == parameters
    assert repr(back) == repr(parameters)
    assert is_recorded(back)


@pytest.mark.parametrize("value", [object(), 2**9_000, "x" * 30_000, b"x" * 30_000, {1}, [object()]])
def test_a_value_that_cannot_be_recorded_is_told_by_its_type(value):
    back = from_json(to_json((1, value)))
    assert back[0] == 1
    assert not is_recorded(back)


def test_too_many_values_are_not_recorded_at_all():
    back = from_json(to_json((list(range(5_000)),)))
    assert back == Unrecorded("tuple")


@pytest.mark.parametrize(
    "written",
    [{"$": "date", "v": "yesterday"}, {"$": "no kind", "v": "1"}, {"$": 1}, [{"$": "int", "v": "x"}]],
)
def test_parameters_that_are_none_are_refused(written):
    with pytest.raises(ValueError, match="a parameter is"):
        from_json(written)


def test_values_that_are_easily_taken_for_another_stay_what_they_are():
    values = (
        True,
        1,
        1.0,
        Decimal(1),
        date(2026, 1, 1),
        datetime(2026, 1, 1, tzinfo=UTC),
        time(0),
        timedelta(0),
        UUID(int=0),
    )
    assert [type(each) for each in from_json(to_json(values))] == [type(each) for each in values]


def test_parameters_are_left_out_unless_they_are_to_be_kept(record, statement):
    made = record(statement(parameters=(7,)))
    assert through(made).statements[0].parameters == (7,)
    assert through(made, keep_parameters=False).statements[0].parameters is None
