"""A model of tokens in Redis, which may go away, come back, and forget; in every interleaving.

As in `model`: one value, one entry, one tag. Time is not counted; what takes time happens at any moment that
the protocol's bounds allow. The fence ends only while Redis is away, as some heartbeat keeps it otherwise. A
new one opens when no writer is left that has not announced what it is about to commit: that is what the time
is for in which it is closed.

A read is stale if it is older than a commit that has returned, or whose announced writer was killed after it.
A writer that is killed in an outage, unannounced, has told nobody."""

from __future__ import annotations

from collections import deque
from enum import Enum, IntEnum, auto
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

GONE = -1


class Mutant(Enum):
    """A protocol that is simpler."""

    NONE = auto()
    NO_FENCE = auto()
    NO_WAIT = auto()
    NEVER_CLOSED = auto()
    RUN_IS_NOT_TOLD = auto()
    SETTLES_ONLY_INTENTS = auto()


class Step(IntEnum):
    """Where a writer stands."""

    OPEN = auto()
    ANNOUNCED = auto()
    UNTOLD = auto()
    COMMITTED = auto()
    COMMITTED_UNTOLD = auto()
    OWES = auto()  # it has returned, and its intent is there
    OVER = auto()


IN_FLIGHT = frozenset({Step.ANNOUNCED, Step.UNTOLD, Step.COMMITTED, Step.COMMITTED_UNTOLD})


class Reader(NamedTuple):
    reads_left: int
    step: str = "idle"  # idle, stamped, loaded
    stamp: tuple[int, int] | None = None
    value: int = 0


class State(NamedTuple):
    database: int
    returned: int  # the newest commit that somebody knows of
    outages_left: int
    is_up: bool
    fence: int | None
    is_closed: bool
    tag: int | None
    intents: frozenset[int]
    entry: tuple[int, tuple[int, int]] | None  # value, and the fence and token of its stamp
    writers: tuple[tuple[Step, int], ...]  # and the version that it has written
    readers: tuple[Reader, ...]


class Checked(NamedTuple):
    states: int
    schedule: tuple[str, ...] | None  # one that ends with a stale read


def check(mutant: Mutant, *, writers: int, readers: int, reads: int, outages: int = 1) -> Checked:
    """Walk every reachable state until a read is stale."""
    start = State(
        0, 0, outages, True, 1, False, None, frozenset(), None,
        ((Step.OPEN, 0),) * writers, (Reader(reads),) * readers,
    )  # fmt: skip
    before: dict[State, tuple[State, str] | None] = {start: None}
    waiting = deque([start])
    while waiting:
        state = waiting.popleft()
        for name, after, served in _steps(state, mutant):
            if served is not None and served < state.returned:
                return Checked(len(before), (*_schedule(before, state), name))
            reached = _renamed(after)
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
    for number, (step, version) in enumerate(state.writers):
        for name, after in _writer(state, number, step, version, mutant):
            yield f"writer {number} {name}", after, None
    for number, reader in enumerate(state.readers):
        yield from _reader(state, number, reader, mutant)
    for name, after in _world(state, mutant):
        yield name, after, None


def _world(state: State, mutant: Mutant) -> Iterator[tuple[str, State]]:  # noqa: C901 - one branch a step
    new = _new(state)
    if state.is_up and state.outages_left:
        yield "Redis goes away", state._replace(is_up=False, outages_left=state.outages_left - 1)
    if not state.is_up and state.fence is not None:
        yield "the fence ends", state._replace(fence=None)
    if not state.is_up:
        back = state._replace(is_up=True)
        if state.fence is None:
            back = back._replace(fence=new, is_closed=mutant is not Mutant.NEVER_CLOSED)
        yield "Redis comes back", back
        lost = state._replace(is_up=True, intents=frozenset(), tag=None)
        if mutant is not Mutant.RUN_IS_NOT_TOLD or state.fence is None:
            lost = lost._replace(fence=new, is_closed=mutant is not Mutant.NEVER_CLOSED)
        yield "Redis comes back and has forgotten tokens and intents", lost
        if state.tag == GONE and state.entry is not None:  # a replica that was behind
            behind = lost._replace(tag=state.entry[1][1])
            yield "a replica takes over that is behind", behind
    if state.is_closed and not any(
        step in IN_FLIGHT and number not in state.intents for number, (step, _) in enumerate(state.writers)
    ):
        yield "the new fence opens", state._replace(is_closed=False)
    if state.is_up and state.tag is not None and state.tag != GONE:
        yield "the tag is evicted", state._replace(tag=None)
    for number in state.intents:
        if state.is_up and state.writers[number][0] is Step.OVER:
            yield f"the intent of writer {number} ends", _without_intent(state, number)


