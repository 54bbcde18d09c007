"""A replica is promoted, and the others follow it: nobody waits for what the old primary had beyond that."""

from __future__ import annotations

import psycopg
import pytest
import sqlalchemy as sa

from upshift.sql.replicas.position import Position
from upshift.sql.replicas.probe import ask_primary, ask_replica
from upshift.sql.replicas.replicas import Replicas
from upshift.testing.servers import PostgresServer, postgres, postgres_replica

from .conftest import run, wait_for


@pytest.fixture(scope="module")
def promoted():
    """The old primary, the replica that became the new one, and a replica that follows it."""
    with postgres() as old, postgres_replica(old) as new, postgres_replica(old) as follower:
        run(old, "CREATE TABLE item AS SELECT 1 AS id")
        (lsn,) = run(old, "SELECT pg_current_wal_insert_lsn()::text")[0]
        for server in (new, follower):
            wait_for(lambda s=server: run(s, f"SELECT pg_last_wal_replay_lsn() >= '{lsn}'")[0][0])
        run(new, "SELECT pg_promote()")
        run(follower, f"ALTER SYSTEM SET primary_conninfo = 'host={new.host} user=postgres'")
        run(follower, "SELECT pg_reload_conf()")
        run(old, "INSERT INTO item SELECT generate_series(1, 10000)")  # lost: nobody follows it any more
        run(new, "INSERT INTO item VALUES (2)")
        wait_for(lambda: run(follower, "SELECT count(*) FROM item")[0][0] == 2)
        yield old, new, follower


def position_of(server: PostgresServer, ask):
    engine = sa.create_engine(server.url(driver="psycopg"))
    with engine.connect() as connection:
        answer = ask(connection)
    engine.dispose()
    return answer


def test_a_lost_position_is_before_all_of_the_new_timeline(promoted):
    old, new, _ = promoted
    lost, now = position_of(old, ask_primary), position_of(new, ask_primary)
    assert lost.lsn > now.lsn
    assert lost < now


def test_a_follower_tells_its_new_timeline(promoted):
    follower = promoted[2]
    wait_for(lambda: position_of(follower, ask_replica).position.timeline == 2)


def test_a_role_that_may_see_little_learns_it_from_the_next_restart_point(promoted):
    _, new, follower = promoted
    run(new, "CREATE ROLE clerk LOGIN")

    def seen_by_clerk() -> Position:
        url = sa.make_url(follower.url(driver="psycopg")).set(username="clerk")
        engine = sa.create_engine(url)
        with engine.connect() as connection:
            answer = ask_replica(connection)
        engine.dispose()
        return answer.position

    wait_for(lambda: run(follower, "SELECT count(*) FROM pg_roles WHERE rolname = 'clerk'")[0][0] == 1)
    run(new, "CHECKPOINT")
    with psycopg.connect(follower.url(), autocommit=True) as connection:

        def has_restarted() -> bool:
            connection.execute("CHECKPOINT")
            return seen_by_clerk().timeline == 2

        wait_for(has_restarted)


def test_clients_of_the_old_primary_read_from_followers_of_the_new_one(promoted):
    old, new, follower = promoted
    lost = position_of(old, ask_primary)
    engines = [sa.create_engine(server.url(driver="psycopg")) for server in (new, follower)]
    replicas = Replicas(engines[0], engines[1:], probe_seconds=0.1)
    replicas._watch()
    wait_for(lambda: replicas.states()[0].is_fit)
    with replicas.visit(after=lost), replicas.session_class() as session:
        assert session.scalar(sa.select(sa.func.pg_is_in_recovery()))
    replicas.close()
    for engine in engines:
        engine.dispose()


def test_what_was_promoted_is_not_read_from(promoted):
    old, new, _ = promoted
    engines = [sa.create_engine(server.url(driver="psycopg")) for server in (old, new)]
    replicas = Replicas(engines[0], engines[1:], probe_seconds=0.1)
    replicas._watch()
    wait_for(lambda: "no replica" in replicas.states()[0].reason)
    replicas.close()
    for engine in engines:
        engine.dispose()
