"""Caches in a Redis, whose heartbeats a test makes itself, so that no clock decides it."""

from __future__ import annotations

import time
from itertools import count

import pytest
from redis import Redis

from upshift.cache import Cache
from upshift.cache.redis import RedisTokens, Remote, Timing

NAMES = count()
PATIENT = Timing(answer=5.0, fence=600.0, closed=0.0)


class Process:
    """What one process has of a cache."""

    def __init__(self, where, name, timing=PATIENT, **options):
        self.remote = Remote(where, name, timing)
        self.tokens = RedisTokens(self.remote, **options)
        self.beat()

    def beat(self):
        return self.remote.heart.beat()

    def close(self):
        self.remote.close()


def wait_until(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def open_at_once(cache, client):
    """Wait until a cache may be used, and open its fence, which a new one is not for a second."""
    remote = cache._shared._shared.remote
    wait_until(remote.circuit.is_usable)
    client.hset(remote.keys.intents, "opens", 0)


@pytest.fixture
def name():
    return f"test{next(NAMES)}"


@pytest.fixture
def client(valkey_server):
    with Redis.from_url(valkey_server.url) as client:
        yield client


@pytest.fixture
def process(valkey_server, name):
    """Make a process of this test's cache."""
    made = []

    def make(where=None, timing=PATIENT, **options):
        made.append(Process(where or valkey_server.url, name, timing, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def patient(monkeypatch):
    """Have caches not take a machine that is busy for a Redis that is away."""

    def timing(answer):
        return PATIENT._replace(answer=max(answer, 5.0))

    monkeypatch.setattr("upshift.cache.redis.Timing", timing)


@pytest.fixture
def make_cache(valkey_server, client, name, patient):
    """Make caches that share what they keep, as each process of an application has one."""
    made = []

    def make(**options):
        cache = Cache(valkey_server.url, **{"name": name, **options})
        made.append(cache)
        open_at_once(cache, client)
        return cache

    yield make
    for each in made:
        each.close()
