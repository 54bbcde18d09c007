"""Tokens in a Redis that forgets, is full, has another clock, or is not there."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from redis import Redis

from tests.unit.cache.redis.conftest import PATIENT, Process, wait_until
from upshift.cache.redis import Timing
from upshift.errors import CacheUnreachableError
from upshift.testing.servers import valkey

HASTY = Timing(answer=0.05, fence=0.3, closed=0.6, beat=0.05, first_probe=0.02, last_probe=0.1)


@pytest.fixture
def stopped():
    """Stop a server until the end of the test, or until it is told to go on."""
    pids = []

    def stop(server):
        os.kill(server.pid, signal.SIGSTOP)
        pids.append(server.pid)

    yield stop
    for pid in pids:
        with suppress(ProcessLookupError):  # it is gone with its block
            os.kill(pid, signal.SIGCONT)


def test_another_process_takes_tokens_away(process):
    one, other = process(), process()
    stamp = one.tokens.stamp(["product", "user"])
    other.tokens.announce(["product"], "a")

    assert not one.tokens.holds(stamp)
    assert one.tokens.stamp(["product"]) is None
    other.tokens.settle(["product"], "a")
    assert one.tokens.holds(one.tokens.stamp(["product", "user"]))
    assert other.remote.owed.all() == []


def test_caches_of_other_names_share_nothing(process, valkey_server):
    one, other = process(), Process(valkey_server.url, "another name")
    stamp = one.tokens.stamp(["product"])
    other.tokens.announce(["product"], "a")

    assert one.tokens.holds(stamp)
    other.close()


def test_a_new_fence_is_closed_for_a_while(process, client):
    one = process(timing=PATIENT._replace(closed=60.0))

    assert one.tokens.stamp(["product"]) is None
    client.hset(one.remote.keys.intents, "opens", 0)
    assert one.tokens.holds(one.tokens.stamp(["product"]))


def test_without_heartbeats_the_fence_ends_and_nothing_is_served(process):
    one = process(timing=PATIENT._replace(fence=0.05))
    stamp = one.tokens.stamp(["product"])
    time.sleep(0.1)

    assert not one.tokens.holds(stamp)
    assert one.tokens.stamp(["product"]) is None


def test_a_settled_transaction_whose_announcement_comes_late_leaves_no_intent(process):
    one, other = process(), process()
    stamp = one.tokens.stamp(["product"])
    one.tokens.settle(["product"], "a")
    other.tokens.announce(["product"], "a")

    assert not one.tokens.holds(stamp)
    assert one.tokens.stamp(["product"]) is not None


def test_intents_that_were_evicted_close_the_cache_until_they_are_there_again(process, client):
    one, other = process(), process()
    held = other.tokens.stamp(["user"])  # on a connection that is there from now on
    one.tokens.announce(["product"], "a")
    client.delete(one.remote.keys.intents)

    assert other.tokens.stamp(["product"]) is None
    assert other.tokens.stamp(["user"]) is None
    other.beat()
    assert not one.tokens.holds(held)  # the fence is another
    one.beat()  # and tells again what is about to be committed
    assert other.tokens.stamp(["product"]) is None
    assert other.tokens.stamp(["user"]) is not None
    one.tokens.settle(["product"], "a")
    assert other.tokens.stamp(["product"]) is not None


def test_a_transaction_that_was_forgotten_ends_the_tokens_that_came_meanwhile(process, client):
    one, other = process(), process()
    one.tokens.announce(["product"], "a")
    client.hdel(one.remote.keys.intents, "t:product")
    stamp = other.tokens.stamp(["product"])
    assert other.tokens.holds(stamp)

    one.tokens.settle(["product"], "a")
    assert not other.tokens.holds(stamp)


def test_another_run_of_the_server_has_another_fence_before_anything_is_read(process, client):
    one = process()
    stamp = one.tokens.stamp(["product"])
    client.hset(one.remote.keys.intents, "run", "that of a master whose replica this was")
    other = process()  # its first connection

    assert not other.tokens.holds(stamp)
    assert not one.tokens.holds(stamp)


def test_a_clock_that_went_back_makes_a_new_fence(process, client):
    one = process()
    stamp = one.tokens.stamp(["product"])
    client.hset(one.remote.keys.intents, "now", int(time.time() * 1000) + 3_600_000)
    one.beat()

    assert not one.tokens.holds(stamp)
    assert one.tokens.stamp(["product"]) is not None


def test_intents_of_the_dead_are_swept_away(process, client):
    one = process()
    one.tokens.announce(["product"], "a")
    one.tokens.settle(["user"], "b")
    client.hset(one.remote.keys.intents, mapping={"swept": 0, "t:product": "a 1000", "s:b": "1000"})
    one.tokens.announce(["order"], "c")
    one.beat()

    left = {field for field in client.hkeys(one.remote.keys.intents) if field[1:2] == b":"}
    assert left == {b"t:order"}


def test_a_full_server_takes_announcements_and_no_new_tokens(name):
    with valkey(settings={"maxmemory-policy": "noeviction"}) as server, Redis.from_url(server.url) as client:
        one, other = Process(server.url, name), Process(server.url, name)
        product, user = other.tokens.stamp(["product"]), other.tokens.stamp(["user"])
        client.config_set("maxmemory", 1)
        one.tokens.announce(["product"], "a")

        assert not other.tokens.holds(product)
        assert other.tokens.stamps(["product", "user"]) == {"product": None, "user": user[0]}
        assert other.tokens.stamp(["order"]) is None
        one.beat()
        assert other.tokens.holds(user)
        one.tokens.settle(["product"], "a")
        client.config_set("maxmemory", 0)
        assert None not in other.tokens.stamps(["product", "order"]).values()
        assert not one.remote.circuit.failures
        one.close()
        other.close()


def test_who_cannot_announce_returns_when_it_has_been_told_after_all(name, stopped):
    with valkey() as server:
        timing = HASTY._replace(fence=600.0, closed=0.0)
        one, other = Process(server.url, name, timing), Process(server.url, name)
        stamp = other.tokens.stamp(["product"])
        stopped(server)
        one.tokens.announce(["product"], "a")
        with ThreadPoolExecutor(1) as pool:
            settled = pool.submit(one.tokens.settle, ["product"], "a")
            wait_until(lambda: any(each.is_over for each in one.remote.owed.all()))
            one.beat()
            assert not settled.done()
            os.kill(server.pid, signal.SIGCONT)
            wait_until(lambda: one.beat() and settled.done())
        assert not other.tokens.holds(stamp)
        assert other.tokens.stamp(["product"]) is not None
        assert one.tokens.faults == 0
        one.close()
        other.close()


def test_who_cannot_announce_returns_when_the_fence_is_over(name, stopped):
    with valkey() as server:
        one, other = Process(server.url, name, HASTY), Process(server.url, name, HASTY)
        wait_until(lambda: other.beat() and other.tokens.stamp(["product"]) is not None)
        stamp = other.tokens.stamp(["product"])
        one.remote.start()
        stopped(server)
        one.tokens.announce(["product"], "a")
        one.tokens.settle(["product"], "a")
        assert one.tokens.faults == 0
        assert one.remote.circuit.is_open
        began = time.monotonic()
        one.tokens.announce(["product"], "b")  # from now on nobody waits
        one.tokens.settle(["product"], "b")
        assert time.monotonic() - began < HASTY.fence / 2

        os.kill(server.pid, signal.SIGCONT)
        with Redis.from_url(server.url) as client:
            assert client.get(one.remote.keys.fence) != stamp[0][1]
        wait_until(one.remote.circuit.is_usable)
        assert not one.tokens.holds(stamp)
        one.close()
        other.close()


def test_a_server_that_comes_back_empty_serves_nothing_before_all_have_announced(name):
    with valkey(listen="tcp") as server:
        one, other = Process(server.url, name), Process(server.url, name)
        held = other.tokens.stamp(["product", "user"])
        one.tokens.announce(["product"], "a")
        with Redis.from_url(server.url) as client:
            client.flushall()
        other.beat()

        assert not other.tokens.holds(held)
        one.beat()
        assert other.tokens.stamp(["product"]) is None
        assert other.tokens.stamp(["user"]) is not None
        one.close()
        other.close()


def test_what_was_written_in_an_outage_is_told_first_when_it_is_over(process, stopped, name):
    with valkey() as server:
        timing = HASTY._replace(fence=600.0, closed=0.0)
        one, other = Process(server.url, name, timing), Process(server.url, name)
        stamp = other.tokens.stamp(["product"])
        writing = one.remote.owed.begin("a", ("product",))
        one.remote.owed.miss(writing)  # as after an outage in which others reached the server
        one.beat()

        assert not other.tokens.holds(stamp)
        one.close()
        other.close()


def test_more_than_can_be_remembered_ends_the_fence(process):
    one, other = process(), process()
    stamp = other.tokens.stamp(["user"])
    for number in range(3):
        tags = tuple(f"row {number} {each}" for each in range(2_000))
        one.remote.owed.miss(one.remote.owed.begin(str(number), tags))
    one.beat()

    assert not other.tokens.holds(stamp)


def test_who_would_rather_not_commit_is_refused(name, stopped):
    with valkey() as server:
        one = Process(server.url, name, HASTY, unreachable="refuse")
        stopped(server)

        with pytest.raises(CacheUnreachableError, match="nothing was committed"):
            one.tokens.announce(["product"], "a")
        one.close()


async def test_a_cancelled_announcement_leaves_no_intent(process):
    one, other = process(), process()
    task = asyncio.create_task(one.tokens.announce_async(["product"], "a"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    one.beat()

    assert other.tokens.stamp(["product"]) is not None
    one.close()


async def test_a_cancelled_settlement_is_made_up_for(process):
    one, other = process(), process()
    await one.tokens.announce_async(["product"], "a")
    task = asyncio.create_task(one.tokens.settle_async(["product"], "a"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    one.beat()

    assert other.tokens.stamp(["product"]) is not None
    one.close()


def test_a_forked_child_has_a_heart_and_connections_of_its_own(process):
    one, other = process(timing=PATIENT._replace(beat=0.01)), process()
    one.remote.start()
    one.tokens.announce(["product"], "parent")
    child = os.fork()
    if not child:
        code = 1
        try:
            wait_until(one.remote.circuit.is_usable, 5.0)
            one.tokens.announce(["user"], "child")
            code = len(one.remote.owed.all()) - 1
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)

    assert status == 0
    assert other.tokens.stamp(["user"]) is None
    one.tokens.settle(["product"], "parent")
    assert other.tokens.stamp(["product"]) is not None


def test_a_cache_that_nobody_holds_ends_its_heartbeat(name, valkey_server):
    before = set(threading.enumerate())
    one = Process(valkey_server.url, name)
    one.remote.start()
    (thread,) = set(threading.enumerate()) - before
    del one

    thread.join(20)
    assert not thread.is_alive()
