"""What was added is started and stopped around an application, which is asked as a server asks it."""

import asyncio
import contextlib
import threading
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette

from upshift.settings import HealthSettings
from upshift.telemetry.lifespan import Lifespan

SETTINGS = HealthSettings(shutdown_seconds=30.0)


class Server:
    """The server's side of the protocol, as strict as Uvicorn's."""

    def __init__(self, app):
        self._app = app
        self._messages = asyncio.Queue()
        self.heard = []
        self._answers = asyncio.Queue()
        self.state = {}
        self.scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": self.state}

    async def _send(self, message):
        self.heard.append(message["type"].removeprefix("lifespan."))
        await self._answers.put(message)

    async def start(self):
        self.task = asyncio.create_task(self._app(self.scope, self._messages.get, self._send))
        return await self._tell("lifespan.startup")

    async def stop(self):
        answer = await self._tell("lifespan.shutdown")
        await asyncio.wait({self.task}, timeout=10)
        return answer

    async def _tell(self, what):
        """Tell it, and return its answer, or None where its task ended without one."""
        await self._messages.put({"type": what})
        answer = asyncio.create_task(self._answers.get())
        await asyncio.wait({self.task, answer}, timeout=20, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.sleep(0)
        if answer.done():
            return answer.result()
        assert self.task.done(), "no answer"
        answer.cancel()
        return None

    async def run(self):
        await self.start()
        await self.stop()
        return self.heard


async def quiet(scope, receive, send):
    """An application that has nothing to start."""
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


async def web_only(scope, receive, send):
    assert scope["type"] == "http"


async def returns_at_once(scope, receive, send):
    pass


@pytest.fixture
def lifespan():
    return Lifespan(SETTINGS)


@pytest.fixture
def told():
    return []


def add(lifespan, told, name, *needs):
    lifespan.add(name, lambda: told.append(f"+{name}"), lambda: told.append(f"-{name}"), needs=needs)


def test_the_order_is_that_of_needs(lifespan, told):
    add(lifespan, told, "routes", "cache", "database")
    add(lifespan, told, "cache", "network")
    add(lifespan, told, "database", "network")
    add(lifespan, told, "network")
    order = lifespan.order()
    assert order[0] == "network"
    assert order[-1] == "routes"


@given(st.data())
def test_nothing_is_started_before_what_it_needs(data):
    names = [f"n{number}" for number in range(data.draw(st.integers(1, 12)))]
    needs = {
        name: data.draw(st.sets(st.sampled_from(names[:place]))) if place else set()
        for place, name in enumerate(names)
    }
    lifespan = Lifespan(SETTINGS)
    for name in data.draw(st.permutations(names)):
        lifespan.add(name, needs=needs[name])
    order = lifespan.order()
    assert sorted(order) == sorted(names)
    assert all(order.index(need) < order.index(name) for name in names for need in needs[name])


def test_what_needs_nothing_is_started_as_it_was_added(lifespan, told):
    for name in "dacb":
        add(lifespan, told, name)
    assert lifespan.order() == ("d", "a", "c", "b")


def test_a_circle_is_named(lifespan, told):
    add(lifespan, told, "a", "b")
    add(lifespan, told, "b", "c")
    add(lifespan, told, "c", "a")
    with pytest.raises(ValueError, match=r"nothing can start first: ('\w' needs ){3}'\w'"):
        lifespan.order()


def test_a_need_that_was_not_added_is_named(lifespan, told):
    add(lifespan, told, "cache", "databse")
    with pytest.raises(ValueError, match="'cache' needs 'databse', which was not added; there are: cache"):
        lifespan.order()


def test_a_name_is_given_once(lifespan, told):
    add(lifespan, told, "cache")
    with pytest.raises(ValueError, match="'cache' in the lifespan already"):
        add(lifespan, told, "cache")


def test_a_context_beside_its_own_calls_is_refused(lifespan):
    with pytest.raises(ValueError, match="has a context"):
        lifespan.add("cache", print, context=contextlib.nullcontext())


def test_needs_in_one_text_are_refused(lifespan):
    with pytest.raises(TypeError, match=r"\['database'\]"):
        lifespan.add("cache", needs="database")


async def test_ours_starts_before_the_application_and_stops_after_it(lifespan, told):
    @contextlib.asynccontextmanager
    async def own(app):
        told.append("+app")
        yield {"answer": 42}
        told.append("-app")

    add(lifespan, told, "cache", "database")
    add(lifespan, told, "database")
    lifespan.at_end(lambda: told.append("metrics"))
    lifespan.at_end(lambda: told.append("logs"))
    server = Server(lifespan.around(Starlette(lifespan=own)))
    assert await server.run() == ["startup.complete", "shutdown.complete"]
    assert told == ["+database", "+cache", "+app", "-app", "-cache", "-database", "metrics", "logs"]
    assert server.state == {"answer": 42}


async def test_the_very_last_call_is_the_one_it_was_made_with(told):
    lifespan = Lifespan(HealthSettings(), last=lambda: told.append("ours"))
    lifespan.at_end(lambda: told.append("theirs"))
    await Server(lifespan.around(Starlette())).run()
    assert told == ["theirs", "ours"]


async def test_sync_and_async_calls_and_contexts_are_all_the_same(lifespan, told):
    async def note(what):
        told.append(what)

    @contextlib.asynccontextmanager
    async def context():
        told.append("+context")
        yield
        told.append("-context")

    lifespan.add("sync", lambda: told.append("+sync"), lambda: told.append("-sync"))
    lifespan.add("async", lambda: note("+async"), lambda: note("-async"))
    lifespan.add("factory", context=context)
    lifespan.add("instance", context=context())
    lifespan.add("half", stop=lambda: told.append("-half"))
    await Server(lifespan.around(quiet)).run()
    assert told == [
        "+sync", "+async", "+context", "+context",
        "-half", "-context", "-context", "-async", "-sync",
    ]  # fmt: skip


async def test_a_context_is_left_in_the_task_that_entered_it(lifespan):
    tasks = []

    @contextlib.asynccontextmanager
    async def context():
        async with asyncio.TaskGroup():  # which insists on it
            tasks.append(asyncio.current_task())
            yield
            tasks.append(asyncio.current_task())

    lifespan.add("group", context=context)
    await Server(lifespan.around(quiet)).run()
    assert tasks[0] is tasks[1]
    assert lifespan.faults == 0


async def test_the_phase_is_told_all_along(lifespan):
    phases = [lifespan.phase]
    lifespan.add("cache", lambda: phases.append(lifespan.phase), lambda: phases.append(lifespan.phase))
    server = Server(lifespan.around(quiet))
    await server.start()
    phases.append(lifespan.phase)
    await server.stop()
    assert phases == ["serving", "starting", "serving", "draining"]


@pytest.mark.parametrize("app", [web_only, returns_at_once], ids=["raises", "returns"])
async def test_an_application_without_a_lifespan_is_spoken_for(lifespan, told, app):
    add(lifespan, told, "cache")
    server = Server(lifespan.around(app))
    await server.start()
    assert (server.heard, told, lifespan.phase) == (["startup.complete"], ["+cache"], "serving")
    await server.stop()
    assert (server.heard, told) == (["startup.complete", "shutdown.complete"], ["+cache", "-cache"])
    assert server.task.exception() is None


async def test_an_application_that_fails_without_saying_so_is_served_as_asgi_has_it(lifespan, told, caplog):
    async def app(scope, receive, send):
        await receive()
        raise OSError("no room")

    add(lifespan, told, "cache")
    assert await Server(lifespan.around(app)).run() == ["startup.complete", "shutdown.complete"]
    assert "failed to start without saying so" in caplog.text
    assert "no room" in caplog.text
    assert told == ["+cache", "-cache"]


async def test_an_application_that_fails_to_start_is_heard_and_ours_is_stopped_first(lifespan, told):
    @contextlib.asynccontextmanager
    async def own(app):
        raise OSError("no room")
        yield

    add(lifespan, told, "cache")
    lifespan.at_end(lambda: told.append("logs"))
    server = Server(lifespan.around(Starlette(lifespan=own)))
    answer = await server.start()
    assert told == ["+cache", "-cache", "logs"]
    assert server.heard == ["startup.failed"]
    assert "no room" in answer["message"]
    with pytest.raises(OSError, match="no room"):
        await server.task
    assert lifespan.phase == "starting"


async def test_what_an_application_raises_at_its_end_leaves_as_it_came(lifespan, told):
    @contextlib.asynccontextmanager
    async def own(app):
        yield
        raise OSError("no room")

    add(lifespan, told, "cache")
    server = Server(lifespan.around(Starlette(lifespan=own)))
    assert await server.run() == ["startup.complete", "shutdown.failed"]
    assert isinstance(server.task.exception(), OSError)
    assert told == ["+cache", "-cache"]


async def test_an_application_whose_lifespan_breaks_off_goes_on_with_ours(lifespan, told, caplog):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.complete"})
        raise OSError("broke off")

    add(lifespan, told, "cache")
    server = Server(lifespan.around(app))
    await server.start()
    await asyncio.sleep(0.01)
    assert "broke off; requests go on" in caplog.text
    assert (told, lifespan.phase) == (["+cache"], "serving")
    await server.stop()
    assert told == ["+cache", "-cache"]
    with pytest.raises(OSError, match="broke off"):
        await server.task


async def test_an_application_that_returns_early_is_stopped_for(lifespan, told):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.complete"})

    add(lifespan, told, "cache")
    assert await Server(lifespan.around(app)).run() == ["startup.complete", "shutdown.complete"]
    assert told == ["+cache", "-cache"]


async def test_a_failed_start_stops_what_had_started_and_tells_the_server(lifespan, told, caplog):
    asked = []

    async def app(scope, receive, send):
        asked.append(1)

    def fail():
        raise ConnectionError("redis://:rosebud@cache/0 refused")

    add(lifespan, told, "network")
    add(lifespan, told, "database", "network")
    lifespan.add("cache", fail, lambda: told.append("-cache"), needs=["database"])
    add(lifespan, told, "routes", "cache")
    lifespan.at_end(lambda: told.append("logs"))
    server = Server(lifespan.around(app))
    answer = await server.start()
    assert answer == {
        "type": "lifespan.startup.failed",
        "message": "Upshift could not start 'cache': ConnectionError: redis://***@cache/0 refused",
    }
    assert told == ["+network", "+database", "-database", "-network", "logs"]
    assert not asked
    assert "'cache' did not start" in caplog.text
    await server.task


async def test_a_circle_is_a_failed_start(lifespan, told):
    add(lifespan, told, "a", "a")
    answer = await Server(lifespan.around(quiet)).start()
    assert answer["message"] == "Upshift cannot start: nothing can start first: 'a' needs 'a'"


async def test_a_start_that_is_cancelled_by_what_it_calls_is_a_failed_start(lifespan):
    async def cancelled():
        raise asyncio.CancelledError

    lifespan.add("cache", cancelled)
    answer = await Server(lifespan.around(quiet)).start()
    assert (
        answer["message"]
        == "Upshift could not start 'cache': RuntimeError: it was cancelled while it started"
    )


async def test_a_stop_that_fails_is_logged_and_the_others_are_stopped(lifespan, told, caplog):
    def fail():
        raise OSError("no room")

    add(lifespan, told, "database")
    lifespan.add("cache", stop=fail)
    add(lifespan, told, "routes")
    lifespan.at_end(fail)
    lifespan.at_end(lambda: told.append("logs"))
    assert await Server(lifespan.around(quiet)).run() == ["startup.complete", "shutdown.complete"]
    assert told == ["+database", "+routes", "-routes", "-database", "logs"]
    assert lifespan.faults == 2
    assert "stopping 'cache' failed" in caplog.text
    assert caplog.text.count("OSError: no room") == 2


async def test_what_hangs_is_given_up_and_named_and_the_last_calls_run(told, caplog):
    lifespan = Lifespan(replace(SETTINGS, shutdown_seconds=0.2))
    release = threading.Event()
    add(lifespan, told, "database")
    lifespan.add("thread", stop=release.wait)
    lifespan.add("task", stop=lambda: asyncio.sleep(3600))
    lifespan.at_end(lambda: told.append("logs"))
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert await Server(lifespan.around(quiet)).run() == ["startup.complete", "shutdown.complete"]
    assert loop.time() - began < 10  # not for ever; how long exactly is the machine's business
    assert told == ["+database", "-database", "logs"]
    assert lifespan.faults == 2
    assert "stopping 'thread' was given up" in caplog.text
    assert "stopping 'task' was given up" in caplog.text
    release.set()


async def test_what_ends_early_is_told_at_once(lifespan, told, caplog):
    @contextlib.asynccontextmanager
    async def context():
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
            yield

    async def fail():
        await asyncio.sleep(0.01)
        raise OSError("broke")

    lifespan.add("group", context=context)
    add(lifespan, told, "cache")
    server = Server(lifespan.around(quiet))
    await server.start()
    await asyncio.sleep(0.05)
    assert "'group' ended while it was needed" in caplog.text
    await server.stop()
    assert server.heard == ["startup.complete", "shutdown.complete"]
    assert told == ["+cache", "-cache"]


async def test_a_server_that_cancels_gets_everything_stopped(lifespan, told):
    add(lifespan, told, "database")
    add(lifespan, told, "cache", "database")
    lifespan.at_end(lambda: told.append("logs"))
    server = Server(lifespan.around(quiet))
    await server.start()
    server.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await server.task
    assert told == ["+database", "+cache", "-cache", "-database", "logs"]


def test_an_event_loop_that_ends_without_a_shutdown_has_everything_stopped(lifespan, told):
    async def crash():
        await Server(lifespan.around(quiet)).start()

    add(lifespan, told, "database")
    add(lifespan, told, "cache", "database")
    lifespan.at_end(lambda: told.append("logs"))
    asyncio.run(crash())
    assert sorted(told[2:4]) == ["-cache", "-database"]  # asyncio cancels all at once
    assert told[4:] == ["logs"]


def test_it_serves_one_event_loop_after_the_other(lifespan, told):
    add(lifespan, told, "cache")

    async def serve():
        return await Server(lifespan.around(quiet)).run()

    for _ in range(3):
        assert asyncio.run(serve()) == ["startup.complete", "shutdown.complete"]
    assert told == ["+cache", "-cache"] * 3


async def test_with_nothing_to_do_the_application_talks_to_the_server_itself():
    idle = Lifespan(replace(SETTINGS, health=False))
    seen = []

    async def app(*arguments):
        seen.append(arguments)

    server = Server(idle.around(app))
    await server.start()
    assert server.heard == []
    scope, receive, send = seen[0]
    assert (scope, receive, send) == (server.scope, server._messages.get, server._send)


async def test_requests_pass_untouched(lifespan):
    seen = []

    async def app(*arguments):
        seen.append(arguments)

    scope = {"type": "http"}
    await lifespan.around(app)(scope, "receive", "send")
    assert seen == [(scope, "receive", "send")]


def test_under_another_kind_of_event_loop_the_application_is_left_alone(lifespan, told, caplog):
    add(lifespan, told, "cache")
    seen = []

    async def app(*arguments):
        seen.append(arguments)

    with contextlib.suppress(StopIteration):
        lifespan.around(app)({"type": "lifespan"}, None, None).send(None)
    assert len(seen) == 1
    assert not told
    assert "not asyncio's" in caplog.text
