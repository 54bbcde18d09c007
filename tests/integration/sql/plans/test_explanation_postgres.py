"""Statements explained on a real PostgreSQL: what is executed, what is not, and what the plans show."""

from __future__ import annotations

from decimal import Decimal

import pytest
import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from upshift.sql.placeholders import Sample
from upshift.sql.plans.explain import ExplainRefusedError
from upshift.sql.plans.explanation import Explanation, explain_statement


@pytest.fixture
def engine(postgres_database: str) -> sa.Engine:
    return sa.create_engine(postgres_database, poolclass=NullPool)


def run(engine: sa.Engine, *statements: str) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT", no_parameters=True) as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def explain(engine: sa.Engine, sql: str, parameters: object = None, **options: object) -> Explanation:
    with engine.connect() as connection:
        return explain_statement(connection, Sample(sql, parameters), **options)


class TestPlans:
    def test_a_plan_is_for_the_parameters_where_they_fit(self, planned):
        tree = explain(planned, "SELECT * FROM event WHERE id < %(most)s", {"most": 3}).tree
        assert (tree.is_generic, tree.is_executed, tree.nodes[0].kind) == (False, False, "Index Scan")

    def test_a_plan_is_generic_where_there_are_none(self, planned):
        assert explain(planned, "SELECT * FROM event WHERE id < %(most)s").tree.is_generic

    def test_the_generic_plan_is_had_beside_the_other(self, planned):
        explanation = explain(planned, "SELECT * FROM event WHERE id < %(n)s", {"n": 3}, with_generic=True)
        assert explanation.generic.is_generic
        assert explanation.generic.cost > explanation.tree.cost

    def test_no_value_is_in_a_plan(self, planned):
        sql = "SELECT * FROM event WHERE kind = %(kind)s AND code = ANY(%(codes)s) AND amount > %(least)s"
        values = {"kind": "s3cret", "codes": ["hunter2", "hunter3"], "least": Decimal("4711.25")}
        tree = explain(planned, sql, values, analyze=True).tree
        assert tree.is_executed
        assert not [value for value in ("s3cret", "hunter", "4711") if value in str(tree)]

    def test_settings_and_version_are_told(self, planned):
        with planned.connect() as connection:
            connection.exec_driver_sql("SET enable_seqscan = off")
            connection.commit()
            tree = explain_statement(connection, Sample("SELECT * FROM event")).tree
        assert tree.settings == {"enable_seqscan": "off"}
        assert tree.version.startswith("1")

    def test_own_costs_add_up_to_the_whole(self, planned):
        sql = (
            "SELECT e.id, (SELECT max(b) FROM pair p WHERE p.a = e.tenant) FROM event e "
            "JOIN event o ON o.id = e.id + 1 WHERE e.kind = 'kind 3' ORDER BY e.created LIMIT 5"
        )
        tree = explain(planned, sql).tree
        assert sum(node.own_cost for node in tree.nodes) == pytest.approx(tree.cost)

    def test_the_worst_node_is_the_scan_that_reads_everything(self, planned):
        tree = explain(planned, "SELECT count(*) FROM event WHERE plain + 0 = 7", analyze=True).tree
        assert tree.nodes[tree.worst].kind == "Seq Scan"
        assert tree.nodes[tree.worst].removed_rows == 19_999


