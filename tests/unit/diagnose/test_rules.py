"""Each rule: what it reports, and what it must leave alone."""

from dataclasses import replace
from typing import ClassVar

import pytest

from upshift.diagnose import Observation, Severity, diagnose
from upshift.record import CallSite, LazyLoad, Record, Statement
from upshift.settings import Settings
from upshift.sql import Index, IndexAdvice, StatementTable
from upshift.sql.indexes.advice import Served
from upshift.sql.indexes.index import IndexColumn

HERE = CallSite("shop/orders.py", 42, "list_orders")
THERE = CallSite("shop/orders.py", 50, "list_orders")
QUERY = CallSite("shop/orders.py", 40, "list_orders")


def statement(
    sql="SELECT customer.id FROM customer WHERE customer.id = ?", *, site=HERE, seconds=0.001, **facts
):
    each = Statement(sql, 0.0, site)
    each.execute_seconds = seconds
    for name, value in facts.items():
        setattr(each, name, value)
    return each


def lazy(relationship="Order.customer", target="Customer", cohort=1, **facts):
    return statement(lazy_load=LazyLoad(relationship, target, cohort), **facts)


def record(*statements, route="/orders", **facts):
    each = Record("GET", route, 0.0)
    each.route = route
    each.status = 200
    for one in statements:
        each.add(one)
    for name, value in facts.items():
        setattr(each, name, value)
    return each


def found(*records, code=None, advice=()):
    table = StatementTable()
    for each in records:
        table.fold(each)
    observation = Observation(records=records, statements=table.rows(), advice=advice, settings=Settings())
    return [finding for finding in diagnose(observation) if code in {None, finding.code}]


class TestRepeatedStatement:
    def test_lazy_loads_of_a_cohort_are_an_n_plus_one(self):
        (finding,) = found(record(*[lazy() for _ in range(51)]))

        assert (finding.code, finding.severity, finding.site) == ("UP101", Severity.ERROR, HERE)
        assert finding.title == "N+1 on Order.customer: 51 statements in one request"
        assert finding.fix[0] == "select(Order).options(selectinload(Order.customer))"
        assert finding.expect == "51 statements, 51 ms together → 1 in one request"

    def test_objects_loaded_alone_are_none(self):
        assert found(record(*[lazy(cohort=i) for i in range(51)])) == []

    def test_fewer_repetitions_than_the_setting_are_none(self):
        assert found(record(lazy(), lazy())) == []

    def test_one_cohort_read_on_two_lines_is_one_cause(self):
        (finding,) = found(record(*[lazy() for _ in range(5)], *[lazy(site=THERE) for _ in range(3)]))

        assert finding.site == HERE
        assert finding.also == (THERE,)

    def test_one_cause_in_many_requests_is_reported_once_with_its_routes(self):
        (finding,) = found(
            record(*[lazy() for _ in range(5)], route="/a"), record(*[lazy() for _ in range(9)], route="/b")
        )

        assert finding.routes == ("GET /a", "GET /b")
        assert finding.data["statements"] == 9

    def test_a_statement_sent_in_a_loop_is_one(self):
        loop = [statement(f"SELECT a FROM t WHERE id = {i}") for i in range(4)]

        (finding,) = found(record(*loop))

        assert finding.title == "the same SELECT 4 times in one request"

    def test_chunks_of_an_eager_loader_are_none(self):
        assert found(record(*[statement(is_eager=True) for _ in range(9)])) == []

    def test_repeated_writes_are_none(self):
        assert found(record(*[statement("UPDATE t SET a = ?") for _ in range(9)])) == []

    def test_statements_without_a_call_site_are_left_alone(self):
        assert found(record(*[lazy(site=None) for _ in range(9)])) == []

    def test_the_same_statement_in_different_requests_is_none(self):
        assert found(*[record(statement()) for _ in range(9)]) == []


