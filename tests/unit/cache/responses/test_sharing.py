"""One run of the application for all who ask the same, and what becomes of the others when it fails."""

from __future__ import annotations

import asyncio
import threading

import pytest

from .asking import App, ask, receive, scope_of


@pytest.fixture
def app():
    app = App()
    app.may_end.clear()
    return app


@pytest.fixture
def served(cache, app):
    cache.responses("/things")
    return cache.responses.around(app)


async def asking(served, count, *headers):
    tasks = [asyncio.create_task(ask(served, "/things", *headers)) for _ in range(count)]
    await asyncio.sleep(0.01)
    return tasks


async def test_requests_that_come_while_it_is_made_share_the_answer(cache, served, app):
    tasks = await asking(served, 1_000)
    app.may_end.set()
    answers = await asyncio.gather(*tasks)

    assert app.runs == 1
    assert {each.body for each in answers} == {b"run 1"}
    assert cache.statistics()["/things"].joined == 999


async def test_the_slow_client_of_the_first_keeps_nobody_waiting(served, app):
    may_go_on = asyncio.Event()

    async def slow_send(message):
        await may_go_on.wait()

    slow = asyncio.create_task(served(scope_of(), receive, slow_send))
    (other,) = await asking(served, 1)
    app.may_end.set()

    assert (await other).body == b"run 1"
    may_go_on.set()
    await slow


async def test_they_wait_for_no_end_of_a_stream(served, app):
    app.length, app.pieces = False, 3
    tasks = await asking(served, 3)
    app.may_end.set()
    answers = await asyncio.gather(*tasks)

    assert sorted(each.body for each in answers) == [b"run 1", b"run 2", b"run 3"]


async def test_what_was_not_stored_is_made_side_by_side_from_then_on(served, app):
    app.status = 500
    app.may_end.set()
    await ask(served)
    app.may_end.clear()

    tasks = await asking(served, 3)

    assert app.runs == 4
    app.may_end.set()
    await asyncio.gather(*tasks)


async def test_where_the_first_fails_the_others_are_made_side_by_side(served, app):
    app.error = LookupError("nothing there")
    tasks = await asking(served, 5)
    app.may_end.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)

    assert [str(each) for each in results] == ["nothing there"] * 5
    assert app.runs == 5
    app.error = None
    assert (await ask(served)).body == b"run 6"


async def test_where_the_first_is_cancelled_another_takes_its_place(served, app):
    first, *others = await asking(served, 10)
    first.cancel()
    await asyncio.sleep(0.01)
    app.may_end.set()
    answers = await asyncio.gather(*others)

    assert app.runs == 2
    assert {each.body for each in answers} == {b"run 2"}


async def test_who_is_cancelled_while_waiting_takes_nobody_along(served, app):
    tasks = await asking(served, 3)
    tasks[1].cancel()
    await asyncio.sleep(0.01)
    app.may_end.set()

    assert (await tasks[0]).body == (await tasks[2]).body == b"run 1"


async def test_who_names_himself_does_not_wait(served, app):
    await asking(served, 1)

    tasks = await asking(served, 2, (b"cookie", b"session=1"))

    assert app.runs == 3
    app.may_end.set()
    await asyncio.gather(*tasks)


async def test_who_wants_a_new_answer_does_not_wait(served, app):
    await asking(served, 1)

    tasks = await asking(served, 1, (b"cache-control", b"no-cache"))

    assert app.runs == 2
    app.may_end.set()
    await asyncio.gather(*tasks)


async def test_who_differs_by_what_answers_turn_out_to_vary_by_is_not_given_it(served, app):
    app.headers = ((b"vary", b"Accept-Language"),)
    tasks = await asking(served, 2, (b"accept-language", b"zh"))
    tasks += await asking(served, 2, (b"accept-language", b"de"))
    app.may_end.set()
    answers = await asyncio.gather(*tasks)

    assert {each.body for each in answers[:2]} == {b"run 1"}
    assert b"run 1" not in {each.body for each in answers[2:]}


async def test_it_is_not_given_to_who_asked_before_what_it_depends_on_was_written(cache, served, app):
    tasks = await asking(served, 2)
    cache.delete_namespace("/things")  # as a commit would, its tokens go
    app.may_end.set()
    answers = await asyncio.gather(*tasks)

    assert sorted(each.body for each in answers) == [b"run 1", b"run 2"]


async def test_a_background_task_keeps_nobody_waiting(served, app):
    may_end = asyncio.Event()
    app.after = may_end.wait
    tasks = await asking(served, 3)
    app.may_end.set()

    await asyncio.wait(tasks[1:], timeout=5)

    assert [each.done() for each in tasks] == [False, True, True]
    may_end.set()
    await tasks[0]
    assert app.runs == 1


async def test_a_client_that_leaves_half_way_leaves_a_whole_answer_or_none(served, app):
    app.may_end.set()
    app.pieces = 4

    async def leaving_send(message):
        if message["type"] == "http.response.body":
            raise OSError("the client has gone")

    with pytest.raises(OSError, match="gone"):
        await served(scope_of(), receive, leaving_send)

    answer = await ask(served)
    assert answer.body == b"run 1"
    assert answer.is_complete


async def test_an_application_that_stops_half_way_leaves_none(cache):
    runs = []

    async def app(scope, receive, send):
        runs.append(1)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})

    cache.responses("/things")
    served = cache.responses.around(app)
    for _ in range(2):
        answer = await ask(served)
        assert (answer.status, answer.body, answer.is_complete) == (200, b"half", False)
    assert len(runs) == 2


async def test_messages_of_other_kinds_pass_in_their_place(cache):
    kinds = ["http.response.start", "http.response.pathsend"]

    async def app(scope, receive, send):
        await send({"type": kinds[0], "status": 200, "headers": []})
        await send({"type": kinds[1], "path": "/tmp/file"})

    cache.responses("/things")
    served = cache.responses.around(app)
    answer = await ask(served)

    assert [each["type"] for each in answer.messages] == kinds


async def test_event_loops_do_not_wait_for_each_other(cache):
    both = threading.Barrier(2, timeout=10)

    class Meeting(App):
        async def __call__(self, scope, receive, send):
            both.wait()
            await super().__call__(scope, receive, send)

    cache.responses("/things")
    served = cache.responses.around(Meeting())
    answers = []

    def in_a_loop():
        answers.append(asyncio.run(ask(served)))

    threads = [threading.Thread(target=in_a_loop) for _ in range(2)]
    for each in threads:
        each.start()
    for each in threads:
        await asyncio.to_thread(each.join)

    assert [each.status for each in answers] == [200, 200]


async def test_a_failing_store_breaks_no_request(served, app, cache, monkeypatch):
    app.may_end.set()

    def fail(*_):
        raise RuntimeError("the store is broken")

    monkeypatch.setattr(cache._memory, "put", fail)

    assert (await ask(served)).body == b"run 1"
    assert (await ask(served)).body == b"run 2"
    assert cache.responses.faults == 2
