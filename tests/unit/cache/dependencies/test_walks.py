"""Whatever is read and written, a cached read answers what a fresh one does; and the walks can tell."""

from __future__ import annotations

from contextlib import contextmanager
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, event
from sqlalchemy.pool import StaticPool

from tests.unit.cache.dependencies.walks import Walk, fill
from upshift.cache import Cache
from upshift.cache.dependencies import compiled, effects, rows, texts, transactions
from upshift.cache.dependencies.rows import Kind

TRANSACTIONS = 10


@contextmanager
def walk(random):
    engine = create_engine("sqlite://", poolclass=StaticPool)

    @event.listens_for(engine, "connect")
    def _enforce(connection, _record):
        connection.execute("PRAGMA foreign_keys = ON")

    fill(engine)
    cache = Cache()
    cache.watch([engine])
    try:
        yield Walk(engine, cache, random), cache
    finally:
        cache.close()
        engine.dispose()


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**32))
def test_a_cached_read_answers_what_a_fresh_one_does(seed):
    with walk(Random(seed)) as (walking, _):
        walking.run(TRANSACTIONS)

        assert walking.stale == []


def test_most_values_outlive_the_writes_of_others():
    with walk(Random(7)) as (walking, cache):
        walking.run(4 * TRANSACTIONS)
        row, table = (cache.statistics()[f"walk {name}"] for name in ("row", "table"))

    assert row.hit_ratio > table.hit_ratio


def whole(effect):
    """Return a mutant of an effect: what is not pinned is announced for the table alone."""
    tags = frozenset(tag for tag in effect.tables.written if not tag.startswith("rows:"))
    return effect._replace(tables=effect.tables._replace(written=tags))


def rows_alone(effect):
    pinned = {f"table:{each.table}" for each in effect.writes}
    return effect._replace(tables=effect.tables._replace(written=effect.tables.written - pinned))


def mutant_of_effects(change):
    def install(monkeypatch):
        original = effects.effect_of
        for module in (compiled, texts):
            monkeypatch.setattr(module, "effect_of", lambda *a, **k: change(original(*a, **k)))

    return install


def mutant(module, name, value):
    return lambda monkeypatch: monkeypatch.setattr(module, name, value)


def any_condition(condition):
    """Take the parts of an OR for those of an AND."""
    return list(getattr(condition, "clauses", [condition]))


key_part = rows.key_part

MUTANTS = {
    "what pins no rows does not tell who reads rows": mutant_of_effects(whole),
    "what pins rows does not tell who reads the table": mutant_of_effects(rows_alone),
    "an OR pins": mutant(compiled, "_conjuncts", any_condition),
    "case counts": mutant(
        rows,
        "key_part",
        lambda kind, value: str(value) if kind is Kind.TEXT else key_part(kind, value),
    ),
    "an upsert by another key pins": mutant(compiled, "_is_plain", lambda *_: True),
    "a made key is nobody's": mutant(transactions, "inserted_rows", lambda *_: set()),
    "a new key is not announced": mutant(compiled, "_columns_set", lambda *_: frozenset()),
    "an outer join links both ways": mutant(
        compiled, "_take_on",
        lambda made, scope, join, left, right: compiled._take_where(made, scope, join.onclause, left | right),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTANTS)
def test_the_walks_find_a_stale_read_in_each_mutant(monkeypatch, name):
    MUTANTS[name](monkeypatch)

    assert any(is_stale(seed) for seed in range(60))


def is_stale(seed):
    with walk(Random(seed)) as (walking, _):
        walking.run(TRANSACTIONS)
        return bool(walking.stale)
