"""Index advice against the best indexes known, on three schemas.

Each schema's workload is executed without any index, with each set of indexes made by hand for it, and with
what Upshift advises when it is given the statements, their calls and some of their parameters. What is
compared is the time of the whole workload: for each statement the time of one execution times its calls,
writes included (in transactions that are rolled back). All variants are measured in turn, in several rounds,
and the least of each statement's figures is taken, for what disturbs a machine only ever adds.

The bar: the advised set reaches 95 % of the best speed-up known, so its workload takes at most 1/0.95 of the
time; and no advised index slows the workload: without any one of them it is not faster, but for noise.
Parallel plans and JIT are off for all, since a machine with two cores has neither to spare.
"""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from itertools import cycle, islice
from math import inf
from statistics import fmean
from typing import TYPE_CHECKING

import psycopg
import sqlalchemy as sa
from advisor_schemas import SCHEMAS, Query, Schema
from report import Case, progress, report
from sqlalchemy.pool import NullPool

from upshift.sql.indexes.advisor import Work, advise
from upshift.testing.servers import postgres

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROUNDS = 3
LEAST_SHARE = 0.95
NOISE = 1.05
LEAST_RUNS = 3
MAX_RUNS = 300
ENOUGH_SECONDS = 0.2


@contextmanager
def database(schema: Schema) -> Iterator[sa.Engine]:
    with postgres() as server:
        server.create_database(schema.name)
        engine = sa.create_engine(server.url(schema.name, driver="psycopg"), poolclass=NullPool)
        with engine.connect().execution_options(
            isolation_level="AUTOCOMMIT", no_parameters=True
        ) as connection:
            connection.exec_driver_sql(
                f"ALTER DATABASE {schema.name} SET max_parallel_workers_per_gather = 0"
            )
            connection.exec_driver_sql(f"ALTER DATABASE {schema.name} SET jit = off")
            connection.exec_driver_sql(schema.data)
            connection.exec_driver_sql("VACUUM ANALYZE")
        yield engine


