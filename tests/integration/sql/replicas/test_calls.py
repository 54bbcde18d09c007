"""What routing costs each statement, counted in calls, so that a slow-down fails without a clock.

A count that rises on purpose is changed here, with the reason in the changelog.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import sqlalchemy as sa

from upshift.sql.replicas import session as routing

from .conftest import Cluster, Item, NewReplicas

OURS = str(Path(routing.__file__).parent)


def calls_of(run) -> Counter[str]:
    """The calls of functions in the folder of replicas, by name."""
    calls: Counter[str] = Counter()

    def note(frame, event, _argument):
        if event == "call" and frame.f_code.co_filename.startswith(OURS):
            calls[frame.f_code.co_name] += 1

    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(None)
    return calls


def test_a_statement_on_a_replica_costs_ten_calls(cluster: Cluster, new_replicas: NewReplicas):
    replicas = new_replicas(cluster.primary, cluster.near)
    with replicas.session_class() as session:
        session.execute(sa.select(Item.name).where(Item.id == 1)).all()
        statement = sa.select(Item.name).where(Item.id == 2)
        calls = calls_of(lambda: session.execute(statement).all())
    assert calls.total() == 10, calls


def test_a_session_with_one_statement_costs_sixteen_calls_more(cluster: Cluster, new_replicas: NewReplicas):
    replicas = new_replicas(cluster.primary, cluster.near)

    def read_once():
        with replicas.session_class() as session:
            session.execute(sa.select(Item.name).where(Item.id == 1)).all()

    read_once()
    calls = calls_of(read_once)
    assert calls.total() == 10 + 16, calls
