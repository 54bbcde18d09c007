"""Tokens in Redis do what every carrier does, with sockets and within an event loop."""

from __future__ import annotations

import asyncio
from itertools import count

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test
from redis import Redis

from tests.unit.cache.tokens.conformance import INTENT_SECONDS, SOME_TAGS, TRANSACTIONS, CarrierMachine
from upshift.cache.redis import RedisTokens, Remote, Timing
from upshift.cache.redis.tokens import whole

LONG = Timing(answer=5.0, fence=600.0, closed=0.0, intent=INTENT_SECONDS)
NAMES = count()


class View:
    """Tokens of a process. The id of a settled transaction is not used again, as outside of tests."""

    def __init__(self, tokens, rounds):
        self.tokens = tokens
        self.rounds = rounds

    def stamp(self, tags):
        return self.tokens.stamp(tags)

    def holds(self, stamp):
        return self.tokens.holds(stamp)

    def announce(self, tags, transaction):
        self.tokens.announce(tags, f"{transaction}.{self.rounds.get(transaction, 0)}")

    def settle(self, tags, transaction):
        number = self.rounds.get(transaction, 0)
        self.tokens.settle(tags, f"{transaction}.{number}")
        self.rounds[transaction] = number + 1


class AsyncView(View):
    def __init__(self, tokens, rounds, runner):
        super().__init__(tokens, rounds)
        self.run = runner.run

    def stamp(self, tags):
        return whole(self.run(self.tokens.stamps_async(tags)))

    def holds(self, stamp):
        return self.run(self.tokens.holds_async(stamp))

    def announce(self, tags, transaction):
        self.run(self.tokens.announce_async(tags, f"{transaction}.{self.rounds.get(transaction, 0)}"))

    def settle(self, tags, transaction):
        number = self.rounds.get(transaction, 0)
        self.run(self.tokens.settle_async(tags, f"{transaction}.{number}"))
        self.rounds[transaction] = number + 1


class RedisMachine(CarrierMachine):
    url: str

    def make_views(self):
        self.client = Redis.from_url(self.url)
        self.remotes = [Remote(self.url, f"conformance{next(NAMES)}", LONG)]
        self.remotes.append(Remote(self.url, self.remotes[0].keys.prefix.decode()[9:-2], LONG))
        for remote in self.remotes:
            remote.heart.beat()
        self.runner = asyncio.Runner()
        self.rounds = {}
        one, other = map(RedisTokens, self.remotes)
        return [View(one, self.rounds), AsyncView(other, self.rounds, self.runner)]

    def pass_time(self, seconds):
        """Bring the ends of intents nearer, as the server's clock cannot be moved."""
        key = self.remotes[0].keys.intents
        for field, value in self.client.hgetall(key).items():
            if field.startswith(b"t:"):
                words = value.split()
                moved = [str(int(each) - int(seconds * 1000)).encode() for each in words[1::2]]
                line = b" ".join(b" ".join(pair) for pair in zip(words[::2], moved, strict=True))
                self.client.hset(key, field, line)

    @rule(tags=SOME_TAGS, transaction=TRANSACTIONS, view=st.integers(0, 1))
    def settle(self, tags, transaction, view):
        """Settle all that a transaction has announced, and more: of that, the intents seem to be lost."""
        settled = {*tags, *(tag for tag, intents in self.intents.items() if transaction in intents)}
        for tag in settled:
            if self.intents.get(tag, {}).pop(transaction, 0.0) <= self.now:
                self.renewals[tag] = self.renewals.get(tag, 0) + 1
        self.views[view].settle(sorted(settled), transaction)

    def teardown(self):
        for remote in self.remotes:
            remote.close()
        self.runner.close()
        for key in self.client.scan_iter(self.remotes[0].keys.prefix + b"*"):
            self.client.delete(key)
        self.client.close()


def test_it_conforms(valkey_server):
    RedisMachine.url = valkey_server.url
    run_state_machine_as_test(
        RedisMachine, settings=settings(max_examples=25, stateful_step_count=25, deadline=None)
    )