class Bench:
    """Measures a workload under sets of indexes on one connection.

    Where a statement has the same plan on the same indexes under two sets, or writes a table that has the
    same indexes, both have the least of its figures: between them only noise could differ.
    """

    def __init__(self, engine: sa.Engine, schema: Schema) -> None:
        self._schema = schema
        url = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
        self._connection = psycopg.connect(url, autocommit=True, prepare_threshold=None)
        self._figures: dict[str, float] = {}

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def visit(self, indexes: Sequence[str]) -> list[str]:
        """Execute the workload with these indexes; return the names of its statements' figures."""
        names = {sql.split(" ON ")[0].split()[-1]: sql.split(" ON ")[1] for sql in indexes}
        for sql in indexes:
            self._connection.execute(sql)
        for table in sorted({definition.split()[0] for definition in names.values()}):
            self._connection.execute(f"ANALYZE {table}")
        try:
            return [self._visit(query, names) for query in self._schema.workload]
        finally:
            for name in names:
                self._connection.execute(f'DROP INDEX "{name}"')

    def figure(self, name: str) -> float:
        """Milliseconds of one execution, by the name that `visit` gave."""
        return self._figures[name]

    def _visit(self, query: Query, indexes: dict[str, str]) -> str:
        if query.writes:  # what it takes depends on the indexes of its table
            table = query.sql.removeprefix("INSERT INTO ").removeprefix("UPDATE ").split()[0]
            plan = "\n".join(sorted(each for each in indexes.values() if each.split()[0] == table))
        else:
            plan = self._plan(query, indexes)
        name = f"{query.sql}\n{plan}"
        self._figures[name] = min(self._once(query), self._figures.get(name, inf))
        return name

    def _plan(self, query: Query, indexes: dict[str, str]) -> str:
        rows = self._connection.execute(f"EXPLAIN (COSTS OFF) {query.sql}", query.samples[0]).fetchall()
        plan = "\n".join(line for (line,) in rows)
        for name, definition in indexes.items():
            plan = plan.replace(name, definition)
        return plan

    def _once(self, query: Query) -> float:
        """Milliseconds of one execution: the mean of the faster half, for a busy machine only ever adds."""
        times: list[float] = []
        with self._connection.transaction(force_rollback=True), self._connection.cursor() as cursor:
            *samples, warm_up = query.samples if len(query.samples) > 1 else query.samples * 2
            cursor.execute(query.sql, warm_up)
            begun = time.perf_counter()
            # What writes is sent once with each of its parameters; what reads, until the time is up.
            for sample in samples if query.writes else islice(cycle(samples), MAX_RUNS):
                started = time.perf_counter()
                cursor.execute(query.sql, sample)
                if cursor.description:
                    cursor.fetchall()
                times.append((time.perf_counter() - started) * 1e3)
                if len(times) >= LEAST_RUNS and time.perf_counter() - begun > ENOUGH_SECONDS:
                    break
        return fmean(sorted(times)[: (len(times) + 1) // 2])


def measure(bench: Bench, schema: Schema, variants: dict[str, Sequence[str]]) -> dict[str, list[float]]:
    """Milliseconds of each statement, times its calls, under each set of indexes."""
    names: dict[str, list[str]] = {}
    for _ in range(ROUNDS):
        for variant, indexes in variants.items():
            names[variant] = bench.visit(indexes)
    return {
        variant: [
            query.calls * bench.figure(name) for query, name in zip(schema.workload, figures, strict=True)
        ]
        for variant, figures in names.items()
    }


def run(schema: Schema) -> list[Case]:
    progress(f"{schema.name}: making the data")
    with database(schema) as engine:
        works = [
            Work(query.sql, tuple(each for each in query.samples if each), query.calls, query.writes)
            for query in schema.workload
        ]
        started = time.monotonic()
        advised = advise(engine, works, on_progress=lambda said: progress(f"  {said}"))
        seconds = time.monotonic() - started
        for each in advised.advices:
            progress(f"advised   {each.index}")
        for each in advised.declined:
            progress(f"declined  {each.index}: {each.reason}")
        indexes = [each.index.blocking_sql for each in advised.advices]
        bench = Bench(engine, schema)
        variants: dict[str, Sequence[str]] = {"none": (), **schema.best, "advised": indexes}
        variants |= {
            f"without {each.index}": [sql for sql in indexes if sql != each.index.blocking_sql]
            for each in advised.advices
        }
        progress(f"{schema.name}: advised in {seconds:.1f} s; measuring {len(variants)} sets of indexes")
        try:
            measured = measure(bench, schema, variants)
        finally:
            bench.close()
    for number, query in enumerate(schema.workload):
        told = "  ".join(f"{name} {measured[name][number]:.1f}" for name in ("none", *schema.best, "advised"))
        progress(f"    {' '.join(query.sql.split())[:60]:<60} {told}")
    totals = {name: sum(each) for name, each in measured.items()}
    for name, total in totals.items():
        progress(f"  {total:10.1f} ms  {name}")
    best = min(schema.best, key=totals.__getitem__)
    ours = totals["advised"]
    without = {name: total for name, total in totals.items() if name.startswith("without ")}
    least = min(without, key=without.__getitem__, default="none")
    cases = [
        Case(
            f"{schema.name}: workload with the advised indexes",
            ours,
            totals[best],
            best,
            1 / LEAST_SHARE,
            "ms",
        ),
        Case(f"{schema.name}: speed-up over no index", ours, totals["none"], "no index", 1.0, "ms"),
        Case(f"{schema.name}: the index that gains least", ours, totals[least], least, NOISE, "ms"),
        Case(f"{schema.name}: seconds to advise", seconds, 60.0, "a minute", None, "s"),
    ]
    if schema.must_find:
        found = any(str(each.index) in schema.must_find for each in advised.advices)
        name = f"finds {schema.must_find[0]}"
        cases.append(Case(f"{schema.name}: {name}", float(not found), 1.0, "not found", 0.0, "missed"))
    return cases


def main() -> int:
    wanted = sys.argv[1:]
    cases = [case for schema in SCHEMAS if not wanted or schema.name in wanted for case in run(schema)]
    return report("advisor", cases, ("psycopg", "sqlalchemy", "sqlglot"))


if __name__ == "__main__":
    sys.exit(main())
