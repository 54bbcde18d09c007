"""Sentry as an application uses it, with and without its integrations, each in a process of its own.

`sentry_sdk.init` patches frameworks and the standard library for good, so no test may call it in here.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

APPLICATION = """
import asyncio, json, logging, sys
from contextvars import ContextVar

import httpx
import sentry_sdk
from fastapi import FastAPI, HTTPException
from sentry_sdk.transport import Transport

from upshift.record import Attachment, Recorder
from upshift.telemetry.ids.sentry import SentryTags

events = []

class Memory(Transport):
    def capture_envelope(self, envelope):
        for item in envelope.items:
            if item.type == "event":
                events.append(item.payload.json)

init = dict(dsn="http://key@127.0.0.1:9/1", transport=Memory, traces_sample_rate=1.0)
if sys.argv[1] == "bare":
    init |= dict(default_integrations=False, auto_enabling_integrations=False)
current = ContextVar("current", default=None)
if sys.argv[2] == "before":
    sentry_sdk.init(**init)
tags = SentryTags(current)
if sys.argv[2] == "after":
    sentry_sdk.init(**init)
    tags.look()

app = FastAPI()
attachment = Attachment(app, lambda inner: Recorder(inner, lambda record: None, current))

@app.get("/unhandled/{item}")
def unhandled(item):
    raise ValueError("unhandled")

@app.get("/captured/{item}")
async def captured(item):
    try:
        raise KeyError("captured")
    except KeyError:
        sentry_sdk.capture_exception()

@app.get("/logged")
def logged():
    logging.getLogger("shop").error("logged")

@app.get("/handled")
async def handled():
    raise HTTPException(503)

async def ask(client, path, answers):
    response = await client.get(path, headers={"x-request-id": "asked-" + path.split("/")[1]})
    answers[path] = [response.status_code, response.headers["x-request-id"]]

async def main():
    answers = {}
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
        paths = ["/unhandled/1", "/captured/1", "/logged", "/handled"]
        await asyncio.gather(*[ask(client, path, answers) for path in paths])
    tags.close()
    told = {}
    for event in events:
        raised = event.get("exception", {}).get("values")
        value = raised[-1]["value"] if raised else event["logentry"]["message"]
        told[value] = event.get("tags", {})
    print(json.dumps([answers, told, tags.faults]))

asyncio.run(main())
"""


def run(integrations, order):
    # Sentry imports what it knows of that is installed; benchmarks install Advanced Alchemy, which warns.
    ignored = ["-W", "ignore:The declarative_mixin decorator:DeprecationWarning"]
    command = [sys.executable, "-W", "error", *ignored, "-c", APPLICATION, integrations, order]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    answers, told, faults = json.loads(done.stdout.splitlines()[-1])
    assert faults == 0
    assert {path: status for path, (status, _) in answers.items()} == {
        "/unhandled/1": 500,
        "/captured/1": 200,
        "/logged": 200,
        "/handled": 503,
    }
    return told


@pytest.mark.parametrize("order", ["before", "after"])
def test_every_event_of_a_request_names_it_with_sentrys_own_integrations(order):
    told = run("integrated", order)
    assert {event: tags.get("request_id") for event, tags in told.items()} == {
        "unhandled": "asked-unhandled",
        "'captured'": "asked-captured",
        "logged": "asked-logged",
        "Service Unavailable": "asked-handled",
    }
    assert told["unhandled"]["http.route"] == "/unhandled/{item}"
    assert all(len(tags["trace_id"]) == 32 for tags in told.values())


def test_without_integrations_what_the_application_captures_names_its_request():
    told = run("bare", "before")
    assert {event: tags.get("request_id") for event, tags in told.items()} == {"'captured'": "asked-captured"}
