"""Replicas with the rest of Upshift: records, metrics, batching, and taking all of it out again."""

from __future__ import annotations

import httpx
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from upshift import Upshift
from upshift.errors import SettingsError
from upshift.settings import explain_settings
from upshift.telemetry import expose

from .conftest import Cluster, Item, NewReplicas, wait_for

SECRETS = ("a secret that all workers share",)


@pytest.fixture
def replicas(cluster: Cluster, new_replicas: NewReplicas):
    cluster.caught_up()
    return new_replicas(cluster.primary, cluster.near)


@pytest.fixture
def app(replicas):
    def tags(_request):
        with replicas.session_class() as session:
            items = session.scalars(sa.select(Item).where(Item.id <= 40).order_by(Item.id)).all()
            return JSONResponse([tag.name for item in items for tag in item.tags][:40])

    def rename(_request):
        with replicas.session_class() as session:
            session.get(Item, 30).name = "renamed"
            session.commit()
        return JSONResponse({})

    return Starlette(routes=[Route("/tags", tags), Route("/rename", rename, methods=["POST"])])


def client_of(app) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


async def test_reads_are_recorded_and_counted_by_the_engine_that_served_them(app, replicas):
    up = Upshift(app, engine=replicas.engine, replicas=replicas, replica_secrets=SECRETS, sample_rate=1.0)
    async with client_of(app) as client:
        assert len((await client.get("/tags")).json()) == 40
        answer = await client.post("/rename")
    records = up.observation().records
    up.close()

    body = expose(up.metrics).body.decode()
    assert len(records[0].statements) == 41
    assert "upshift-position" in answer.headers["set-cookie"]
    assert 'db_client_transactions_total{db_client_connection_pool_name="near",outcome="close"} 1.0' in body
    assert (
        'db_client_transactions_total{db_client_connection_pool_name="primary",outcome="commit"} 1.0' in body
    )
    assert 'db_client_replica_up{db_client_replica_name="near"} 1.0' in body
    assert 'db_client_replica_failures_total{db_client_replica_name="near"}' not in body


async def test_lazy_loads_are_batched_on_the_replica(app, replicas):
    up = Upshift(app, replicas=replicas, replica_secrets=SECRETS, sample_rate=1.0, batching=True)
    async with client_of(app) as client:
        lazy = (await client.get("/tags")).json()
        assert (await client.get("/tags")).json() == lazy
    records = up.observation().records
    up.close()

    assert len(records[1].statements) < 10
    with replicas.session_class() as session:
        session.scalars(sa.select(Item).where(Item.id <= 3)).all()
        assert session._route.replica is not None


async def test_closing_leaves_the_application_as_it_was(app, replicas):
    Upshift(app, replicas=replicas, replica_secrets=SECRETS).close()
    replicas.close()
    async with client_of(app) as client:
        answer = await client.post("/rename")
    assert "set-cookie" not in answer.headers
    for engine in replicas.engines:
        assert not {"do_commit", "do_rollback", "do_execute"} & vars(engine.dialect).keys()
        assert not engine.dialect.dispatch.do_connect


def test_a_missing_secret_is_told_before_anything_is_touched(app, replicas):
    with pytest.raises(SettingsError, match="UPSHIFT_REPLICA_SECRETS"):
        Upshift(app, replicas=replicas)
    up = Upshift(app, replicas=replicas, replica_carrier="off")
    up.close()


def test_secrets_are_not_shown(app, replicas):
    up = Upshift(app, replicas=replicas, replica_secrets=SECRETS)
    shown = {each.name: each.value for each in explain_settings(up.settings, {})}
    up.close()
    assert shown["replica_secrets"] == "***"


def test_plain_sessions_of_the_engines_are_as_they_were(replicas):
    with Session(replicas.engines[1]) as session:
        assert session.scalar(sa.select(sa.func.pg_is_in_recovery()))
    with Session(replicas.engine) as session:
        assert not session.scalar(sa.select(sa.func.pg_is_in_recovery()))
    wait_for(lambda: replicas.states()[0].open_transactions == 0)
