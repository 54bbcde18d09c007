"""A model of the protocol, small enough to be looked at in every interleaving.

One value in the database, one entry in the cache, one tag. Writers add a version; readers look into the
cache, and load and fill on a miss. Anything may be evicted, any writer may die at any step or not learn
what became of its commit. A step is what is atomic in the real carriers. The checker walks every reachable
state, breadth first, so a violation comes with a shortest schedule.

States are tuples. Tokens are numbers, renamed after each step in the order in which they stand in the
state, which is what makes the number of states finite: only whether two tokens are the same can matter."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum, IntEnum, auto
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

GONE = -1
"""The token of a tag that a transaction is about to write to."""


class Mutant(Enum):
    """A protocol that is simpler."""

    NONE = auto()
    NO_INTENTS = auto()
    COUNTER = auto()
    STAMP_AFTER_QUERY = auto()
    SETTLE_WITHOUT_ANNOUNCING = auto()
    SETTLE_WHAT_IS_UNKNOWN = auto()
    DELETE_AFTER_COMMIT = auto()
    DELETE_BEFORE_AND_AFTER = auto()


class Step(IntEnum):  # hashed as a number, many million times
    """Where a writer stands."""

    OPEN = auto()
    ANNOUNCED = auto()
    COMMITTED = auto()
    UNKNOWN = auto()  # COMMIT failed, and it may or may not have happened
    OVER = auto()


class Reader(NamedTuple):
    reads_left: int
    step: str = "idle"  # idle, stamped, loaded
    token: int | None = None
    value: int = 0


class State(NamedTuple):
    database: int
    tag: int | None  # its token; None where it is evicted, or never was there
    intents: frozenset[int]
    entry: tuple[int, int | None] | None  # value and token
    writers: tuple[tuple[Step, bool], ...]  # and, where it does not know, whether it will happen yet
    readers: tuple[Reader, ...]


class Violation(NamedTuple):
    schedule: tuple[str, ...]
    served: int
    committed: int


@dataclass(frozen=True)
class Checked:
    states: int
    violation: Violation | None


def check(mutant: Mutant = Mutant.NONE, *, writers: int = 2, readers: int = 2, reads: int = 2) -> Checked:
    """Walk every reachable state until a read is stale.

    Where none is expected, states that differ only in who is which writer or reader are looked at once. A
    mutant's are all told apart, so that the numbers in its schedule are right.
    """
    start = State(0, None, frozenset(), None, ((Step.OPEN, False),) * writers, (Reader(reads),) * readers)
    before: dict[State, tuple[State, str] | None] = {start: None}
    waiting = deque([start])
    looked_at: set[State] = set()
    while waiting:
        state = waiting.popleft()
        for name, after, served in _steps(state, mutant):
            if served is not None and served < state.database:
                return Checked(
                    len(before), Violation((*_schedule(before, state), name), served, state.database)
                )
            if after in looked_at:  # as it was before it was renamed
                continue
            looked_at.add(after)
            reached = _canonical(_sorted(after) if mutant is Mutant.NONE else after, mutant)
            if reached not in before:
                before[reached] = (state, name)
                waiting.append(reached)
    return Checked(len(before), None)


def _schedule(before: dict[State, tuple[State, str] | None], state: State) -> tuple[str, ...]:
    names: list[str] = []
    while (came := before[state]) is not None:
        state, name = came
        names.append(name)
    return tuple(reversed(names))


def _steps(state: State, mutant: Mutant) -> Iterator[tuple[str, State, int | None]]:
    """Yield every next step: its name, the state after it, and what a read was served if it hit."""
    for number, (step, may_happen) in enumerate(state.writers):
        for name, after in _writer(state, number, step, may_happen, mutant):
            yield f"writer {number} {name}", after, None
    for number, reader in enumerate(state.readers):
        yield from _reader(state, number, reader, mutant)
    if state.entry is not None:
        yield "the entry is evicted", state._replace(entry=None), None
    if state.tag is not None and not state.intents:
        yield "the tag is evicted", state._replace(tag=None), None
    for number in state.intents:
        step, may_happen = state.writers[number]
        # A5: an intent outlasts its transaction's chance to commit.
        if step in {Step.OVER, Step.UNKNOWN, Step.COMMITTED} and not may_happen:
            yield f"the intent of writer {number} ends", _settled(state, number), None


def _writer(
    state: State, number: int, step: Step, may_happen: bool, mutant: Mutant
) -> Iterator[tuple[str, State]]:
    def at(after: State, step: Step, *, may_happen: bool = False) -> State:
        writers = list(after.writers)
        writers[number] = (step, may_happen)
        return after._replace(writers=tuple(writers))

    if may_happen:
        yield "has committed unknown to itself", at(state._replace(database=state.database + 1), step)
        yield "has not committed, unknown to itself", at(state, step)
    match step:
        case Step.OPEN:
            yield "announces", at(_announced(state, number, mutant), Step.ANNOUNCED)
        case Step.ANNOUNCED:
            yield "commits", at(state._replace(database=state.database + 1), Step.COMMITTED)
            yield "rolls back", at(_finished(state, number, mutant), Step.OVER)
            yield "loses its connection in COMMIT", at(state, Step.UNKNOWN, may_happen=True)
            yield "dies", at(state, Step.OVER)
        case Step.COMMITTED:
            yield "settles", at(_finished(state, number, mutant), Step.OVER)
            yield "dies after COMMIT", at(state, Step.OVER)
        case Step.UNKNOWN if mutant is Mutant.SETTLE_WHAT_IS_UNKNOWN:
            yield (
                "settles all the same",
                at(_finished(state, number, mutant), Step.OVER, may_happen=may_happen),
            )
        case _:
            pass


def _announced(state: State, number: int, mutant: Mutant) -> State:
    match mutant:
        case Mutant.SETTLE_WITHOUT_ANNOUNCING | Mutant.DELETE_AFTER_COMMIT:
            return state
        case Mutant.DELETE_BEFORE_AND_AFTER:
            return state._replace(entry=None)
        case Mutant.NO_INTENTS:
            return state._replace(tag=_new_token(state))
        case Mutant.COUNTER:
            return state._replace(tag=(state.tag or 0) + 1, intents=state.intents | {number})
        case _:
            return state._replace(tag=GONE, intents=state.intents | {number})


def _finished(state: State, number: int, mutant: Mutant) -> State:
    match mutant:
        case Mutant.DELETE_AFTER_COMMIT | Mutant.DELETE_BEFORE_AND_AFTER:
            return state._replace(entry=None)
        case Mutant.NO_INTENTS | Mutant.SETTLE_WITHOUT_ANNOUNCING:
            return state._replace(tag=_new_token(state))
        case Mutant.COUNTER:
            return state._replace(tag=(state.tag or 0) + 1, intents=state.intents - {number})
        case _:
            return _settled(state, number)


def _settled(state: State, number: int) -> State:
    intents = state.intents - {number}
    is_last = not intents and number in state.intents
    tag = _new_token(state) if is_last and state.tag == GONE else state.tag
    return state._replace(tag=tag, intents=intents)


def _reader(
    state: State, number: int, reader: Reader, mutant: Mutant
) -> Iterator[tuple[str, State, int | None]]:
    def at(after: State, reader: Reader) -> State:
        readers = list(after.readers)
        readers[number] = reader
        return after._replace(readers=tuple(readers))

    name = f"reader {number}"
    done = Reader(reader.reads_left - 1)
    is_untagged = mutant in {Mutant.DELETE_AFTER_COMMIT, Mutant.DELETE_BEFORE_AND_AFTER}
    match reader.step:
        case "idle" if reader.reads_left:
            state, token = _stamp(state, mutant)
            entry = state.entry
            if entry is not None and (is_untagged or (token is not None and entry[1] == token)):
                yield f"{name} hits", at(state, done), entry[0]
            elif mutant is Mutant.STAMP_AFTER_QUERY:
                yield (
                    f"{name} misses and loads",
                    at(state, reader._replace(step="stamped", value=state.database)),
                    None,
                )
            else:
                yield (
                    f"{name} misses and stamps",
                    at(state, reader._replace(step="stamped", token=token)),
                    None,
                )
        case "stamped" if mutant is Mutant.STAMP_AFTER_QUERY:
            state, token = _stamp(state, mutant)
            yield f"{name} stamps", at(state, reader._replace(step="loaded", token=token)), None
        case "stamped":
            yield f"{name} loads", at(state, reader._replace(step="loaded", value=state.database)), None
        case "loaded":
            if reader.token is None and not is_untagged:
                yield f"{name} keeps nothing", at(state, done), None
            else:
                yield f"{name} fills", at(state._replace(entry=(reader.value, reader.token)), done), None
        case _:
            pass


def _stamp(state: State, mutant: Mutant) -> tuple[State, int | None]:
    """Return the tag's token, making one where the tag is missing; None where it is gone."""
    if mutant is Mutant.COUNTER:
        return state, None if state.intents else state.tag or 0
    if state.tag is None:
        state = state._replace(tag=_new_token(state))
    return state, None if state.tag == GONE else state.tag