class TestWhatIsExecuted:
    @pytest.mark.parametrize(
        ("sql", "why"),
        [
            ("SELECT nextval('counter')", "nextval"),
            ("SELECT id FROM event WHERE pg_try_advisory_lock(id)", "pg_try_advisory_lock"),
            ("SELECT set_config('work_mem', '1MB', false)", "set_config"),
            ("SELECT noisy(id) FROM event", "noisy"),
            ("SELECT id FROM locking WHERE held", "pg_try_advisory_lock"),
            ("SELECT * FROM event ORDER BY random() LIMIT 3", "random"),
            ("SELECT * FROM generate_series(1, 3) g, LATERAL (SELECT noisy(g)) n", "noisy"),
            ("SELECT id FROM event FOR UPDATE", "locks rows"),
            ("SELECT * INTO copied FROM event", "SELECT INTO"),
            ("UPDATE event SET tenant = 0", "writes"),
            ("DELETE FROM event", "writes"),
            ("WITH gone AS (DELETE FROM event RETURNING id) SELECT * FROM gone", "writes"),
            ("INSERT INTO pair VALUES (1, 2, 'x')", "only"),
        ],
    )
    def test_whatever_may_change_something_is_planned_only(self, planned, sql, why):
        explanation = explain(planned, sql, analyze=True)
        assert not explanation.tree.is_executed
        assert why in explanation.note

    def test_a_policy_of_row_level_security_counts_as_the_statements_own(self, planned):
        with planned.connect() as connection:
            connection.exec_driver_sql("SET ROLE reader")
            connection.commit()
            explanation = explain_statement(connection, Sample("SELECT * FROM guarded"), analyze=True)
        assert (explanation.tree.is_executed, "noisy" in explanation.note) == (False, True)

    def test_an_operator_of_a_volatile_function_keeps_everything_from_being_executed(self, engine):
        run(
            engine,
            "CREATE FUNCTION sly(int, int) RETURNS bool LANGUAGE plpgsql AS 'BEGIN RETURN true; END'",
            "CREATE OPERATOR && (FUNCTION = sly, LEFTARG = int, RIGHTARG = int)",
        )
        explanation = explain(engine, "SELECT g FROM generate_series(1, 2) g WHERE g && 1", analyze=True)
        assert explanation.note == "the operator && is made of a volatile function"

    @pytest.mark.parametrize(
        "sql",
        [
            "SELECT id, calm(id), lower(kind), now() FROM event WHERE kind LIKE 'kind%%' LIMIT 3",
            "SELECT 'nextval(1)', 'DELETE FROM event' FROM event LIMIT 1",
            "WITH t AS (SELECT tenant, count(*) n FROM event GROUP BY 1) SELECT * FROM t JOIN t u USING (n)",
        ],
    )
    def test_what_changes_nothing_is_executed(self, planned, sql):
        explanation = explain(planned, sql, {} if "%%" in sql else None, analyze=True)
        assert (explanation.note, explanation.tree.is_executed) == ("", True)

    def test_it_is_executed_in_a_transaction_that_cannot_write(self, planned):
        with planned.connect() as connection:
            seen = []
            sa.event.listen(connection, "before_cursor_execute", lambda *told: seen.append(told[2]))
            explain_statement(connection, Sample("SELECT count(*) FROM event"), analyze=True)
        sets = next(each for each in seen if each.startswith("SET"))
        assert sets.startswith("SET TRANSACTION READ ONLY; SET LOCAL statement_timeout")

    def test_a_statement_that_takes_too_long_is_planned_only(self, planned):
        sql = "SELECT count(*) FROM event a, event b, event c WHERE a.plain + b.plain = c.plain + 1"
        explanation = explain(planned, sql, analyze=True, seconds=0.2)
        assert not explanation.tree.is_executed
        assert "statement timeout" in explanation.note

    @pytest.mark.parametrize(
        "sql",
        [
            "SELECT 1; DELETE FROM event",
            "TRUNCATE event",
            "VACUUM event",
            "SET work_mem = '1MB'",
            "SELECT 1\0",
            "",
        ],
    )
    def test_other_text_is_refused(self, planned, sql):
        with pytest.raises(ExplainRefusedError):
            explain(planned, sql, analyze=True)

    def test_a_table_that_somebody_holds_is_not_waited_for(self, planned):
        with planned.connect() as other:
            other.exec_driver_sql("LOCK TABLE pair IN ACCESS EXCLUSIVE MODE")
            with pytest.raises(ExplainRefusedError, match="lock timeout"):
                explain(planned, "SELECT * FROM pair")


