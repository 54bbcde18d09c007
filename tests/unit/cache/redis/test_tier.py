"""Claims that are given up when something comes between a claim and the load."""

from __future__ import annotations

import asyncio

import pytest

from upshift.cache.redis.tier import Tier
from upshift.cache.redis.wire import Unreachable

KEY = ("menu", 7)


@pytest.mark.parametrize("error", [Unreachable("timed out"), asyncio.CancelledError()])
def test_a_claim_is_given_up_where_the_look_after_it_fails(process, client, error):
    one = process()
    tier = Tier(one.remote, one.tokens)
    one.remote.finish(tier.fill_steps(KEY, one.tokens.stamp(["dish"]), b"", None, ""))

    steps = tier.begin_steps(KEY, (), ())
    claiming = steps.send(None)
    steps.send(one.remote.ask(claiming))  # it has claimed, and asks for a tag that it did not expect
    assert client.exists(tier._claim(KEY))
    with pytest.raises((StopIteration, asyncio.CancelledError)):
        steps.throw(error)

    assert one.remote.heart.claims == set()
    one.beat()
    assert not client.exists(tier._claim(KEY))
