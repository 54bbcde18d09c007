"""Index advice on PostgreSQL: what is advised, what is refused, and that the database stays as it is."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from upshift.errors import DatabaseUnavailableError
from upshift.sql.engines import engine_for
from upshift.sql.indexes.advice import AdviceReport
from upshift.sql.indexes.advisor import advise
from upshift.sql.placeholders import Sample


def advised(engine: sa.Engine, sql: str, parameters: Any = None, **options: Any) -> list[str]:
    report = advise(engine, [Sample(sql, parameters)], **options)
    assert not report.skipped
    return [f"{each.table}({', '.join(map(str, each.columns))})" for each in report.advices]


def skipped(engine: sa.Engine, sql: str, parameters: Any = None, **options: Any) -> tuple[str, str]:
    report = advise(engine, [Sample(sql, parameters)], **options)
    assert not report.advices
    (skip,) = report.skipped
    return skip.kind, skip.reason


def relations(engine: sa.Engine) -> list[tuple[Any, ...]]:
    with engine.connect() as connection:
        query = "SELECT oid, relname, relfilenode FROM pg_class WHERE relpersistence <> 't' ORDER BY oid"
        return [tuple(row) for row in connection.exec_driver_sql(query)]


FEED = "SELECT * FROM event WHERE tenant = %(t)s AND kind = %(k)s ORDER BY ts DESC LIMIT %(n)s"
FEED_VALUES = {"t": 3, "k": "kind 3", "n": 10}


class TestAdvised:
    def test_equalities_and_order_in_one_index(self, shop):
        (advice,) = advise(shop, [Sample(FEED, FEED_VALUES)]).advices
        assert [column.name for column in advice.columns] in (
            ["tenant", "kind", "ts"],
            ["kind", "tenant", "ts"],
        )
        assert advice.cost_after <= advice.cost_before / 2
        assert advice.name in "".join(advice.served[0].plan_after)
        assert "Seq Scan on event" in "".join(advice.served[0].plan_before)
        assert (advice.serves, advice.verified, advice.unit) == ((FEED,), "copy", "planner cost")

    def test_order_and_limit(self, shop):
        assert advised(shop, "SELECT * FROM event ORDER BY ts DESC LIMIT 20") == ["event(ts)"]

    def test_order_of_mixed_directions(self, shop):
        sql = "SELECT * FROM event ORDER BY kind DESC, ts LIMIT 20"
        assert advised(shop, sql) == ["event(kind DESC, ts)"]

    def test_a_foreign_key(self, shop):
        sql = "SELECT * FROM item WHERE purchase_id = %(id)s::INTEGER"
        assert advised(shop, sql, {"id": 5}) == ["item(purchase_id)"]

    def test_a_list_of_foreign_keys(self, shop):
        sql = "SELECT * FROM item WHERE purchase_id IN (%(a)s, %(b)s, %(c)s)"
        assert advised(shop, sql, {"a": 5, "b": 6, "c": 7}) == ["item(purchase_id)"]

    def test_both_tables_of_a_join(self, shop):
        sql = (
            "SELECT purchase.total, item.qty FROM purchase JOIN item ON item.purchase_id = purchase.id "
            "WHERE purchase.customer_id = %(id)s"
        )
        assert sorted(advised(shop, sql, {"id": 9})) == ["item(purchase_id)", "purchase(customer_id)"]

    def test_a_prefix_search_with_a_known_prefix(self, shop):
        sql = "SELECT * FROM customer WHERE email LIKE %(p)s || '%%'"
        assert advised(shop, sql, {"p": "c123"}) == ["customer(email text_pattern_ops)"]

    def test_an_update_and_a_delete(self, shop):
        assert advised(shop, "UPDATE item SET qty = 0 WHERE purchase_id = 3") == ["item(purchase_id)"]
        assert advised(shop, "DELETE FROM item WHERE purchase_id = 3") == ["item(purchase_id)"]

    def test_a_table_with_generated_columns(self, shop):
        assert advised(shop, "SELECT * FROM item WHERE twice = 10") == ["item(twice)"]

    def test_names_that_need_quotes(self, shop):
        sql = 'SELECT * FROM "Big ""Order%%" WHERE "Customer Id" = %(id)s'
        (advice,) = advise(shop, [Sample(sql, {"id": 4})]).advices
        assert advice.create_sql.endswith('ON "Big ""Order%" ("Customer Id")')

    def test_one_index_for_statements_that_share_it(self, shop):
        samples = [
            Sample("SELECT * FROM purchase WHERE customer_id = 5"),
            Sample("SELECT count(*) FROM purchase WHERE customer_id = 5"),
            Sample("SELECT * FROM purchase WHERE customer_id = 5 ORDER BY placed"),
        ]
        (advice,) = advise(shop, samples).advices
        assert [column.name for column in advice.columns] == ["customer_id"]
        assert set(advice.serves) == {sample.sql for sample in samples}

    def test_a_statement_without_parameters_by_its_generic_plan(self, shop):
        sql = "SELECT * FROM item WHERE purchase_id = %(id)s::INTEGER AND qty > %(q)s"
        assert advised(shop, sql) == ["item(purchase_id)"]

    def test_a_statement_captured_on_asyncpg(self, shop):
        sql = "SELECT * FROM item WHERE purchase_id IN ($1::INTEGER,$2::INTEGER) AND qty % 2 = 0"
        assert advised(shop, sql, (1, 2), paramstyle="numeric_dollar") == ["item(purchase_id)"]
        assert advised(shop, sql, None, paramstyle="numeric_dollar") == ["item(purchase_id)"]

    def test_parameters_that_do_not_fit_give_way_to_the_generic_plan(self, shop):
        sql = "SELECT * FROM item WHERE purchase_id = %(id)s::INTEGER"
        assert advised(shop, sql, {"id": "no number"}) == ["item(purchase_id)"]
        assert advised(shop, sql, {"other": 1}) == ["item(purchase_id)"]
        assert advised(shop, sql, {"id": object()}) == ["item(purchase_id)"]

    def test_in_a_transaction_on_the_table_itself_when_told_to(self, shop):
        report = advise(shop, [Sample("SELECT * FROM depot.stock WHERE product = 5")], how="transaction")
        (advice,) = report.advices
        assert (advice.verified, advice.index.schema) == ("transaction", "depot")
        assert advice.create_sql.endswith("ON depot.stock (product)")

    def test_a_table_named_with_its_schema(self, shop):
        report = advise(shop, [Sample("SELECT * FROM depot.stock WHERE depot.stock.product = 5")])
        (advice,) = report.advices
        assert advice.create_sql.endswith("ON depot.stock (product)")
        assert advice.figures

    def test_a_table_larger_than_the_limit_by_a_sample_of_it(self, shop):
        (advice,) = advise(shop, [Sample(FEED, FEED_VALUES)], max_copy_bytes=1_000_000).advices
        assert advice.figures
        assert 0.3 < advice.figures.sample < 0.5
        assert advice.figures.size

    def test_on_a_table_whose_statistics_are_old(self, postgres_database):
        engine = sa.create_engine(postgres_database, poolclass=NullPool)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("CREATE TABLE grown (a int, b text) WITH (autovacuum_enabled = off)")
            connection.exec_driver_sql("VACUUM ANALYZE grown")
            connection.exec_driver_sql(
                "INSERT INTO grown SELECT i, repeat('x', 99) FROM generate_series(1, 9999) i"
            )
        assert advised(engine, "SELECT * FROM grown WHERE a = 5") == ["grown(a)"]

    def test_though_the_search_path_names_temporary_tables_last(self, shop):
        with shop.connect() as connection:
            connection.exec_driver_sql("ALTER ROLE postgres SET search_path = public, pg_temp")
            connection.commit()
            try:
                assert advised(shop, "SELECT * FROM item WHERE purchase_id = 1") == ["item(purchase_id)"]
            finally:
                connection.exec_driver_sql("ALTER ROLE postgres RESET search_path")
                connection.commit()


class TestNotAdvised:
    @pytest.mark.parametrize(
        "sql",
        [
            "SELECT * FROM item WHERE id = 5",
            "SELECT * FROM tiny WHERE a = 5",
            "SELECT * FROM counted WHERE owner = 5",
            "SELECT * FROM event WHERE tenant >= 0",
            "SELECT count(*) FROM event",
            "SELECT * FROM event ORDER BY ts",
            "SELECT 1",
        ],
        ids=["key", "tiny table", "existing index", "most rows", "all rows", "whole order", "no table"],
    )
    def test_where_no_index_would_halve_the_cost(self, shop, sql):
        assert advised(shop, sql) == []

    def test_a_virtual_generated_column_which_postgres_cannot_index(self, shop):
        assert advised(shop, "SELECT * FROM item WHERE thrice = 9") == []

    def test_a_prefix_search_whose_prefix_the_plan_does_not_know(self, shop):
        assert advised(shop, "SELECT * FROM customer WHERE email LIKE %(p)s || '%%'") == []


class TestSkipped:
    @pytest.mark.parametrize(
        "sql", ["COMMIT", "CREATE TABLE x (a int)", "INSERT INTO tiny VALUES (0)", "SELEC 1"]
    )
    def test_what_is_no_query_is_unreadable(self, shop, sql):
        assert skipped(shop, sql)[0] == "unreadable"

    @pytest.mark.parametrize(
        ("sql", "reason"),
        [
            ("SELECT * FROM nowhere WHERE a = 1", 'relation "nowhere" does not exist'),
            ("SELECT nothing FROM item", 'column "nothing" does not exist'),
            ("SELECT f(id) FROM item", "function f(integer) does not exist"),
        ],
    )
    def test_a_statement_that_explain_refuses_is_skipped_with_its_words(self, shop, sql, reason):
        assert skipped(shop, sql) == ("refused", reason)

    def test_a_table_much_larger_than_the_limit_is_not_copied(self, shop):
        kind, reason = skipped(shop, "SELECT * FROM item WHERE purchase_id = 1", max_copy_bytes=10_000)
        assert kind == "not tried"
        assert reason.startswith("item: it holds 1.")
        assert "too much for a sample" in reason

    @pytest.mark.parametrize(
        ("sql", "what"), [("busy WHERE kind = 'x'", "view"), ("parted WHERE owner = 1", "partition")]
    )
    def test_what_is_no_plain_table_is_not_tried(self, shop, sql, what):
        kind, reason = skipped(shop, f"SELECT * FROM {sql}")
        assert kind == "not tried"
        assert what in reason

    def test_a_statement_that_may_not_be_read_is_refused(self, clerk):
        assert skipped(clerk, "SELECT * FROM event WHERE tenant = 1") == (
            "refused",
            "permission denied for table event",
        )

    def test_a_table_of_which_rows_are_hidden_is_not_copied(self, clerk):
        kind, reason = skipped(clerk, "SELECT * FROM secret WHERE owner = 1")
        assert (kind, reason) == ("not tried", "secret: row-level security hides rows of it from this user")

    def test_a_table_that_may_be_read_only_in_part_is_not_copied(self, clerk):
        kind, reason = skipped(clerk, "SELECT id FROM customer WHERE email = 'x'")
        assert (kind, reason) == (
            "not tried",
            "customer: it could not be copied: permission denied for table customer",
        )

    def test_without_the_right_to_temporary_tables_nothing_is_tried(self, shop, clerk):
        with shop.connect() as connection:
            connection.exec_driver_sql("REVOKE TEMPORARY ON DATABASE shop FROM PUBLIC")
            connection.commit()
            try:
                kind, reason = skipped(clerk, "SELECT * FROM purchase WHERE customer_id = 1")
            finally:
                connection.exec_driver_sql("GRANT TEMPORARY ON DATABASE shop TO PUBLIC")
                connection.commit()
        assert kind == "not tried"
        assert "permission denied to create temporary tables" in reason

    def test_a_table_that_is_locked_is_not_waited_for(self, shop):
        with shop.connect() as holder:
            holder.exec_driver_sql("LOCK TABLE item IN ACCESS EXCLUSIVE MODE")
            kind, reason = skipped(shop, "SELECT * FROM item WHERE purchase_id = 1")
        assert (kind, reason) == ("refused", "canceling statement due to lock timeout")

    def test_an_index_that_cannot_be_built_is_named(self, postgres_database):
        engine = sa.create_engine(postgres_database, poolclass=NullPool)
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE page (body text)")
            connection.exec_driver_sql(
                "INSERT INTO page SELECT 'short ' || i FROM generate_series(1, 9999) i"
            )
            connection.exec_driver_sql(
                "INSERT INTO page SELECT string_agg(md5(i::text), '') FROM generate_series(1, 900) i"
            )
        kind, reason = skipped(engine, "SELECT * FROM page WHERE body = 'x'")
        assert kind == "not tried"
        assert "cannot be built: index row requires" in reason

    def test_a_table_that_is_being_written_is_not_waited_for_in_a_transaction(self, shop):
        with shop.connect() as writer:

            def write(progress: str) -> None:
                if progress.startswith("trying"):
                    writer.exec_driver_sql("LOCK TABLE item IN ROW EXCLUSIVE MODE")

            sql = "SELECT * FROM item WHERE purchase_id = 1"
            kind, reason = skipped(shop, sql, how="transaction", on_progress=write)
        assert kind == "not tried"
        assert reason.endswith("cannot be built: canceling statement due to lock timeout")

    def test_one_that_is_skipped_does_not_hinder_the_others(self, shop):
        report = advise(
            shop,
            [
                Sample("SELECT * FROM nowhere"),
                Sample("SELECT * FROM item WHERE purchase_id = 1"),
                Sample("SELECT * FROM busy WHERE kind = 'x'"),
                Sample("DROP TABLE item"),
            ],
        )
        assert len(report.advices) == 1
        assert sorted(skip.kind for skip in report.skipped) == ["not tried", "refused", "unreadable"]


class TestTheDatabaseStaysAsItIs:
    @pytest.mark.parametrize("how", ["copy", "transaction"])
    def test_after_advice(self, shop, how):
        before = relations(shop)
        assert advise(shop, [Sample(FEED, FEED_VALUES)], how=how).advices
        assert relations(shop) == before

    def test_for_the_sessions_of_a_pool_too(self, shop):
        pooled = sa.create_engine(shop.url, pool_size=1, max_overflow=0)
        query = """
            SELECT current_setting('search_path'), current_setting('lock_timeout'),
                   to_regclass('pg_temp.event')
        """
        with pooled.connect() as connection:
            before = connection.exec_driver_sql(query).one()
        assert advise(pooled, [Sample(FEED, FEED_VALUES)]).advices
        with pooled.connect() as connection:
            assert connection.exec_driver_sql(query).one() == before
        pooled.dispose()

    @pytest.mark.parametrize(
        "sql",
        [
            "DELETE FROM tiny",
            "UPDATE tiny SET a = 0",
            "WITH gone AS (DELETE FROM tiny RETURNING *) SELECT * FROM gone",
            "SELECT 1; DELETE FROM tiny",
            "SELECT 1; COMMIT; DELETE FROM tiny",
            "SELECT setval('counted_id_seq', 99)",
        ],
    )
    def test_because_no_statement_is_executed(self, shop, sql):
        query = "SELECT count(*), sum(a), (SELECT last_value FROM counted_id_seq) FROM tiny"
        with shop.connect() as connection:
            before = connection.exec_driver_sql(query).one()
            advise(shop, [Sample(sql)], how="transaction")
            assert connection.exec_driver_sql(query).one() == before

    def test_readers_and_writers_are_not_kept_waiting_by_a_copy(self, shop):
        waits: list[str] = []

        def write(progress: str) -> None:
            if progress.startswith("trying"):
                with shop.connect() as connection:
                    connection.exec_driver_sql("SET lock_timeout = '1s'")
                    connection.exec_driver_sql("UPDATE event SET payload = payload WHERE id = 1")
                    waits.append(progress)
                    connection.rollback()

        advise(shop, [Sample(FEED, FEED_VALUES)], on_progress=write)
        assert waits


class TestTheDatabaseIsGone:
    def test_a_connection_that_is_cut_in_the_middle_is_reported(self, shop):
        def cut(progress: str) -> None:
            if progress.startswith("trying"):
                with shop.connect() as connection:
                    connection.exec_driver_sql(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                        "WHERE datname = 'shop' AND pid <> pg_backend_pid()"
                    )

        with pytest.raises(DatabaseUnavailableError, match="lost the connection"):
            advise(shop, [Sample(FEED, FEED_VALUES)], on_progress=cut)

    def test_a_server_that_does_not_answer_is_given_up(self, monkeypatch):
        monkeypatch.setattr("upshift.sql.engines.CONNECT_SECONDS", 2)
        with socket.create_server(("127.0.0.1", 0)) as silent:
            engine = engine_for(f"postgresql://u@127.0.0.1:{silent.getsockname()[1]}/d")
            with pytest.raises(DatabaseUnavailableError, match="cannot connect"):
                advise(engine, [Sample("SELECT 1")])

    def test_an_interrupt_leaves_nothing_behind(self, shop):
        before = relations(shop)

        def interrupt(progress: str) -> None:
            if progress.startswith("trying"):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            advise(shop, [Sample(FEED, FEED_VALUES)], on_progress=interrupt)
        assert relations(shop) == before


def test_several_threads_are_advised_at_once(shop):
    reports: list[AdviceReport] = []
    threads = [
        threading.Thread(target=lambda: reports.append(advise(shop, [Sample(FEED, FEED_VALUES)])))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(reports) == 4
    assert len({report.advices[0].name for report in reports}) == 1


def test_no_plan_holds_a_value_of_a_parameter(shop):
    (advice,) = advise(shop, [Sample(FEED, FEED_VALUES)]).advices
    assert "kind 3" not in str(advice.to_dict())
