"""What `upshift cache doctor` looks at in a running application and in a database."""

from __future__ import annotations

from typing import TYPE_CHECKING

from upshift.cache.triggers.installed import find_tables
from upshift.cli.cache_remarks import Remark
from upshift.cli.statement_tables import seconds_text
from upshift.diagnose.formats.display import one_line
from upshift.sql.engines import connected

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

    from upshift.cache.document import Document, Namespace
    from upshift.cache.state import CacheState

LEAST_CALLS = 100
"""Calls of a function from which on its figures say something."""

HIT_SECONDS = 1e-6
FILL_SECONDS = 20e-6
"""What a hit in memory takes, and keeping a value beside loading it, where nothing was measured; about."""

MAX_NAMED = 5
"""Names that are listed in one remark."""


def application_remarks(document: Document, redis_seconds: float | None = None) -> Iterator[Remark]:
    """Yield what there is to say of the cache of an application.

    Args:
        document: what it tells.
        redis_seconds: what a look-up in its Redis takes; None where it has none, or nobody knows.
    """
    yield from _place_remarks(document)
    yield from _engine_remarks(document)
    yield from _listener_remarks(document.state)
    for each in document.namespaces:
        yield from namespace_remarks(each, redis_seconds)


def _place_remarks(document: Document) -> Iterator[Remark]:
    state = document.state
    if state.redis is not None:
        redis = state.redis
        found = (
            f"Redis at {redis.server or 'an unknown place'}, as {redis.name!r}; opened {redis.openings} times"
        )
        if redis.is_usable:
            yield Remark("ok", "circuit", f"closed: {found}")
        else:
            advice = "functions run uncached until it answers: `upshift cache doctor --redis URL` from there"
            yield Remark("problem", "circuit", f"open: {found}: {redis.reason}", advice)
        if redis.malformed:
            advice = (
                "look at what else writes there, and give it another name=; versions may differ in a rollout"
            )
            yield Remark("warning", "values", f"{redis.malformed:,} in Redis could not be read", advice)
    elif document.has_workers and state.place == "process":
        advice = "give them a page, Cache(page='/run/shop/cache.page'), or a Redis"
        found = "several workers, each with a cache of its own: none sees what the others write"
        yield Remark("problem", "workers", found, advice)
    else:
        yield Remark("ok", "tokens", f"in the page {state.page}" if state.page else "in the one process")
    if state.faults:
        advice = "use another file for each server; a process that is stopped in it holds the others up"
        yield Remark("warning", "page", f"{state.faults:,} times it could not be locked or was full", advice)


def _engine_remarks(document: Document) -> Iterator[Remark]:
    watched, unwatched = document.state.watched, document.unwatched or ()
    if not watched:
        advice = (
            "give Upshift the engines (engine=), or call cache.watch: what is read is not known otherwise"
        )
        yield Remark("problem", "engines", "none is watched, so nothing that is written ends a value", advice)
    if unwatched:
        advice = "have them watched, if what they read is cached or what they write is: cache.watch([engine])"
        yield Remark("warning", "engines", f"not watched: {_listed(unwatched)}", advice)
    elif watched:
        yield Remark("ok", "engines", f"watched: {_listed(watched)}")


def _listener_remarks(state: CacheState) -> Iterator[Remark]:
    if not state.listeners:
        advice = "if others write too: `upshift cache install-triggers`, and cache.listen(engine)"
        yield Remark("note", "writers", "those outside of the application are not heard of", advice)
    for each in state.listeners:
        found = f"{each.heard:,} notifications of {each.database}, {each.faults:,} faults"
        if each.is_listening:
            yield Remark("ok", "writers", f"heard: {found}")
        else:
            advice = "reach the database without a pooler; nothing that was read from one is served meanwhile"
            yield Remark("problem", "writers", f"not heard: {found}", advice)


