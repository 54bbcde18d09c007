"""The plans that an application has kept, told at its endpoint and by `upshift plan`."""

from __future__ import annotations

import asyncio
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
import sqlalchemy as sa
from click.testing import CliRunner
from sqlalchemy.pool import NullPool
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from upshift import Upshift
from upshift.cli.commands import upshift
from upshift.diagnose import get
from upshift.sql.plans.document import ToldPlans, decode_plans


@pytest.fixture
def observed(planned):
    """An application with one slow statement, which was asked and whose plan was kept."""
    engine = sa.create_engine(planned.url, poolclass=NullPool)

    def work():
        with engine.connect() as connection:
            connection.exec_driver_sql("SELECT * FROM event WHERE kind = %(kind)s", {"kind": "s3cret"}).all()

    async def events(_):
        await run_in_threadpool(work)
        return PlainTextResponse("done")

    up = Upshift(Starlette(routes=[Route("/events", events)]), engine=engine, slow_statement_seconds=0.0)
    asyncio.run(get(up, "/events"))
    deadline = time.monotonic() + 30
    while not up.observation().plans:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    yield up
    up.close()


async def test_an_application_tells_its_plans_to_callers_on_its_machine(observed):
    transport = httpx.ASGITransport(app=observed)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        answer = await client.get("/upshift/queries/plans")
        none = await client.get("/upshift/queries/plans?digest=zz")
        refused = await client.get("/upshift/queries/plans", headers={"host": "shop.example"})
    (plans,) = decode_plans(answer.content).statements
    assert plans == observed.observation().plans[0]
    assert b"s3cret" not in answer.content
    assert decode_plans(none.content).statements == ()
    assert refused.status_code == 403


def test_the_command_shows_a_kept_plan_with_its_history(observed):
    told = ToldPlans(lambda: observed.observation().plans)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body = told.answer(dict(parse_qsl(urlsplit(self.path).query)))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{server.server_port}"
        digest = observed.observation().plans[0].digest.id
        shown, unknown = (
            CliRunner().invoke(upshift, ["plan", each, "--from", address], env={"DATABASE_URL": None})
            for each in (digest[:8], "ffffffff")
        )
    finally:
        server.shutdown()
        server.server_close()
    assert shown.exit_code == 0, shown.output
    lines = shown.stdout.splitlines()
    assert lines[0] == "SELECT * FROM event WHERE kind = ?"
    assert "plans for any parameters:" in lines
    assert "1x" in lines[-1]
    assert (unknown.exit_code, "no plan of ffffffff was kept" in unknown.stderr) == (2, True)