class TestSlowStatement:
    def test_a_statement_slow_on_average_is_a_warning_with_its_figures(self):
        slow = [statement(seconds=seconds) for seconds in (0.1, 0.2, 0.3)]

        (finding,) = found(*[record(each) for each in slow])

        assert (finding.code, finding.severity, finding.site) == ("UP102", Severity.WARNING, HERE)
        assert finding.data["count"] == 3
        assert finding.data["mean_seconds"] == pytest.approx(0.2)
        assert finding.data["max_seconds"] == pytest.approx(0.3)
        assert finding.data["share"] == pytest.approx(1.0)

    def test_one_slow_execution_among_fast_ones_is_for_information(self):
        (finding,) = found(
            record(statement(seconds=0.15)), *[record(statement(seconds=0.001)) for _ in range(9)]
        )

        assert finding.severity == Severity.INFO

    def test_many_slow_executions_among_fast_ones_are_a_warning(self):
        records = [record(statement(seconds=0.15 if i % 10 == 0 else 0.001)) for i in range(40)]

        (finding,) = found(*records)

        assert finding.severity == Severity.WARNING

    def test_a_statement_below_the_threshold_is_none(self):
        assert found(record(statement(seconds=0.09))) == []

    def test_statements_that_differ_in_values_count_together(self):
        records = [record(statement(f"SELECT a FROM t WHERE id = {i}", seconds=0.2)) for i in range(5)]

        (finding,) = found(*records)

        assert finding.data["count"] == 5


class TestMissingIndex:
    SQL = "SELECT a FROM t WHERE b = ?"
    ADVICE = IndexAdvice(
        Index("sqlite", "t", (IndexColumn("b"),)),
        (Served(SQL, 15_000.0, 200.0, ("SCAN t",), ("SEARCH t USING INDEX",)),),
        "steps",
        "copy",
    )

    def test_an_advised_index_is_a_warning_at_the_line_that_spends_most_on_it(self):
        slow, fast = statement(self.SQL, site=HERE, seconds=0.02), statement(self.SQL, site=THERE)

        (finding,) = found(record(fast, slow), advice=(self.ADVICE,))

        assert (finding.code, finding.severity) == ("UP201", Severity.WARNING)
        assert {finding.site, *finding.also} == {HERE, THERE}
        assert finding.evidence[0] == f"2x, 21.0 ms: {self.SQL}"
        assert finding.expect == "steps 15,000 → 200 (verified on a copy)"

    def test_the_command_that_builds_it_is_told_whole(self):
        (finding,) = found(record(statement(self.SQL)), advice=(self.ADVICE,))

        assert "upshift index apply --from findings.json" in finding.fix[-1]
        assert "upshift find … --format json > findings.json" in finding.fix[-1]

    @pytest.mark.parametrize(
        ("dialect", "told"),
        [
            ("sqlite", "or in a migration: op."),
            ("postgresql", "or in a migration, outside of its transaction: op."),
        ],
    )
    def test_only_an_index_that_is_built_concurrently_has_to_be_outside_of_the_transaction(
        self, dialect, told
    ):
        advice = replace(self.ADVICE, index=replace(self.ADVICE.index, dialect=dialect))

        (finding,) = found(record(statement(self.SQL, site=HERE)), advice=(advice,))

        assert finding.fix[1].startswith(told)


class TestLargeResponse:
    JSON: ClassVar = {
        "content_type": "application/json",
        "accept_encoding": "gzip, br",
        "response_bytes": 93_000,
    }

    def test_large_json_sent_uncompressed_is_a_warning_at_the_endpoint(self):
        def list_orders(): ...

        (finding,) = found(record(**self.JSON, endpoint=list_orders))

        assert (finding.code, finding.severity) == ("UP301", Severity.WARNING)
        assert finding.site.function.endswith("list_orders")
        assert finding.title == "93 KB of application/json sent uncompressed"

    @pytest.mark.parametrize(
        "fact",
        [
            {"response_bytes": 9_999},
            {"content_encoding": "gzip"},
            {"content_type": "image/png"},
            {"content_type": ""},
            {"accept_encoding": ""},
            {"accept_encoding": "gzip;q=0"},
        ],
    )
    def test_what_is_small_compressed_incompressible_or_refused_is_none(self, fact):
        assert found(record(**{**self.JSON, **fact})) == []

    def test_a_route_is_reported_once_with_its_largest_response(self):
        (finding,) = found(record(**self.JSON), record(**{**self.JSON, "response_bytes": 200_000}))

        assert finding.data["bytes"] == 200_000


def test_the_worst_findings_come_first():
    slow = record(statement("SELECT 1", site=QUERY, seconds=0.2))

    codes = [finding.code for finding in found(slow, record(*[lazy() for _ in range(5)]))]

    assert codes == ["UP101", "UP102"]


def test_nothing_observed_is_nothing_found():
    assert found() == []