def _writer(  # noqa: C901 - one branch a step
    state: State, number: int, step: Step, version: int, mutant: Mutant
) -> Iterator[tuple[str, State]]:
    def at(after: State, step: Step, version: int = version) -> State:
        writers = list(after.writers)
        writers[number] = (step, version)
        return after._replace(writers=tuple(writers))

    def returns(after: State, step: Step = Step.OVER) -> State:
        return at(after._replace(returned=max(after.returned, version)), step)

    announced = state._replace(tag=GONE, intents=state.intents | {number})
    committed = state._replace(database=state.database + 1)
    match step:
        case Step.OPEN:
            if state.is_up:
                yield "announces", at(announced, Step.ANNOUNCED)
                yield "announces, and is not told so", at(announced, Step.UNTOLD)
            yield "cannot announce", at(state, Step.UNTOLD)
        case Step.ANNOUNCED | Step.UNTOLD:
            after = Step.COMMITTED if step is Step.ANNOUNCED else Step.COMMITTED_UNTOLD
            yield "commits", at(committed, after, state.database + 1)
            yield "dies", at(state, Step.OVER)
            if state.is_up and (step is Step.UNTOLD or number not in state.intents):
                yield "announces again", at(announced, Step.ANNOUNCED)
        case Step.COMMITTED | Step.COMMITTED_UNTOLD if state.is_up:
            yield "settles and returns", returns(_settled(state, number, mutant))
            if step is Step.COMMITTED:
                yield "dies after COMMIT", returns(state)
                if number not in state.intents:
                    yield "announces again", at(announced, step)
        case Step.COMMITTED:
            yield "returns, and owes that it is over", returns(state, Step.OWES)
        case Step.COMMITTED_UNTOLD if state.fence is None or mutant is Mutant.NO_WAIT:
            yield "returns unannounced", returns(state)
        case Step.OWES if state.is_up:
            yield "tells that it is over", at(_settled(state, number, mutant), Step.OVER)
        case _:
            pass
    if step is Step.COMMITTED_UNTOLD and state.is_up and state.is_closed:
        yield "returns unannounced, not knowing that Redis is back", returns(state)


def _settled(state: State, number: int, mutant: Mutant) -> State:
    if number in state.intents:
        return _without_intent(state, number)
    if mutant is Mutant.SETTLES_ONLY_INTENTS:
        return state
    return state._replace(tag=GONE if state.intents else None)


def _without_intent(state: State, number: int) -> State:
    intents = state.intents - {number}
    return state._replace(intents=intents, tag=None if not intents and state.tag == GONE else state.tag)


def _reader(
    state: State, number: int, reader: Reader, mutant: Mutant
) -> Iterator[tuple[str, State, int | None]]:
    def at(after: State, reader: Reader) -> State:
        readers = list(after.readers)
        readers[number] = reader
        return after._replace(readers=tuple(readers))

    name = f"reader {number}"
    done = Reader(reader.reads_left - 1)
    match reader.step:
        case "idle" if reader.reads_left and state.is_up:
            entry = state.entry
            if entry is not None and _holds(state, entry[1], mutant):
                yield f"{name} hits", at(state, done), entry[0]
            elif not state.is_closed and state.tag != GONE:
                token = state.tag if state.tag is not None else _new(state)
                stamp = (state.fence or 0, token)
                stamped = reader._replace(step="stamped", stamp=stamp)
                yield f"{name} misses and stamps", at(state._replace(tag=token), stamped), None
        case "stamped":
            yield f"{name} loads", at(state, reader._replace(step="loaded", value=state.database)), None
        case "loaded":
            assert reader.stamp is not None
            yield f"{name} fills", at(state._replace(entry=(reader.value, reader.stamp)), done), None
        case _:
            pass


def _holds(state: State, stamp: tuple[int, int], mutant: Mutant) -> bool:
    return state.tag == stamp[1] and (mutant is Mutant.NO_FENCE or state.fence == stamp[0])


def _numbers(state: State) -> list[int | None]:
    stamps = [state.entry[1] if state.entry else None, *(each.stamp for each in state.readers)]
    return [state.fence, state.tag, *(number for stamp in stamps if stamp for number in stamp)]


def _new(state: State) -> int:
    return max((each for each in _numbers(state) if each is not None), default=0) + 1


def _renamed(state: State) -> State:
    """Name fences and tokens in the order in which they stand: only whether two are the same can matter."""
    names: dict[int | None, int | None] = {None: None, GONE: GONE}
    for number in _numbers(state):
        names.setdefault(number, len(names))

    def renamed(stamp: tuple[int, int] | None) -> tuple[int, int] | None:
        return None if stamp is None else (names[stamp[0]] or 0, names[stamp[1]] or 0)

    return state._replace(
        fence=names[state.fence],
        tag=names[state.tag],
        entry=state.entry and (state.entry[0], renamed(state.entry[1])),
        readers=tuple([each._replace(stamp=renamed(each.stamp)) for each in state.readers]),
    )
