"""The comments that statements are sent with."""

from __future__ import annotations

import logging
import re
from contextvars import ContextVar
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy import create_engine, insert, literal, select, text
from sqlalchemy.dialects.mysql import pymysql
from sqlalchemy.dialects.postgresql import asyncpg, pg8000, psycopg, psycopg2
from sqlalchemy.dialects.sqlite import aiosqlite, pysqlite
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.pool import StaticPool

from upshift.record import Record
from upshift.sql.analysis.digest import normalise
from upshift.sql.capture.capture import Capture
from upshift.sql.capture.comments import MAX_VALUE, Comments

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"

# What the specification makes of a value: URL-encoded, between quotes.
COMMENT = re.compile(r" /\*((?:[a-z_]+='[A-Za-z0-9_.~%-]*'(?:,(?!\*/))?)+)\*/")


def record_of(request_id="4bf92f", trace_id=TRACE, span_id=SPAN, is_sampled=True):
    record = Record("GET", "/orders/7", 0.0)
    record.request_id, record.trace_id, record.span_id = request_id, trace_id, span_id
    record.is_sampled = is_sampled
    return record


def commented(sql, record, *, route="/orders/{id}", dialect=None, parameters=True):
    dialect = dialect or pysqlite.dialect()
    return Comments(lambda _: route).of(dialect, parameters=parameters)(sql, record)


def pairs_of(comment):
    return dict(re.findall(r"([a-z_]+)='([^']*)'", comment))


def test_the_comment_names_request_route_and_trace_in_the_order_of_the_keys():
    assert commented("SELECT 1", record_of()) == (
        f"SELECT 1 /*request_id='4bf92f',route='%2Forders%2F%7Bid%7D',traceparent='00-{TRACE}-{SPAN}-01'*/"
    )


def test_the_trace_says_whether_the_caller_records_it():
    for is_sampled in (False, None):
        assert commented("SELECT 1", record_of(is_sampled=is_sampled)).endswith(f"-{SPAN}-00'*/")


def test_what_is_not_known_is_left_out():
    assert commented("SELECT 1", record_of(trace_id=""), route=None) == "SELECT 1 /*request_id='4bf92f'*/"
    assert commented("SELECT 1", record_of("", ""), route=None) == "SELECT 1"


@pytest.mark.parametrize(
    "sql", ["SELECT 1 /* mine */", "/*+ SeqScan(a) */ SELECT 1", "SELECT 1 -- one", "SELECT '--'"]
)
def test_a_statement_with_a_comment_is_sent_as_it_is(sql):
    assert commented(sql, record_of()) == sql


@given(st.text(), st.text(), st.text(), st.text())
@example("*/; DROP TABLE users; --", "*/", "'*/", "\\'*/")
@example("\x00\r\n\ud800", "/**/", "%27%2A%2F", "%s%(a)s")
def test_no_value_can_end_the_comment_or_its_quotes(request_id, trace_id, span_id, route):
    record = record_of(request_id, trace_id, span_id)
    sql = commented("SELECT 1", record, route=route)
    assert sql.startswith("SELECT 1")
    comment = sql.removeprefix("SELECT 1")
    assert not comment or COMMENT.fullmatch(comment)
    assert comment.count("/*") == comment.count("*/") == bool(comment)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=MAX_VALUE))
def test_a_value_is_what_its_decoded_form_says(value):
    assert unquote(pairs_of(commented("SELECT 1", record_of(value or "-")))["request_id"]) == (value or "-")


@given(st.text(), st.text())
def test_where_percent_is_special_each_is_doubled(request_id, route):
    record = record_of(request_id)
    plain = commented("SELECT 1", record, route=route)
    doubled = commented("SELECT 1", record, route=route, dialect=psycopg.dialect())
    assert doubled % () == plain


def test_a_long_value_is_cut():
    assert len(commented("SELECT 1", record_of("x" * 1_000_000))) < 2 * MAX_VALUE


