"""UP101: a statement repeated from one line within one request, the N+1.

Two things make one. A relationship is loaded lazily for several objects of one cohort, the objects that came
from one result: then the query that loaded them could have loaded the relationship too. Or the same SELECT is
sent again and again from one line, as `session.get()` in a loop does.

An object that was loaded alone is no N+1, for there was nobody to load it with; except where it is alone
because its own parent was loaded by an N+1, whose cure makes them a cohort.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import islice
from math import ceil
from typing import TYPE_CHECKING

from upshift.diagnose.eager_loading import EagerLoad, LoadPaths
from upshift.diagnose.finding import Finding, Severity
from upshift.diagnose.loops import loop_of
from upshift.diagnose.places import place_of
from upshift.sql import SCHEDULE, Digests, normalise

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from upshift.diagnose.observation import Observation
    from upshift.record import CallSite, LazyLoad, ObjectLoad, Record, Statement

CODE = "UP101"

MAX_QUERIES = 3
"""Queries that a fix names, and lines of each."""

_ALONE = 2  # the length of a path that begins with the query's own objects


@dataclass(slots=True)
class _Repetition:
    """One cause, over all requests in which it was seen."""

    sql: str
    lazy_load: LazyLoad | None
    object_load: ObjectLoad | None
    routes: set[str] = field(default_factory=set)
    other_sites: set[CallSite] = field(default_factory=set)
    eager_loads: dict[EagerLoad, None] = field(default_factory=dict)
    requests: int = 0
    most: int = 0
    most_seconds: float = 0.0

    def add(self, record: Record, statements: list[Statement]) -> None:
        self.routes.add(record.operation)
        self.requests += 1
        seconds = sum(statement.seconds for statement in statements)
        if len(statements) > self.most:
            self.most = len(statements)
            self.most_seconds = seconds


def find(observation: Observation) -> Iterator[Finding]:
    """Yield a finding for each cause: a relationship or a statement, and the line it is sent from."""
    fewest = observation.settings.diagnose.repeated_statements
    causes: dict[tuple[str, CallSite], _Repetition] = {}
    for record in observation.records:
        paths = LoadPaths(record)
        for (name, site), statements, others in (*_lazy_loads(record), *_repeated_selects(record)):
            if len(statements) >= fewest:
                first = statements[0]
                cause = causes.setdefault(
                    (name, site), _Repetition(first.sql, first.lazy_load, first.object_load)
                )
                cause.add(record, statements)
                cause.other_sites |= others
                cause.eager_loads |= dict.fromkeys(paths.eager_loads(statements))
    for (_, site), cause in causes.items():
        yield _finding(site, cause)


_Group = tuple[tuple[str, "CallSite"], list["Statement"], set["CallSite"]]


def _lazy_loads(record: Record) -> Iterable[_Group]:
    """Group a request's lazy loads by relationship and line, those that belong to an N+1.

    Objects of one cohort may be read on several lines, say in both branches of an `if`. That is one cause,
    told of the line that read most of them.
    """
    by_cohort: dict[tuple[str, int], list[Statement]] = defaultdict(list)
    for statement in record.statements:
        if statement.lazy_load is not None and statement.site is not None:
            by_cohort[statement.lazy_load.relationship, statement.lazy_load.cohort].append(statement)

    groups: dict[tuple[str, CallSite], list[Statement]] = defaultdict(list)
    others: dict[tuple[str, CallSite], set[CallSite]] = defaultdict(set)
    for (relationship, _), statements in by_cohort.items():
        sites = Counter(statement.site for statement in statements if statement.site is not None)
        main = sites.most_common(1)[0][0]
        groups[relationship, main] += statements
        others[relationship, main] |= sites.keys() - {main}

    def has_siblings(statements: list[Statement]) -> bool:
        cohorts = Counter(each.lazy_load.cohort for each in statements if each.lazy_load is not None)
        return max(cohorts.values()) > 1

    guilty = {key for key, statements in groups.items() if has_siblings(statements)}
    while True:
        names = {name for name, _ in guilty}
        more = {key for key in groups if key not in guilty and not names.isdisjoint(_before(groups[key]))}
        if not more:
            break
        guilty |= more
    return [(key, groups[key], others[key]) for key in groups if key in guilty]


def _before(statements: list[Statement]) -> set[str]:
    """Name the relationships through which the objects were loaded whose relationship was read."""
    paths = (each.lazy_load.path for each in statements if each.lazy_load is not None)
    hops = (path[-3] for path in paths if len(path) > _ALONE)
    return {f"{hop.parent.class_.__name__}.{hop.key}" for hop in hops}


def _repeated_selects(record: Record) -> Iterable[_Group]:
    """Group a request's other SELECTs by text and line.

    An eager loader's statements are no repetition: each loads for hundreds of objects. Of objects that a
    commit has expired UP107 tells, and of a loop that always asks for the same UP103.
    """
    groups: dict[tuple[str, CallSite], list[Statement]] = defaultdict(list)
    for statement in record.statements:
        if _is_repeatable(statement) and statement.site is not None:
            groups[statement.sql, statement.site].append(statement)
    by_digest: dict[tuple[str, CallSite], list[Statement]] = defaultdict(list)
    for (sql, site), statements in groups.items():
        digest = normalise(sql)
        if digest[:6].upper() == "SELECT":
            by_digest[digest, site] += statements
    return [(key, statements, set()) for key, statements in by_digest.items() if not _are_alike(statements)]


def _is_repeatable(statement: Statement) -> bool:
    is_expired = statement.object_load is not None and statement.object_load.reason == "expired"
    return statement.lazy_load is None and not statement.is_eager and not is_expired


def _are_alike(statements: list[Statement]) -> bool:
    """Whether all have the same text and the same parameters."""
    prints = {(each.sql, each.fingerprint) for each in statements}
    return len(prints) == 1 and statements[0].fingerprint is not None


def _written(cause: _Repetition, lazy_load: LazyLoad) -> list[str]:
    """Return what to write, and as a comment where."""
    places: dict[str, list[CallSite]] = {}
    for load in cause.eager_loads:
        places.setdefault(load.code, []).extend([load.site] if load.site else [])
    if not places:  # of objects that no query loaded
        model = lazy_load.relationship.partition(".")[0]
        return [EagerLoad(model, f"selectinload({lazy_load.relationship})").code]
    return [_with_places(code, sites) for code, sites in islice(places.items(), MAX_QUERIES)]


def _with_places(code: str, sites: list[CallSite]) -> str:
    named = sorted({place_of(each) for each in sites})
    return f"{code}  # at {', '.join(named[:MAX_QUERIES])}" if named else code


def _finding(site: CallSite, cause: _Repetition) -> Finding:
    lazy_load = cause.lazy_load
    milliseconds = cause.most_seconds * 1e3
    after = ceil(cause.most / SCHEDULE[-1])
    fix: tuple[str, ...]
    if lazy_load is None:
        loop = loop_of(cause.sql, cause.object_load)
        title = f"{loop.what} {cause.most} times in one request"
        fix = loop.fix
    else:
        title = f"N+1 on {lazy_load.relationship}: {cause.most} statements in one request"
        fix = (
            *_written(cause, lazy_load),
            "or Upshift(app, engine=engine, batching=True), or UPSHIFT_BATCHING=true",
        )
    times = "one request" if cause.requests == 1 else f"{cause.requests} requests"
    evidence = [f"in {times}, at most {cause.most} statements of {milliseconds:.1f} ms together"]
    evidence.append(normalise(cause.sql))
    return Finding(
        code=CODE,
        severity=Severity.ERROR,
        title=title,
        site=site,
        also=tuple(sorted(cause.other_sites)),
        routes=tuple(sorted(cause.routes)),
        evidence=tuple(evidence),
        fix=fix,
        expect=f"{cause.most} statements, {milliseconds:.0f} ms together → {after} in one request",
        data={
            "digest": None if lazy_load else Digests().of(cause.sql).id,
            "relationship": lazy_load.relationship if lazy_load else None,
            "statements": cause.most,
            "statements_after": after,
            "seconds": cause.most_seconds,
            "requests": cause.requests,
        },
    )