class TestCasts:
    @pytest.mark.parametrize(
        ("sql", "value", "found"),
        [
            ("SELECT * FROM event WHERE id = %(v)s", Decimal(5), "id integer numeric event_pkey"),
            ("SELECT * FROM event WHERE code = %(v)s::text", "c1", "code character(8) text event_code"),
            ("SELECT * FROM event e JOIN event o ON o.amount = e.id", None, "id integer numeric event_pkey"),
            (
                "SELECT * FROM event WHERE amount < %(v)s",
                5.5,
                "amount numeric double precision event_amount",
            ),
            (
                'SELECT * FROM "Odd ""Table%%" WHERE "Id ""1%%" = %(v)s',
                Decimal(5),
                'Id "1% integer numeric Odd "Table%_pkey',
            ),
        ],
    )
    def test_a_cast_that_keeps_an_index_from_serving_is_found(self, planned, sql, value, found):
        (cast,) = explain(planned, sql, None if value is None else {"v": value}).casts
        assert f"{cast.column} {cast.column_type} {cast.cast_to} {cast.index}" == found
        assert not cast.is_written

    @pytest.mark.parametrize(
        ("sql", "parameters"),
        [
            ("SELECT * FROM event WHERE kind = %(v)s", {"v": "kind 3"}),  # varchar is text already
            ("SELECT * FROM event WHERE kind <> %(v)s", {"v": "kind 3"}),
            ("SELECT * FROM event WHERE id = %(v)s", {"v": 5}),
            ("SELECT * FROM event WHERE id = %(v)s", {"v": 2**40}),  # int and bigint compare as they are
            ("SELECT * FROM event WHERE plain = %(v)s", {"v": Decimal(5)}),  # no index to keep from serving
            ("SELECT id::text FROM event WHERE tenant = 3", None),
            # The rows are found by another index.
            ("SELECT * FROM event WHERE code = 'c1' AND id < %(v)s", {"v": Decimal(5)}),
            ("SELECT * FROM event WHERE id = CAST(%(v)s AS integer)", {"v": Decimal(5)}),
        ],
    )
    def test_harmless_casts_are_not(self, planned, sql, parameters):
        assert explain(planned, sql, parameters).casts == ()

    def test_one_that_the_statement_writes_itself_is_told_as_such(self, planned):
        (cast,) = explain(planned, "SELECT * FROM event WHERE id::text = %(v)s", {"v": "5"}).casts
        assert cast.is_written


class TestMisestimates:
    CORRELATED = "SELECT count(*) FROM pair x WHERE x.a = %(a)s AND x.b = %(b)s AND x.note = 'x'"

    def test_correlated_columns_are_found_with_what_is_known_of_the_table(self, engine):
        run(
            engine,
            "CREATE TABLE twin (a int, b int)",
            "INSERT INTO twin SELECT i % 30, i % 30 FROM generate_series(1, 60000) i",
            "ANALYZE twin",
        )
        sql = "SELECT count(*) FROM twin WHERE a = %(a)s AND b = %(b)s"
        (miss,) = explain(engine, sql, {"a": 3, "b": 3}, analyze=True).misestimates
        assert (miss.relation, miss.columns, miss.actual_rows) == ("twin", ("a", "b"), 2000)
        assert miss.factor > 10
        assert (miss.has_extended, miss.analyzed_at is not None) == (False, True)

        run(engine, "CREATE STATISTICS s (dependencies, mcv) ON a, b FROM twin", "ANALYZE twin")
        assert explain(engine, sql, {"a": 3, "b": 3}, analyze=True).misestimates == ()

    def test_a_scan_that_a_limit_stops_is_not_blamed(self, planned):
        sql = "SELECT * FROM pair WHERE note = 'x' LIMIT 1"
        assert explain(planned, sql, analyze=True).misestimates == ()

    def test_few_rows_are_not_worth_a_word(self, planned):
        sql = "SELECT * FROM event WHERE id + 0 = 3"  # the planner expects 100 rows
        assert explain(planned, sql, analyze=True).misestimates == ()

    def test_a_plan_that_was_not_executed_shows_none(self, planned):
        assert explain(planned, self.CORRELATED, {"a": 3, "b": 3}).misestimates == ()
