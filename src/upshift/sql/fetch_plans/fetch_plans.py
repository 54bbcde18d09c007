"""Learned eager loading: what is read of a statement's objects is fetched together with them the next time.

The problem
    `select(Order)` in one place, `order.customer` and `order.items` in another, `item.product` in a third:
    every route reads a different part of the graph, and each needs other `selectinload` options at the query.
    Nobody keeps them right by hand. What is missing becomes an N+1, and in an asynchronous session an
    exception (`MissingGreenlet`); what is left over is loaded for nothing. Here the application is watched.
    The first request loads lazily, and teaches which relationships are read; the next one has them with the
    statement.

    Ebean's AutoTune did so first, for Java: it profiles by call stack and tunes the query. Laravel 12 and
    Django 6.1 load for all siblings at the first lazy read; Hibernate has batch sizes, which somebody has to
    set. Goldiloader eager-loads for ActiveRecord whatever siblings there are, also for the one that is read
    of a thousand (its issue 60). None of them unlearns, and none can serve a read that must not wait.

The invariant
    *An attribute read with a plan has the value that a lazy load at that moment would give it*, as with
    batching (`upshift.sql.loading.batching`), and it is kept in the same way: at first no loader option is
    added to the statement. An eager load's value is in the object at once, and wrong as soon as the session
    adds to the collection, flushes or commits; it also escapes `raiseload`, and sees objects that lazy loads
    take from the session instead. So the statement is left as it is. When its rows have become objects,
    SQLAlchemy's selectin loader runs for them as it would with the option, and each value waits beside its
    object until it is read. What endangers this:

    1. **Options.** `with_loader_criteria`, `defer` and nested options reach the fetch through the options
       that the objects were loaded with, as they reach a lazy load. An object whose attribute has a loader of
       its own (`raiseload`, `noload`) or is loaded already is left alone. A query may be aliased,
       polymorphic or limited, lock its rows or populate existing objects: what is fetched depends on the
       objects only.
    2. **Writes.** A flush, DML, commit or rollback of the session throws waiting values away, and so does a
       query that locks rows. A modified, expired or detached object takes none. What DML has changed behind a
       session's back is changed in the row and not in the object, by which a lazy load asks: so an object
       that is older than the statement has only fetched what its key says (`fetching`).
    3. **The identity map.** A many-to-one whose object is in the session takes it from there. And what a
       fetch brings is taken out of the session until it is read, or others would meet it there
       (`upshift.sql.fetch_plans.aside`).
    4. **Streams.** With `yield_per` each chunk of rows is fetched for when it arrives; nothing is read ahead.

    Waiting costs a few microseconds for each value. A plan whose values are read as a rule is served by
    options of the statement after all, where these dangers can be ruled out: `upshift.sql.fetch_plans.direct`
    says how.

    There is one place where no lazy value exists to be equal to: a read outside of the greenlet of an
    asynchronous session. It gets what the eager option would have given.

    What remains is what eager loading has too: another transaction's commit between statement and read is not
    seen, and objects that a fetch brings again have their deferred columns filled. And if the fetch itself
    fails in the database, the statement fails, as it would with the option; that part of the plan is given up
    then.

What is learned
    By route, line, class and shape of the statement (`upshift.sql.fetch_plans.plan`): the paths of
    relationships whose lazy loads were repeated among one execution's objects, or failed for want of a
    greenlet, and whether enough of the objects took part. Each lazy load passes through `do_orm_execute`,
    also one that fails there afterwards, and `upshift.sql.fetch_plans.runs` tells which execution its object
    came from. Once a path is fetched no lazy load is seen any more; then the waiting values tell whether they
    are read, all of them, at no cost. A path that is not used is given up, and needs twice the evidence to
    come back.

Tables are bounded: plans, nodes of a plan, and the executions that a session remembers.
"""

from __future__ import annotations

import logging
import sys
from collections import Counter
from functools import partial
from itertools import chain
from operator import attrgetter
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet, ref

from sqlalchemy import event
from sqlalchemy.engine.result import ChunkedIteratorResult
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.orm import Mapper, Session
from sqlalchemy.util.concurrency import in_greenlet

