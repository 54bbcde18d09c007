"""One digest for all executions of a statement that differ only in values, at a bounded price."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upshift.sql.analysis import digest as module
from upshift.sql.analysis.digest import MAX_DIGEST_CHARACTERS, Digests, normalise


@pytest.mark.parametrize(
    "literal",
    [
        "1",
        "-1",
        "+7",
        "1.5",
        ".5",
        "1e9",
        "1.5E-3",
        "0xFF",
        "'Taipei'",
        "''",
        "'it''s'",
        "'a -- b'",
        "'a /* b */ c'",
        r"E'it\'s'",
        r"E'back\\'",
        "B'101'",
        "X'1F'",
        "N'text'",
        "$$dollar's$$",
        "$tag$ $$ inside $tag$",
        "%(id_1)s",
        "%s",
        "$1",
        "$12::INTEGER",
        "$1::VARCHAR[]",
        "$1::TIMESTAMP WITH TIME ZONE",
        "$1::DOUBLE PRECISION",
        "$1::NUMERIC(10, 2)",
        "%(id_1)s::INTEGER",
        ":id_1",
        "?",
        "?1",
    ],
)
def test_a_value_of_any_notation_becomes_a_question_mark(literal):
    assert normalise(f"SELECT a FROM t WHERE b = {literal} AND c") == "SELECT a FROM t WHERE b = ? AND c"


@pytest.mark.parametrize("length", [1, 2, 3, 500])
@pytest.mark.parametrize("value", ["1", "'a'", "?", "%(id_1_1)s", "$1::INTEGER", ":id_1"])
def test_an_in_list_of_any_length_is_one_statement(value, length):
    values = ", ".join([value] * length)
    assert normalise(f"SELECT a FROM t WHERE id IN ({values})") == "SELECT a FROM t WHERE id IN (...)"


@pytest.mark.parametrize("pairs", [1, 2, 50])
def test_an_in_list_of_tuples_is_one_statement(pairs):
    values = ", ".join(["(?, ?)"] * pairs)
    assert normalise(f"SELECT a FROM t WHERE (b, c) IN ({values})") == "SELECT a FROM t WHERE (b, c) IN (...)"


@pytest.mark.parametrize("rows", [1, 2, 1_000])
def test_any_number_of_values_rows_is_one_statement(rows):
    values = ", ".join(["(%(a)s, 'x')"] * rows)
    assert normalise(f"INSERT INTO t (a, b) VALUES {values}") == "INSERT INTO t (a, b) VALUES (...)"


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT t1.a2 FROM t1",
        'SELECT "name 1", "a ""b"" 2" FROM "order 66"',
        "SELECT `name 1` FROM `t 2`",
        "SELECT [name 1] FROM [t 2]",
        "SELECT price::text FROM t",
        "SELECT a ->> b FROM t",
        "SELECT count(*) FROM t",
    ],
)
def test_names_and_operators_are_kept(sql):
    assert normalise(sql) == sql


def test_a_cast_is_no_named_parameter():
    assert normalise("SELECT a::text, :a FROM t") == "SELECT a::text, ? FROM t"


def test_a_subscript_is_kept_and_its_index_is_a_value():
    assert normalise("SELECT tags[1] FROM t") == "SELECT tags[?] FROM t"


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT a\n  FROM t",
        "  SELECT a FROM t  ",
        "SELECT a -- the name\nFROM t",
        "/* route=/orders */ SELECT a FROM t /* trace=1 */",
        "SELECT a /* 'quote */ FROM t -- it's",
    ],
)
def test_white_space_and_comments_do_not_count(sql):
    assert normalise(sql) == "SELECT a FROM t"


def test_a_backslash_at_the_end_of_a_standard_string_does_not_swallow_what_follows():
    assert normalise(r"SELECT 'C:\', a FROM t WHERE b = 'x'") == "SELECT ?, a FROM t WHERE b = ?"


def test_an_escaped_quote_of_mysql_is_inside_its_string():
    assert normalise(r"SELECT 'it\'s', a FROM t") == "SELECT ?, a FROM t"


@pytest.mark.parametrize(
    "opened", ["'abc", r"E'abc\'", "$$abc", "$tag$abc$$", "/* abc", '"abc', "`abc", "[abc"]
)
def test_what_is_opened_and_never_closed_is_read_to_the_end(opened):
    assert normalise(f"SELECT a {opened}").startswith("SELECT a")


MEGABYTE = 1_000_000


@pytest.mark.timeout(60)  # quadratic reading of a megabyte would take hours
@pytest.mark.parametrize(
    "unit",
    [
        *("'", '"', "`", "[", "[a", "$", "$a$", "$$", "\\", "\\'", "'\\", "E'", "'' "),
        *("/*", "/", "-", "--", "(", "(?", "?, ", "(?), ", "IN (", " ", "\n"),
        *("0", "1.", "+", ".", "x", "0x", ":", "::", ":a", "%(", "%(a", "?::", "?::a", "?::a ", "?::a["),
    ],
)
def test_a_megabyte_is_read_in_bounded_time(unit):
    assert isinstance(normalise(unit * (MEGABYTE // len(unit))), str)


def test_the_displayed_text_is_bounded_and_the_identifier_covers_all_of_it():
    long = "SELECT " + "column_name, " * 1_000
    digests = Digests()
    one, other = digests.of(long + "a FROM t"), digests.of(long + "b FROM t")
    assert len(one.text) == MAX_DIGEST_CHARACTERS
    assert one.text == other.text
    assert one.id != other.id


def test_the_identifier_is_the_same_in_every_process():
    assert Digests().of("SELECT 1").id == "c148796e1220075a"


def test_a_text_that_is_no_valid_unicode_has_a_digest():
    assert Digests().of("SELECT 'a' AS \ud800").id


def test_a_text_is_read_once(monkeypatch):
    digests = Digests()
    first = digests.of("SELECT 1")
    monkeypatch.setattr(module, "normalise", None)
    assert digests.of("SELECT 1") is first


def test_the_number_of_remembered_texts_is_bounded(monkeypatch):
    monkeypatch.setattr(module, "MAX_TEXTS", 10)
    digests = Digests()
    ids = {digests.of(f"SELECT a FROM t WHERE id = {number}").id for number in range(100)}
    assert len(ids) == 1
    assert len(digests._by_text) <= 10


def test_the_weight_of_remembered_texts_is_bounded(monkeypatch):
    monkeypatch.setattr(module, "MAX_CHARACTERS", 1_000)
    digests = Digests()
    for number in range(100):
        digests.of(f"SELECT {number:0300d}")
        assert sum(map(len, digests._by_text)) <= 1_000


NAMES = st.from_regex(r"[a-z_]{1,12}", fullmatch=True)
TEXTS = st.text(st.characters(exclude_characters="'\\", exclude_categories=["Cs"]))
LITERALS = (
    st.integers().map(str)
    | st.decimals(allow_nan=False, allow_infinity=False).map("{:f}".format)
    | TEXTS.map("'{}'".format)
    | st.sampled_from(["?", "%s", "$1", "$2::INTEGER", "%(name_1)s", ":name"])
)


@given(NAMES, LITERALS, LITERALS, st.lists(LITERALS, min_size=1), st.lists(LITERALS, min_size=1))
def test_statements_that_differ_in_values_share_a_digest(table, one, other, some, more):
    template = "SELECT a FROM {} WHERE b = {} AND c IN ({})"
    digests = Digests()
    left = digests.of(template.format(table, one, ", ".join(some)))
    assert left == digests.of(template.format(table, other, ",".join(more)))


@given(NAMES, NAMES, LITERALS)
def test_statements_on_other_tables_have_other_digests(one, other, value):
    digests = Digests()
    left = digests.of(f'SELECT a FROM "{one}" WHERE b = {value}')
    assert (left == digests.of(f'SELECT a FROM "{other}" WHERE b = {value}')) == (one == other)


@given(st.text("aE1 '\"$?:%(),-/*\\[]\n.s_+IN", max_size=60))
def test_any_text_is_read_to_an_end(text):
    assert isinstance(normalise(text), str)


@given(NAMES, st.lists(LITERALS, min_size=1), st.lists(st.sampled_from([" ", "\n", " -- x\n", "/* y */"])))
def test_a_normalised_statement_is_its_own_normal_form(table, values, space):
    gap = " " + "".join(space)
    text = normalise(f"SELECT a{gap}FROM {table} WHERE b IN ({', '.join(values)}){gap}AND c = {values[0]}")
    assert normalise(text) == text
