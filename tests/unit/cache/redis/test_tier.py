"""Claims that are given up when something comes between a claim and the load."""

from __future__ import annotations

import asyncio

import pytest

from upshift.cache.redis.tier import Tier
from upshift.cache.redis.wire import Unreachable

KEY = ("menu", 7)


@pytest.mark.parametrize("error", [Unreachable("timed out"), asyncio.CancelledError()])
def test_a_claim_is_given_up_where_the_look_after_it_fails(process, client, error):
    one, other = process(), process()
    holder, waiter = Tier(one.remote, one.tokens), Tier(other.remote, other.tokens)
    begun = one.remote.finish(holder.begin_steps(KEY, (), ()))

    steps = waiter.begin_steps(KEY, (), ())
    ask = other.remote.ask
    claiming = steps.send(None)
    steps.send(ask(claiming))  # it is another's: wait
    looking = steps.send(None)
    claiming = steps.send(ask(looking))
    one.remote.finish(holder.release_steps(KEY, begun.claim))
    steps.send(ask(claiming))  # it has it now, and looks
    assert len(other.remote.heart.claims) == 1
    with pytest.raises((StopIteration, asyncio.CancelledError)):
        steps.throw(error)

    assert other.remote.heart.claims == set()
    other.beat()
    assert one.remote.finish(holder.begin_steps(KEY, (), ())).claim
