"""What `upshift cache doctor` looks at in a Redis server: whatever the protocol of the cache leans on.

What that is, and what becomes of it when it does not hold, is told in `upshift.cache.redis.tokens`.
"""

from __future__ import annotations

import re
from itertools import pairwise
from statistics import median
from time import perf_counter, time
from typing import TYPE_CHECKING

from upshift.cache.redis.heart import Timing
from upshift.cli.cache_remarks import Remark
from upshift.cli.statement_tables import seconds_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from upshift.cache.redis.looking import Looker

LEAST_VERSION = (6, 0)
"""Below that a server does not speak RESP3, and has no users."""

ROUNDS = 50
LATENCY_SHARE = 0.25
"""Share of the timeout that an answer may usually take."""

FIELDS = 5
"""Fields of the key of intents that are none: see `upshift.cache.redis.scripts`."""

CLOCK_SECONDS = 1.0
LAG_SECONDS = 10
FULL = 0.9

Info = dict[str, str]


def redis_remarks(looker: Looker) -> Iterator[Remark]:
    """Yield what there is to say of a server, and of the cache there.

    Raises:
        Unreachable: it does not answer.
    """
    (told,) = looker.replies(("INFO",))
    if isinstance(told, Exception):
        yield Remark(
            "note", "server", f"it may not be asked about itself: {told}", "allow INFO, to have it examined"
        )
    else:
        info = info_of(told)
        yield from version_remarks(info)
        yield from memory_remarks(info)
        yield from persistence_remarks(info)
        yield from replication_remarks(info)
        yield from _cluster_remarks(looker, info)
    yield from _latency_remarks(looker)
    yield from _clock_remarks(looker)
    yield from _script_remarks(looker)
    yield from _fence_remarks(looker)


def info_of(told: bytes | str) -> Info:
    r"""Return what INFO has answered, by name.

    Example:
        >>> info_of("# Server\r\nredis_version:7.2.4\r\n")
        {'redis_version': '7.2.4'}
    """
    text = told.decode("utf-8", "replace") if isinstance(told, bytes) else str(told)
    pairs = (line.partition(":") for line in text.splitlines() if ":" in line)
    return {name: value.strip() for name, _, value in pairs}


def version_remarks(info: Mapping[str, str]) -> Iterator[Remark]:
    """Yield what there is to say of the server's version."""
    name = "Valkey" if "valkey_version" in info else "Redis"
    version = info.get("valkey_version") or info.get("redis_version", "")
    numbers = tuple(int(each) for each in re.findall(r"\d+", version)[:2])
    if numbers < LEAST_VERSION:
        advice = f"use {'.'.join(map(str, LEAST_VERSION))} or later"
        yield Remark("problem", "version", f"{name} {version or 'of an unknown version'}", advice)
    else:
        yield Remark("ok", "version", f"{name} {version}")


def memory_remarks(info: Mapping[str, str]) -> Iterator[Remark]:
    """Yield what there is to say of memory, and of what happens when it is full (A4).

    Example:
        >>> [each.level for each in memory_remarks({"maxmemory": "100", "maxmemory_policy": "allkeys-lru"})]
        ['warning', 'ok']
        >>> [each.level for each in memory_remarks({"maxmemory": "0", "maxmemory_policy": "allkeys-lru"})]
        ['note']
    """
    limit, used = _number(info, "maxmemory"), _number(info, "used_memory")
    policy = info.get("maxmemory_policy", "unknown")
    if not limit:
        advice = "set maxmemory, and maxmemory-policy to volatile-lfu, where it may not take all there is"
        yield Remark("note", "memory", "without a limit, so nothing is evicted", advice)
        return
    found = f"maxmemory-policy is {policy}"
    advice = "set maxmemory-policy to volatile-lfu (or another volatile- but volatile-ttl), or to noeviction"
    if policy.startswith("allkeys"):
        reason = "it may evict the intents of transactions; nothing stale is served, but every value is lost"
        yield Remark("warning", "eviction", f"{found}: {reason} each time", advice)
    elif policy == "volatile-ttl":
        reason = "it evicts the fence first, which has the shortest life; every value is lost each time"
        yield Remark("warning", "eviction", f"{found}: {reason}", advice)
    else:
        yield Remark("ok", "eviction", found)
    share, evicted = used / limit, _number(info, "evicted_keys")
    found = f"{share:.0%} of maxmemory is used, {evicted:,} keys were evicted"
    if share > FULL and policy == "noeviction":
        yield Remark(
            "warning", "memory", f"{found}; what is new is not kept", "raise maxmemory, or lower ttl="
        )
    else:
        yield Remark("ok", "memory", found)


def persistence_remarks(info: Mapping[str, str]) -> Iterator[Remark]:
    """Yield what there is to say of what is on disk."""
    if info.get("loading") == "1":
        yield Remark("problem", "persistence", "it is loading what it has on disk", "wait until it has")
    is_saved = info.get("aof_enabled") == "1"
    found = "appended to a file" if is_saved else "no append-only file"
    yield Remark("ok", "persistence", f"{found}; either will do, as a restart ends all values and is noticed")
    if info.get("rdb_last_bgsave_status", "ok") != "ok":
        advice = "look into its log: with stop-writes-on-bgsave-error it refuses intents and values"
        yield Remark("warning", "persistence", "the last snapshot failed", advice)