def _tokens(state: State) -> list[int]:
    tokens = [state.tag, state.entry[1] if state.entry else None, *(each.token for each in state.readers)]
    return [each for each in tokens if each is not None and each != GONE]


def _new_token(state: State) -> int:
    return max(_tokens(state), default=0) + 1


def _sorted(state: State) -> State:
    writers = sorted(range(len(state.writers)), key=lambda each: _place(state, each))
    return state._replace(
        writers=tuple([state.writers[each] for each in writers]),
        intents=frozenset([now for now, each in enumerate(writers) if each in state.intents]),
        readers=tuple(sorted(state.readers, key=_rank)),
    )


def _place(state: State, writer: int) -> tuple[int, bool, bool]:
    step, may_happen = state.writers[writer]
    return step, may_happen, writer in state.intents


def _rank(reader: Reader) -> tuple[int, str, int, int]:
    return reader.reads_left, reader.step, reader.token or 0, reader.value


def _canonical(state: State, mutant: Mutant) -> State:
    if mutant is Mutant.COUNTER:  # its numbers mean something
        return state
    names: dict[int | None, int | None] = {None: None, GONE: GONE}
    for token in _tokens(state):
        names.setdefault(token, len(names))
    if all(name == token for token, name in names.items()):
        return state
    return state._replace(
        tag=names[state.tag],
        entry=(state.entry[0], names[state.entry[1]]) if state.entry else None,
        readers=tuple(
            [Reader(left, step, names[token], value) for left, step, token, value in state.readers]
        ),
    )