from upshift.record import CallSites
from upshift.record.model import NO_ROUTE
from upshift.sql.fetch_plans.aside import set_aside
from upshift.sql.fetch_plans.changes import is_changed
from upshift.sql.fetch_plans.direct import Held, direct_of, is_new_to, is_plain
from upshift.sql.fetch_plans.fetching import Fetch
from upshift.sql.fetch_plans.learned import learned_plans
from upshift.sql.fetch_plans.plan import OBSERVED, Place, Plans, Tally
from upshift.sql.fetch_plans.reads import Reads
from upshift.sql.fetch_plans.runs import Execution, Run, Runs
from upshift.sql.fetch_plans.waiting import Waiting, waiting_in
from upshift.sql.loading.installing import drop_loaders, may_install
from upshift.sql.loading.selectin import BATCH, new_number
from upshift.sql.origin import origin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextvars import ContextVar

    from sqlalchemy.engine import Dialect, Engine, Result
    from sqlalchemy.orm import ORMExecuteState, RelationshipProperty
    from sqlalchemy.orm.state import InstanceState

    from upshift.record import CallSite, Record
    from upshift.sql.fetch_plans.direct import Direct
    from upshift.sql.fetch_plans.learned import FetchPlan
    from upshift.sql.fetch_plans.plan import Node, Plan

logger = logging.getLogger("upshift.sql")

NO_REQUEST = "(no request)"
"""The operation of statements that no request sent."""


class LateFetchPlansWarning(UserWarning):
    """On CPython 3.11 fetch plans were asked for after objects had been loaded, so they stay off."""


class _Learning:
    """What is known of one session.

    Attributes:
        runs: what its executions brought.
        waiting: the values that wait in its objects; None where nothing was fetched.
        brought: by number of execution, how many objects were set aside.
        held: the values that statements loaded directly.
        record: the request that it was last seen in.
        operation: that request's method and route.
    """

    __slots__ = ("brought", "held", "operation", "record", "runs", "waiting")

    def __init__(self) -> None:
        self.record: Record | None = None
        self.operation = NO_REQUEST
        self.runs = Runs()
        self.waiting: WeakSet[Waiting] | None = None
        self.held: list[Held] = []
        self.brought: Counter[int] = Counter()

    def keep(self, waiting: Waiting) -> None:
        if self.waiting is None:
            self.waiting = WeakSet()
        self.waiting.add(waiting)

    def write(self) -> None:
        waiting, self.waiting = self.waiting, None
        self.brought.clear()
        for each in waiting or ():
            each.write()

    def release(self, session: Session, *, is_write: bool) -> None:
        """Take what was loaded directly and not read out of its objects."""
        held, self.held = self.held, []
        for each in held:
            unread = each.end(session)
            for waiting in each.waiting:
                self.keep(waiting)
            if is_write and unread:
                each.plan.write()
            elif not is_write and each.is_unread():
                each.plan.wait()


