"""Starting and asking an application in process."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import create_engine
from starlette.applications import Starlette

from upshift.diagnose import get, lifespan
from upshift.errors import ApplicationLoadError


def fail_plainly():
    raise RuntimeError("no licence file\nput it beside the application")


def fail_without_words():
    raise KeyError


def fail_by_a_cause():
    with create_engine("sqlite:////nowhere/shop.db").connect():
        pass


def fail_in_a_group():
    raise ExceptionGroup("unhandled errors in a TaskGroup", [ValueError("bad port\n  of two lines")])


def fail_at_a_line_of_code():
    compile("def (", "settings.py", "exec")


@pytest.mark.parametrize(
    ("fail", "told"),
    [
        (fail_plainly, "RuntimeError: no licence file"),
        (fail_without_words, "KeyError"),
        (
            fail_by_a_cause,
            "sqlalchemy.exc.OperationalError: (sqlite3.OperationalError) unable to open database file",
        ),
        (fail_in_a_group, "ExceptionGroup: unhandled errors in a TaskGroup (1 sub-exception)"),
        (fail_at_a_line_of_code, "SyntaxError: invalid syntax"),
    ],
)
async def test_an_application_that_fails_to_start_is_told_in_one_line(fail, told):
    @asynccontextmanager
    async def failing(app):
        fail()
        yield

    with pytest.raises(ApplicationLoadError) as caught:
        async with lifespan(Starlette(lifespan=failing)):
            pass

    assert str(caught.value) == f"the application failed to start: {told}"


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("no licence file", "no licence file"),
        ("no licence file\nand more", "no licence file"),
        ("", "it said nothing"),
        ("\n\n", "it said nothing"),
    ],
)
async def test_what_another_framework_says_of_its_failure_is_told_in_one_line(message, told):
    async def app(scope, receive, send):
        await send({"type": "lifespan.startup.failed", "message": message})

    with pytest.raises(ApplicationLoadError) as caught:
        async with lifespan(app):
            pass

    assert str(caught.value) == f"the application failed to start: {told}"


def raise_at_once():
    raise AssertionError("only HTTP here")


@pytest.mark.parametrize("answer", [raise_at_once, lambda: None], ids=["raises", "returns"])
async def test_an_application_that_knows_no_lifespan_just_runs(answer):
    async def app(scope, receive, send):
        answer()

    async with lifespan(app):
        pass


async def test_a_request_that_nobody_waits_for_any_more_is_cancelled():
    ended = []

    async def app(scope, receive, send):
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("cancelled")

    asking = asyncio.ensure_future(get(app, "/"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    asking.cancel()

    with pytest.raises(asyncio.CancelledError):
        await asking
    assert ended == ["cancelled"]
