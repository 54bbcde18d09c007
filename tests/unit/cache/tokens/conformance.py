"""What every carrier does, as a state machine that runs one beside the plainest thing that could be right."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

INTENT_SECONDS = 60.0
TAGS = st.sampled_from(["product", "user", "order:7"])
SOME_TAGS = st.lists(TAGS, min_size=1, max_size=3, unique=True)
TRANSACTIONS = st.sampled_from(["a", "b", "c"])


class CarrierMachine(RuleBasedStateMachine):
    """A subclass makes views of the same tokens, one or two, and lets time pass."""

    def __init__(self):
        super().__init__()
        self.now = 0.0
        self.intents: dict[str, dict[str, float]] = {}
        self.renewals: dict[str, int] = {}
        self.stamps: list[tuple[object, dict[str, int]]] = []
        self.views = self.make_views()

    def make_views(self) -> list:
        raise NotImplementedError

    def pass_time(self, seconds: float) -> None:
        raise NotImplementedError

    def is_gone(self, tag: str) -> bool:
        return any(ends > self.now for ends in self.intents.get(tag, {}).values())

    @rule(tags=SOME_TAGS, view=st.integers(0, 1))
    def stamp(self, tags, view):
        stamp = self.views[view % len(self.views)].stamp(tags)

        assert (stamp is None) == any(map(self.is_gone, tags))
        if stamp is not None:
            self.stamps.append((stamp, {tag: self.renewals.get(tag, 0) for tag in tags}))

    @rule(tags=SOME_TAGS, transaction=TRANSACTIONS, view=st.integers(0, 1))
    def announce(self, tags, transaction, view):
        self.views[view % len(self.views)].announce(tags, transaction)
        for tag in tags:
            self.intents.setdefault(tag, {})[transaction] = self.now + INTENT_SECONDS
            self.renewals[tag] = self.renewals.get(tag, 0) + 1

    @rule(tags=SOME_TAGS, transaction=TRANSACTIONS, view=st.integers(0, 1))
    def settle(self, tags, transaction, view):
        self.views[view % len(self.views)].settle(tags, transaction)
        for tag in tags:
            self.intents.get(tag, {}).pop(transaction, None)

    @precondition(lambda self: self.intents)
    @rule(seconds=st.sampled_from([1.0, 30.0, 61.0]))
    def wait(self, seconds):
        self.now += seconds
        self.pass_time(seconds)

    @invariant()
    def a_stamp_holds_until_one_of_its_tags_is_announced(self):
        for stamp, renewals in self.stamps:
            is_current = all(self.renewals.get(tag, 0) == count for tag, count in renewals.items())
            for view in self.views:
                assert view.holds(stamp) == is_current