def replication_remarks(info: Mapping[str, str]) -> Iterator[Remark]:
    """Yield what there is to say of replicas."""
    if info.get("role", "master") != "master":
        advice = "name the master, or Sentinels that know it: redis+sentinel://host,host/service"
        yield Remark("problem", "replication", "it is a replica, which takes no writes", advice)
        return
    count = _number(info, "connected_slaves")
    if not count:
        yield Remark("ok", "replication", "no replicas")
        return
    lags = [int(each) for each in re.findall(r"lag=(-?\d+)", " ".join(_replicas(info)))]
    worst = max(lags, default=0)
    found = f"{count} replicas, the last heard of {worst} s ago"
    if worst > LAG_SECONDS or -1 in lags:
        advice = "see to it before the master is lost: a replica that lags has lost values, all of which end"
        yield Remark("warning", "replication", found, advice)
    else:
        yield Remark("ok", "replication", found)
    if not _number(info, "min_slaves_good_slaves"):
        advice = "set min-replicas-to-write 1, so that a master that is cut off stops when another is made"
        yield Remark("note", "replication", "a master that is cut off goes on taking writes", advice)


def _cluster_remarks(looker: Looker, info: Mapping[str, str]) -> Iterator[Remark]:
    if info.get("cluster_enabled") != "1":
        return
    (told,) = looker.replies(("CLUSTER", "INFO"))
    state = "" if isinstance(told, Exception) else info_of(told).get("cluster_state", "")
    if state == "ok":
        found = f"all slots are served; this cache is on one node, {looker.server}, by its hash tag"
        yield Remark("ok", "cluster", found)
    else:
        advice = "have all slots served: what a node that is down had is not cached until then"
        yield Remark("problem", "cluster", f"its state is {state or f'not told: {told}'}", advice)


def latency_of(looker: Looker) -> float:
    """Return the seconds that an answer usually takes."""
    return median(_latencies(looker))


def _latencies(looker: Looker) -> list[float]:
    moments = [perf_counter()]
    for _ in range(ROUNDS):
        looker.ask(("GET", looker.keys.fence))
        moments.append(perf_counter())
    return sorted(end - begin for begin, end in pairwise(moments))


def _latency_remarks(looker: Looker) -> Iterator[Remark]:
    times = _latencies(looker)
    usual, worst, timeout = median(times), times[-1], Timing().answer
    found = f"an answer takes {seconds_text(usual)}, at worst {seconds_text(worst)} of {ROUNDS}, from here"
    if usual > timeout * LATENCY_SHARE:
        advice = f"the timeout is {seconds_text(timeout)}: move it nearer, or give Cache(timeout=…, lease=…)"
        yield Remark("problem" if usual > timeout else "warning", "latency", found, advice)
    else:
        yield Remark("ok", "latency", found)


def _clock_remarks(looker: Looker) -> Iterator[Remark]:
    began = time()
    (told,) = looker.replies(("TIME",))
    if isinstance(told, Exception):
        yield Remark("problem", "clock", f"it may not be asked: {told}", "allow TIME: scripts use it")
        return
    here = (began + time()) / 2
    skew = int(told[0]) + int(told[1]) / 1e6 - here
    found = f"its clock is {abs(skew):.3f} s {'ahead of' if skew > 0 else 'behind'} this machine's"
    if abs(skew) > CLOCK_SECONDS:
        advice = "keep clocks by NTP: values live longer or shorter by that much, between machines"
        yield Remark("warning", "clock", found, advice)
    else:
        yield Remark("ok", "clock", found)


def _script_remarks(looker: Looker) -> Iterator[Remark]:
    (told,) = looker.replies(("EVAL", "return redis.call('TIME')[1]", 0))
    if isinstance(told, Exception):
        advice = "allow what docs/cache-redis.md lists; without scripts nothing is cached"
        yield Remark("problem", "scripts", f"they do not run: {told}", advice)
    else:
        yield Remark("ok", "scripts", "they run")


def _fence_remarks(looker: Looker) -> Iterator[Remark]:
    keys = looker.keys
    fence, known, noted = looker.replies(
        ("GET", keys.fence), ("HMGET", keys.intents, "fence", "opens"), ("HLEN", keys.intents)
    )
    failed = next((each for each in (fence, known, noted) if isinstance(each, Exception)), None)
    if failed is not None:
        yield Remark("problem", "cache", f"its keys cannot be read: {failed}", "look at them, or clear them")
    elif fence is None:
        yield Remark("note", "cache", "no process uses this cache now", "name another with --name?")
    elif fence != known[0]:
        yield Remark("note", "cache", "its intents were lost a moment ago, and with them every value")
    else:
        yield Remark(
            "ok", "cache", f"processes use it; {max(noted - FIELDS, 0):,} intents and ends are noted"
        )


def _replicas(info: Mapping[str, str]) -> Iterator[str]:
    return (value for name, value in info.items() if re.fullmatch(r"slave\d+", name))


def _number(info: Mapping[str, str], name: str) -> int:
    value = info.get(name, "")
    return int(value) if value.isdigit() else 0