def namespace_remarks(each: Namespace, redis_seconds: float | None = None) -> Iterator[Remark]:
    """Yield what there is to say of one function or path."""
    if each.stale_served:
        found = f"{each.stale_served:,} of {each.audited:,} audited hits had served a stale value"
        yield Remark("problem", each.name, found, "the log of `upshift.cache` names what was forgotten")
    if each.refused and not each.fills:
        reason = max(each.refused, key=each.refused.__getitem__)
        found = f"its values are never kept: {reason} ({each.refused[reason]:,} times)"
        yield Remark("warning", each.name, found, advice_for(reason))
        return
    if each.calls < LEAST_CALLS:
        return
    if each.evictions > each.fills / 2:
        found = f"{each.evictions:,} of {each.fills:,} values had to make room for others"
        yield Remark("warning", each.name, found, "give the cache more: Cache(max_entries=…, max_bytes=…)")
    yield from _worth_remarks(each, redis_seconds)


def _worth_remarks(each: Namespace, redis_seconds: float | None) -> Iterator[Remark]:
    """Tell where looking and keeping take longer than the loads that are saved."""
    load = each.loads.mean
    if load is None:
        return
    look = each.hit_seconds or redis_seconds or HIT_SECONDS
    saved = each.hit_ratio * load
    spent = look + (1 - each.hit_ratio) * (FILL_SECONDS + (redis_seconds or 0.0))
    if saved < spent:
        found = (
            f"{each.hit_ratio:.0%} of {each.calls:,} calls are hits, and a load takes {seconds_text(load)}:"
            f" that saves {seconds_text(saved)} a call and costs {seconds_text(spent)}"
        )
        why = (
            "it is written as often as read" if each.stale_prevented > each.hits else "its keys seldom repeat"
        )
        yield Remark("warning", each.name, found, f"leave it uncached, as {why}, or cache a larger piece")


def advice_for(reason: str) -> str:
    """Return what to do about values that are not kept for a reason.

    Example:
        >>> advice_for("its transaction writes")
        'read in a session of its own, which has not written'
    """
    for part, advice in _ADVICE.items():
        if part in reason:
            return advice
    return "see what docs/cache.md says of it"


_ADVICE = {
    "its transaction writes": "read in a session of its own, which has not written",
    "snapshot may be older": "begin the transaction within the function, or read at READ COMMITTED",
    "cannot be understood": "write it with SQLAlchemy, or tell its tables by tags= and a view",
    "replica": "read it from the primary: a replica may not have yet what has been committed",
    "is being written": "nothing, if it passes; else a transaction stays open for long after it has written",
    "written meanwhile": "cache a smaller piece, or read rows by primary key: what it reads is written often",
    "would not come back": "annotate what it returns, with builtins, dataclasses, Structs or models",
    "takes": "cache less at a time",
    "no engine that the cache watches": "have its engine watched: cache.watch([engine])",
    "Set-Cookie": "leave the cookie away, or allow it: responses(cookies=True)",
    "stream": "give it a Content-Length, or allow it: responses(streams=True)",
}


def trigger_remarks(engine: Engine) -> Iterator[Remark]:
    """Yield whether the tables of a database tell of what others write.

    Raises:
        DatabaseUnavailableError: it is not there.
    """
    with connected(engine) as connection:
        found = find_tables(connection)
    lacking = [f"{each.table.schema}.{each.table.name}" for each in found if each.state != "installed"]
    if not found:
        yield Remark("note", "triggers", "the database has no tables")
    elif not lacking:
        yield Remark("ok", "triggers", f"{len(found)} tables tell of what is written")
    elif len(lacking) == len(found):
        advice = (
            "if others than the application write: `upshift cache install-triggers`, and cache.listen(engine)"
        )
        yield Remark("note", "triggers", f"none of {len(found)} tables has them", advice)
    else:
        advice = "`upshift cache install-triggers` again, as after each migration"
        yield Remark("warning", "triggers", f"{_listed(lacking)} lack them or have old ones", advice)


def _listed(names: tuple[str, ...] | list[str]) -> str:
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return one_line(", ".join(names[:MAX_NAMED]), 500) + more
