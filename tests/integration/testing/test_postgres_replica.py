from __future__ import annotations

import subprocess
import sys
import time

import psycopg
import pytest

from upshift.errors import ServerUnavailableError
from upshift.testing.servers import postgres, postgres_replica


def value(server, sql: str) -> object:
    with psycopg.connect(server.url(), autocommit=True) as connection:
        cursor = connection.execute(sql)
        return cursor.fetchone()[0] if cursor.description else None


def test_a_replica_follows_its_primary_and_lags_where_it_is_told_to():
    with postgres() as primary:
        value(primary, "CREATE TABLE item AS SELECT 1 AS id")
        with (
            postgres_replica(primary) as near,
            postgres_replica(primary, settings={"recovery_min_apply_delay": "1h"}) as far,
        ):
            assert value(near, "SELECT pg_is_in_recovery()")
            value(primary, "INSERT INTO item VALUES (2)")
            deadline = time.monotonic() + 20
            while value(near, "SELECT count(*) FROM item") != 2:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            assert value(far, "SELECT count(*) FROM item") == 1


def test_nothing_is_left_of_a_killed_replica(traces_of):
    with postgres() as primary, postgres_replica(primary) as replica:
        traces = traces_of(replica.pid)
        traces.server.kill()
        traces.server.wait(10)
    traces.assert_gone()


HOLD = """
import time
from upshift.testing.servers import postgres, postgres_replica
with postgres() as primary, postgres_replica(primary) as replica:
    print(primary.pid, replica.pid, flush=True)
    time.sleep(600)
"""


def test_both_are_gone_when_their_caller_is_killed(traces_of):
    with subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True) as caller:
        traces = [traces_of(int(pid)) for pid in caller.stdout.readline().split()]
        caller.kill()
    for each in traces:
        each.assert_gone()


def test_a_primary_on_tcp_is_refused():
    with postgres(listen="tcp") as primary, pytest.raises(ServerUnavailableError, match="unix socket"):
        postgres_replica(primary).__enter__()