class FetchPlans:
    """Learns what is read of the objects of the given engines' sessions, and fetches it with them.

    Args:
        engines: the (sync) engines whose sessions it serves.
        call_sites: tells the application's frames from libraries'.
        current: where the record of the running request is found; nowhere where there are none.
        route_of: tells the route of a record.
        observed: fetches after which a plan whose values are read becomes options of its statement.

    Attributes:
        faults: executions that could not be learned from or fetched for because of a fault in Upshift; they
            ran as they run without it.
        active: whether it is installed; False on a SQLAlchemy that is not covered, and after `close()`.

    Example:
        >>> from sqlalchemy import create_engine
        >>> fetch_plans = FetchPlans([create_engine("sqlite://")])
        >>> fetch_plans.learned()
        ()
        >>> fetch_plans.close()
    """

    def __init__(
        self,
        engines: Iterable[Engine],
        call_sites: CallSites | None = None,
        current: ContextVar[Record | None] | None = None,
        route_of: Callable[[Record], str | None] = attrgetter("route"),
        observed: int = OBSERVED,
    ) -> None:
        self._served = frozenset(engine.dialect for engine in engines)
        self._call_sites = call_sites or CallSites()
        self._current = current
        self._route_of = route_of
        self._plans = Plans(observed)
        self._reads: dict[RelationshipProperty[Any], Reads] = {}
        self._sessions: WeakKeyDictionary[Session, _Learning] = WeakKeyDictionary()
        self._listeners: tuple[tuple[type, str, Callable[..., Any]], ...] = (
            (Session, "do_orm_execute", self._on_execute),
            (Session, "before_flush", self._on_write),
            (Session, "after_transaction_end", self._on_end),
            (Mapper, "expire", self._on_expire),
            (Mapper, "pickle", self._on_pickle),
        )
        self.faults = 0
        self.active = may_install("fetch plans stay off", "they", LateFetchPlansWarning)
        if not self.active:
            return
        for target, name, listener in self._listeners:
            # Before batching, which answers lazy loads: they are to be seen here.
            event.listen(target, name, listener, raw=True, insert=True)

    def close(self) -> None:
        """Leave loading to SQLAlchemy again. Calling it twice does nothing more."""
        if self.active:
            self.active = False
            for target, name, listener in self._listeners:
                event.remove(target, name, listener)
            for session, learning in list(self._sessions.items()):
                learning.release(session, is_write=False)
                for waiting in learning.waiting or ():
                    waiting.end()
            for reads in self._reads.values():
                reads.stop()

    def learned(self) -> tuple[FetchPlan, ...]:
        """Return what is fetched, by route and line."""
        return learned_plans(self._plans)

    def _on_write(self, session: Session, *_detail: object) -> None:
        learning = self._sessions.get(session)
        if learning is not None:
            learning.write()
            learning.release(session, is_write=True)

    def _on_end(self, session: Session, _transaction: object) -> None:
        learning = self._sessions.get(session)
        if learning is not None:
            learning.write()
            learning.release(session, is_write=False)

    def _on_change(self, session: Session | None) -> None:
        learning = self._sessions.get(session) if session is not None else None
        if session is not None and learning is not None:
            learning.release(session, is_write=True)

    def _on_expire(self, state: InstanceState[Any], attributes: Iterable[str] | None) -> None:
        if attributes is not None:  # else SQLAlchemy has removed all loaders itself
            # Also of others: one that is a foreign key may lead elsewhere when it is loaded again.
            for key in tuple(state.callables):
                waiting = waiting_in(state, key)
                if waiting is not None:
                    waiting.discard(state)

    def _on_pickle(self, state: InstanceState[Any], pickled: dict[str, Any]) -> None:
        drop_loaders(pickled, lambda key: waiting_in(state, key) is not None)

    def _on_execute(self, execution: ORMExecuteState) -> Result[Any] | None:
        statement: Any = execution.statement
        if not statement.is_select:
            self._on_write(execution.session)
            return None
        if getattr(statement, "_for_update_arg", None) is not None:
            self._on_write(execution.session)  # who locks wants to see what others wrote before that
        try:
            noted = self._note(execution)
        except Exception as error:  # noqa: BLE001 - logged and counted
            self._count(error)
            return None
        if noted is None:
            return None
        plan, learning = noted
        if plan.direct and not plan.is_waiting_turn():
            loaded = self._load_directly(plan, plan.direct, execution, learning)
            if loaded is not None:
                return loaded
        result = execution.invoke_statement()
        if isinstance(result, ChunkedIteratorResult):
            self._fetch_with(result, plan, execution, learning)
        return result

    def _load_directly(
        self, plan: Plan, direct: Direct, execution: ORMExecuteState, learning: _Learning
    ) -> Result[Any] | None:
        """Execute a statement with the plan as its options, or return None where its values have to wait."""
        session: Session = execution.session
        statement: Any = execution.statement
        if not is_new_to(session, direct) or not is_plain(
            execution, statement._propagate_attrs["plugin_subject"].mapper
        ):
            return None
        number = new_number()
        try:
            result = execution.invoke_statement(
                statement.options(direct.option), execution_options={"prebuffer_rows": True}
            )
        except DBAPIError:
            plan.direct = False
            raise  # the database's answer, which the same options by hand would have had as well
        except Exception as error:  # noqa: BLE001 - logged and counted
            plan.direct = False
            self._count(error)
            return None
        for relationship in direct.watched:
            if relationship not in self._reads:
                self._reads[relationship] = Reads(relationship, self._on_change)
        is_async = session.get_bind(**execution.bind_arguments).dialect.is_async
        held = Held(session, plan, direct, self._reads, numbers=(number, new_number()), is_async=is_async)
        learning.held.append(held)
        if is_changed(session):
            learning.release(session, is_write=True)
        else:
            reference = ref(session)
            held.watch(session, lambda: self._on_change(reference()))
        return result

    def _note(self, execution: ORMExecuteState) -> tuple[Plan, _Learning] | None:
        """Remember an execution, learn from it, and return the plan for what it will bring.

        Each statement of the ORM passes through here, so this counts its function calls.
        """
        statement: Any = execution.statement
        subject = statement._propagate_attrs.get("plugin_subject")
        if subject is None:
            return None
        # They are Core's until SQLAlchemy's ORM has seen the statement once.
        options: Any = getattr(statement, "_compile_options", None)
        path = getattr(options, "_current_path", None)
        is_related = path is not None and bool(path.path)
        session, mapper = execution.session, subject.mapper
        if not is_related and not _leads_on(statement, mapper):
            return None
        learning = self._sessions.get(session)
        if learning is None:
            learning = self._sessions[session] = _Learning()
        if learning.held and (statement._with_options or execution.load_options._populate_existing):
            learning.release(session, is_write=False)  # they may fill what the plan has filled
        dialect = session.get_bind(**execution.bind_arguments).dialect
        if dialect not in self._served or session._flushing:
            learning.runs.begin(None)
        elif is_related:
            learning.runs.begin(self._related(execution, learning, path, dialect))
        elif getattr(options, "_for_refresh_state", False):
            learning.runs.begin(None)
        else:
            site = origin(self._call_sites, sys._getframe(3))
            if site is None:
                learning.runs.begin(None)
                return None
            shape = (
                len(getattr(statement, "_where_criteria", ())),
                len(getattr(statement, "_setup_joins", ())),
                len(statement._with_options),
            )
            place = _new_place((self._operation(learning), site, mapper, shape))
            learning.runs.begin(Run(Execution(place)))
            if mapper in self._plans.roots:
                plan = self._plans.get(place)
                return (plan, learning) if plan is not None else None
        return None

    def _operation(self, learning: _Learning) -> str:
        record = self._current.get() if self._current is not None else None
        if record is None:
            return NO_REQUEST
        if record is not learning.record:  # most sessions serve one request
            learning.record = record
            learning.operation = f"{record.method} {self._route_of(record) or NO_ROUTE}"
        return learning.operation

    def _related(
        self,
        execution: ORMExecuteState,
        learning: _Learning,
        path: Any,  # noqa: ANN401 - untyped
        dialect: Dialect,
    ) -> Run | None:
        """Learn from the load of a relationship, and return the run that it begins."""
        state = execution.lazy_loaded_from
        runs = learning.runs
        if state is None:  # an eager loader's, which tells the way from the statement on
            latest = runs.latest()
            return Run(latest.execution, path.path[1::2]) if latest is not None else None
        before = runs.of(state)
        if before is None:
            return None
        run = Run(before.execution, (*before.path, path.prop))
        options = execution.execution_options
        if BATCH not in options and "sa_top_level_orm_context" not in options:
            self._learn(run, state, execution.session, is_possible=not dialect.is_async or in_greenlet())
        return run

    def _learn(self, run: Run, state: InstanceState[Any], session: Session, *, is_possible: bool) -> None:
        tallies = run.execution.tallies
        tally = tallies.get(run.path)
        if tally is None:
            tally = tallies[run.path] = Tally()
        elif tally.is_wanted:
            return
        tally.reads += 1
        cohort = state.runid or 0
        if cohort not in tally.cohorts and len(tally.cohorts) < Tally.MAX_COHORTS:
            tally.cohorts.add(cohort)
            there = sum(each.runid == cohort for each in session.identity_map.all_states())
            tally.objects += max(there, self._sessions[session].brought[cohort])  # all, also what is aside
        plan = self._plans.at(run.execution.place)
        node = plan.node(run.path)
        if node is None:
            return
        if not is_possible:
            node.fail()
        elif not tally.teach(node):
            return
        for length in range(1, len(run.path)):
            way = run.path[:length]
            above = plan.node(way)
            if above is None or (is_possible and way in tallies):
                continue
            # There is no other way to what failed; what was not loaded lazily is loaded eagerly already.
            above.is_eager = is_possible and not above.is_active
            above.is_worthy = True
        plan.settle()

    def _fetch_with(
        self,
        result: ChunkedIteratorResult[Any],
        plan: Plan,
        execution: ORMExecuteState,
        learning: _Learning,
    ) -> None:
        """Have each chunk of a result fetched for when its rows have become objects."""
        session, root = execution.session, execution.statement._propagate_attrs["plugin_subject"].mapper
        is_async = session.get_bind(**execution.bind_arguments).dialect.is_async
        autoflush = execution.load_options._autoflush
        inner, since = result.chunks, learning.runs.number

        def fetch_of(node: Node) -> Fetch:
            return Fetch(node, session, since, is_async=is_async)

        def fetch(rows: Sequence[Any]) -> None:
            # A lazy load would flush first, and a write meanwhile would make the values out of date.
            is_dirty = session.identity_map._modified or session._new or session._deleted
            if self.active and not session._flushing and not (is_dirty and autoflush):
                roots = _objects(rows, root, are_objects=result._source_supports_scalars)
                if plan.observe() and plan.direct is None:
                    plan.direct = direct_of(root, plan) or False
                self._fetch(plan, roots, session, learning, fetch_of)

        def chunks(size: int | None) -> Iterator[Sequence[Any]]:
            for rows in inner(size):
                fetch(rows)
                yield rows

        if execution.execution_options.get("prebuffer_rows"):
            # They are there, and who reads them is outside of the greenlet in which more can be loaded.
            for rows in inner(None):
                fetch(rows)
            return
        result.chunks = chunks
        result.iterator = chain.from_iterable(chunks(result._yield_per))

    def _fetch(
        self,
        plan: Plan,
        roots: list[Any],
        session: Session,
        learning: _Learning,
        fetch_of: Callable[[Node], Fetch],
    ) -> None:
        """Fetch a plan for the objects of a statement, and set aside what came."""
        number, fetched = new_number(), list[Waiting]()
        try:
            self._fetch_all(plan, roots, fetch_of, fetched)
        finally:
            aside = set_aside(session, number)
            learning.brought.update([state.runid or 0 for state in aside])
            for waiting in fetched:
                waiting.hold_weakly(aside)
                learning.keep(waiting)

    def _fetch_all(
        self, plan: Plan, roots: list[Any], fetch_of: Callable[[Node], Fetch], fetched: list[Waiting]
    ) -> None:
        todo = [(node, roots) for node in plan.children.values()]
        while todo:
            node, objects = todo.pop(0)
            if not objects or not node.is_active:
                continue
            if node.is_out_of_use:
                node.give_up()
                plan.settle()
                continue
            fetch = fetch_of(node)
            try:
                reached = fetch.run(objects)
            except SQLAlchemyError:
                node.give_up()
                plan.settle()
                raise  # the database's answer, which the eager option would have had as well
            except Exception as error:  # noqa: BLE001 - logged and counted
                self._count(error)
                node.give_up()
                plan.settle()
                continue
            if fetch.waiting is not None:
                fetched.append(fetch.waiting)
            todo += ((child, reached) for child in node.children.values())

    def _count(self, fault: Exception) -> None:
        self.faults += 1
        if self.faults == 1:
            logger.error(
                "upshift could not learn what to fetch with a statement; it runs as it is", exc_info=fault
            )


_new_place: Callable[[tuple[str, CallSite, Mapper[Any], tuple[int, ...]]], Place] = partial(
    tuple.__new__, Place
)


def _leads_on(statement: Any, mapper: Mapper[Any]) -> bool:  # noqa: ANN401 - of several classes
    """Tell whether a statement may bring objects that have relationships."""
    if not mapper.relationships and len(mapper.self_and_descendants) == 1:
        return False
    for column in getattr(statement, "_raw_columns", ()):
        if column._is_from_clause:
            return True
    return not hasattr(statement, "_raw_columns")


def _objects(rows: Sequence[Any], root: Mapper[Any], *, are_objects: bool) -> list[Any]:
    """Return the objects that the rows bring of the statement's first entity, each once."""
    every = rows if are_objects else chain.from_iterable(rows)
    return list({id(one): one for one in every if isinstance(one, root.class_)}.values())
