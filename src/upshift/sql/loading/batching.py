"""Adaptive batching: a lazy load of one object's relationship answers for its siblings too.

The problem
    Reading `order.customer` in a loop over fifty orders sends fifty statements: the N+1. The cure,
    `selectinload(Order.customer)`, has to be written at the query, far from the loop, and loads for every
    object even when one is read. Here the first reads are ordinary lazy loads; as siblings follow, one
    statement loads the relationship for 8, 64, 500 of them. (The idea has precedents: Ebean's lazy loading
    batches, Goldiloader for ActiveRecord, `FETCH_PEERS` in Django 6.1. Those fetch for all siblings at once.)

The invariant
    *An attribute read with batching has the value that a lazy load at that moment would give it, as far as
    this session can know.* Four things endanger it:

    1. **Filters.** Selecting the parents again with `selectinload` silently drops `with_loader_criteria`,
       and shows one tenant's rows to another. So SQLAlchemy's selectin loader is run directly, with the
       options that the objects themselves were loaded with (`upshift.sql.loading.selectin`), and only objects
       with the same options share a batch.
    2. **Writes.** Between the batch and the read, this session may flush, execute DML, commit or roll back.
       A value fetched for a sibling therefore does not go into the object. It waits in the state's loader
       callables, where SQLAlchemy looks before it loads lazily, and any write of the session throws all
       waiting values away; the read is then an ordinary lazy load. An object that is itself modified,
       expired, detached or merged elsewhere never takes a waiting value. DML may also change a sibling's
       row and not the sibling, by which its lazy load asks: where more than its key says for what, objects
       that are older than the last write are left to lazy loads.
    3. **The identity map.** A lazy many-to-one takes its object from the session without SQL, whatever the
       criteria say. Siblings whose object is there, or whose foreign key is NULL, are left out of the batch.
    4. **Concurrency.** Tasks of `asyncio.gather` may read attributes of one `AsyncSession` at the same time,
       which most drivers refuse. Lazy loads of one session take turns, and a task that waited looks first
       whether the load before it brought its value.

    Objects that a commit expired are read under the same rules (`upshift.sql.loading.refresh`): rows wait in
    place of values.

    What remains is what eager loading has too: another transaction's commit between batch and read is not
    seen. Core DML on `session.connection()` and other sessions' writes count as another transaction's.

What bounds the cost
    The schedule bounds over-fetch: reading one parent of a thousand loads for one. Waiting values make
    reading observable, so each walk knows how many of its values were used, and the next walk from the same
    line starts at the size that fits (`upshift.sql.loading.cohorts`). In the steady state a page takes the
    statements that a hand-written `selectinload` takes.

SQLAlchemy's loaders are private. On a version that the contract tests do not cover nothing is installed:
loads stay lazy, and one warning says so.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakValueDictionary

from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Mapper, Session
from sqlalchemy.orm.base import PASSIVE_NO_RESULT
from sqlalchemy.util.concurrency import in_greenlet

from upshift.record import CallSites
from upshift.sql.loading.ahead import waiting_in
from upshift.sql.loading.cohorts import Experience
from upshift.sql.loading.installing import drop_loaders, may_install
from upshift.sql.loading.preload import SessionLoads, come_meanwhile, is_as_loaded
from upshift.sql.loading.refresh import expired_in, refreshed, wanted_by
from upshift.sql.loading.selectin import BATCH, is_loadable, result_of
from upshift.sql.loading.shadow import Shadow
from upshift.sql.origin import origin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sqlalchemy.engine import Engine, Result
    from sqlalchemy.orm import ORMExecuteState, RelationshipProperty
    from sqlalchemy.orm.state import InstanceState

    _Load = Callable[[SessionLoads, ORMExecuteState, InstanceState[Any]], Result[Any] | None]


logger = logging.getLogger("upshift.sql")


class LateBatchingWarning(UserWarning):
    """On CPython 3.11 batching was asked for after objects had been loaded, so it stays off."""


class Batching:
    """Answers lazy loads of the given engines' sessions by cohort, until it is closed.

    Args:
        engines: the (sync) engines whose sessions it serves.
        call_sites: tells the application's frames from libraries'.
        shadow: load lazily as well, give the application that, and compare.

    Attributes:
        shadow: what was compared; None outside of shadow mode.
        faults: lazy loads that could not be batched because of a fault in Upshift, and were left lazy.
        active: whether it is installed; False on a SQLAlchemy that is not covered, and after `close()`.

    Example:
        >>> from sqlalchemy import create_engine
        >>> batching = Batching([create_engine("sqlite://")])
        >>> batching.active
        True
        >>> batching.close()
    """

    def __init__(
        self, engines: Iterable[Engine], call_sites: CallSites | None = None, *, shadow: bool = False
    ) -> None:
        self.shadow = Shadow() if shadow else None
        self._dialects = frozenset(engine.dialect for engine in engines)
        self._call_sites = call_sites or CallSites()
        self._experience = Experience()
        self._sessions: WeakKeyDictionary[Session, SessionLoads] = WeakKeyDictionary()
        self._refreshing: WeakValueDictionary[int, SessionLoads] = WeakValueDictionary()
        self._listeners: tuple[tuple[type, str, Callable[..., Any]], ...] = (
            (Session, "do_orm_execute", self._on_execute),
            (Session, "before_flush", self._on_write),
            (Session, "after_transaction_end", self._on_end),
            (Mapper, "expire", self._on_expire),
            (Mapper, "pickle", self._on_pickle),
        )
        self.faults = 0
        self.active = may_install("batching stays off", "it", LateBatchingWarning)
        if not self.active:
            return
        for target, name, listener in self._listeners:
            event.listen(target, name, listener, raw=True)

    def close(self) -> None:
        """Leave lazy loading to SQLAlchemy again. Calling it twice does nothing more."""
        if self.active:
            self.active = False
            for target, name, listener in self._listeners:
                event.remove(target, name, listener)
            for loads in list(self._sessions.values()):
                loads.forget()

    def _on_write(self, session: Session, *_detail: object) -> None:
        self._loads_of(session).forget()

    def _on_end(self, session: Session, _transaction: object) -> None:
        loads = self._sessions.get(session)
        if loads is not None:
            loads.forget()

    def _loads_of(self, session: Session) -> SessionLoads:
        loads = self._sessions.get(session)
        if loads is None:
            loads = self._sessions[session] = SessionLoads(self._experience, self.shadow)
        return loads

    def _on_execute(self, execution: ORMExecuteState) -> Result[Any] | None:
        session = execution.session
        if not execution.statement.is_select:
            self._on_write(session)
            return None
        state, load = execution.lazy_loaded_from, self._load
        if state is None:
            state, load = expired_in(execution), self._refresh
        if state is None or not self._serves(execution):
            return None
        loads = self._loads_of(session)
        if in_greenlet():
            return loads.in_turn(
                lambda: self._answer(load, loads, execution, state) or execution.invoke_statement()
            )
        return self._answer(load, loads, execution, state)

    def _serves(self, execution: ORMExecuteState) -> bool:
        session, options = execution.session, execution.execution_options
        # `immediateload` comes this way too, in the middle of building its parents.
        is_lazy = BATCH not in options and "sa_top_level_orm_context" not in options
        # In the middle of a flush nobody can say what a value fetched now will be worth later.
        if not is_lazy or session._flushing:
            return False
        return session.get_bind(**execution.bind_arguments).dialect in self._dialects

    def _answer(
        self, load: _Load, loads: SessionLoads, execution: ORMExecuteState, state: InstanceState[Any]
    ) -> Result[Any] | None:
        if state in loads.plain:
            return None
        if execution.load_options._autoflush:
            # A lazy load flushes before it reads. Flushing now lets the batch be chosen among what is left.
            execution.session._autoflush()
        try:
            return load(loads, execution, state)
        except SQLAlchemyError:
            raise  # the database's answer, which a lazy load would have had as well
        except Exception:
            self.faults += 1
            if self.faults == 1:
                logger.exception("upshift could not batch a lazy load; it and others like it load lazily")
            return None

    def _load(
        self, loads: SessionLoads, execution: ORMExecuteState, state: InstanceState[Any]
    ) -> Result[Any] | None:
        session = execution.session
        path: Any = execution.loader_strategy_path
        relationship: RelationshipProperty[Any] = path.prop
        value = come_meanwhile(session, state, relationship)
        if value is PASSIVE_NO_RESULT and is_as_loaded(state, relationship.key) and is_loadable(relationship):
            walk = loads.walk(session, state, path, lambda: origin(self._call_sites, sys._getframe(4)))
            value = loads.load(session, state, path, walk, autoflush=execution.load_options._autoflush)
        if value is PASSIVE_NO_RESULT:
            return None
        values = value if relationship.uselist else () if value is None else (value,)
        if self.shadow is None:
            return result_of(values)
        lazy = execution.invoke_statement().freeze()
        self.shadow.compare(state, relationship, list(lazy().unique().scalars()), list(values))
        return lazy()

    def _refresh(
        self, loads: SessionLoads, execution: ORMExecuteState, state: InstanceState[Any]
    ) -> Result[Any] | None:
        if not state.expired:  # it was refreshed while this waited for its turn
            return result_of((state.obj(),))
        session, names = execution.session, wanted_by(execution, state)
        self._refreshing[session.hash_key] = loads
        row = loads.refresh(session, state, names, lambda: origin(self._call_sites, sys._getframe(4)))
        if row is None:
            return None
        if self.shadow is None:
            return refreshed(state, row, names)
        lazy = execution.invoke_statement().freeze()
        instances = lazy().unique().all()
        self.shadow.compare_row(state, row)
        return lazy() if instances else None

    def _on_expire(self, state: InstanceState[Any], attributes: Iterable[str] | None) -> None:
        if self._refreshing and state.session_id is not None:
            loads = self._refreshing.pop(state.session_id, None)
            if loads is not None:
                loads.forget_refreshes()
        if attributes is not None:  # else SQLAlchemy has removed all loaders itself
            # Whatever waits, as it may have been loaded by one of these attributes, such as a foreign key.
            for name in tuple(state.callables):
                walk = waiting_in(state, name)
                if walk is not None:
                    walk.discard(state)

    def _on_pickle(self, state: InstanceState[Any], pickled: dict[str, Any]) -> None:
        drop_loaders(pickled, lambda key: waiting_in(state, key) is not None)