@pytest.mark.parametrize(
    ("dialect", "doubles"),
    [
        (pysqlite.dialect(), False),
        (aiosqlite.dialect(), False),
        (asyncpg.dialect(), False),
        (psycopg.dialect(), True),
        (psycopg2.dialect(), True),
        (pg8000.dialect(), True),
        (pymysql.dialect(), True),
    ],
    ids=lambda value: getattr(value, "driver", value),
)
def test_percent_is_doubled_for_the_drivers_that_read_it(dialect, doubles):
    assert ("%%2F" in commented("SELECT 1", record_of(), dialect=dialect)) == doubles
    assert "%%" not in commented("SELECT 1", record_of(), dialect=dialect, parameters=False)


def test_asyncpg_which_prepares_each_text_is_sent_the_route_only():
    assert commented("SELECT 1", record_of(), dialect=asyncpg.dialect()) == (
        "SELECT 1 /*route='%2Forders%2F%7Bid%7D'*/"
    )


def test_the_digest_does_not_see_the_comment():
    assert normalise(commented("SELECT 1", record_of())) == normalise("SELECT 1")


def test_a_fault_is_logged_once_and_the_statement_sent_without(caplog):
    def broken(_):
        raise ValueError

    comments = Comments(broken)
    comment = comments.of(pysqlite.dialect())
    with caplog.at_level(logging.ERROR, "upshift.sql"):
        assert [comment("SELECT 1", record_of()) for _ in range(3)] == ["SELECT 1"] * 3
    assert comments.faults == 3
    assert len(caplog.records) == 1


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class TestSent:
    """What reaches SQLite, told by its own trace of statements."""

    @pytest.fixture
    def current(self):
        return ContextVar("current", default=None)

    @pytest.fixture
    def engine(self, current):
        engine = create_engine("sqlite://", poolclass=StaticPool)
        Base.metadata.create_all(engine)
        capture = Capture([engine], current, comments=Comments(lambda _: "/items/{id}"))
        yield engine
        capture.close()
        assert capture.faults == 0
        engine.dispose()

    @pytest.fixture
    def sent(self, engine):
        statements = []
        raw = engine.raw_connection()
        raw.driver_connection.set_trace_callback(statements.append)
        raw.close()
        return statements

    def test_statements_of_a_request_end_with_the_comment_and_records_have_them_without(
        self, engine, current, sent
    ):
        record = record_of()
        current.set(record)
        with Session(engine) as session:
            session.add_all([Item(id=n, name=f"100 % {n}") for n in (1, 2)])
            session.commit()
            assert session.scalars(select(Item.name).where(Item.name.like("100 %"))).all()
            session.connection().exec_driver_sql("SELECT 1").all()
        asked = [each for each in sent if not each.startswith(("BEGIN", "COMMIT", "ROLLBACK"))]
        assert len(asked) >= 3
        assert all("route='%2Fitems%2F%7Bid%7D'" in each for each in asked)
        assert len(record.statements) >= 3
        assert not any("/*" in statement.sql for statement in record.statements)

    def test_outside_of_a_request_statements_are_sent_as_they_are(self, engine, sent):
        with engine.connect() as connection:
            connection.execute(insert(Item), [{"id": 1, "name": "a"}])
        assert not any("/*" in each for each in sent)

    def test_sqlalchemy_compiles_a_statement_once_for_all_requests(self, engine, current):
        query = select(literal(1))
        engine.clear_compiled_cache()
        for number in range(5):
            current.set(record_of(str(number)))
            with engine.connect() as connection:
                assert connection.execute(query).scalar() == 1
        assert len(engine._compiled_cache) == 1

    def test_an_error_shows_the_statement_without_it(self, engine, current):
        current.set(record_of())
        with engine.connect() as connection, pytest.raises(Exception, match="nowhere") as raised:
            connection.execute(text("SELECT * FROM nowhere"))
        assert raised.value.statement == "SELECT * FROM nowhere"

    def test_a_closing_semicolon_does_no_harm(self, engine, current):
        current.set(record_of())
        with engine.connect() as connection:
            assert connection.exec_driver_sql("SELECT 1;").scalar() == 1
