"""What is run: who shares what, and what happens to it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from .conductor import PROCESS_TROUBLES, REDIS_TROUBLES
from .subject import Setting
from .worker import Plan

LEASE = 2.0
"""Seconds of the leased mode."""

LONGEST_WAIT = 4.0
"""Seconds for which a commit that Redis cannot be told of can be seen before it returns, and some more."""


class Mode(NamedTuple):
    """One way to share a cache.

    Attributes:
        workers: how many processes there are.
        troubles: what happens, each once a round.
        few: what happens where there is little time.
        has_page: whether they share a page.
        has_redis: whether they share a Valkey.
        lease: seconds for which a value is served without a look.
    """

    workers: int
    troubles: tuple[str, ...]
    few: tuple[str, ...]
    has_page: bool = False
    has_redis: bool = False
    lease: float = 0.0

    def plan(self, database: str, redis: str, folder: Path, mutant: str = "", peer: str = "") -> Plan:
        """Return what the workers are told."""
        page = str(folder / "page") if self.has_page else ""
        setting = Setting(database, redis, page, self.lease, mutant, peer)
        if peer:
            return Plan(setting, "tests.chaos.cache.peers", folder, is_cut_short=False)
        if not self.has_redis:
            # What is broken is found the sooner the more is written.
            return Plan(setting, "tests.chaos.cache.ours", folder, pause=0.005 if mutant else 0.03)
        # A read takes longer, so there are more at a time, and less is written meanwhile.
        bound = self.lease + LONGEST_WAIT
        return Plan(setting, "tests.chaos.cache.ours", folder, pause=0.2, tasks=16, seen_bound=bound)


MODES = {
    "process": Mode(1, PROCESS_TROUBLES, ("stop_committing", "kill", "terminate")),
    "page": Mode(
        3, PROCESS_TROUBLES, ("stop_committing", "stop", "kill_committing", "terminate"), has_page=True
    ),
    "redis": Mode(
        3,
        PROCESS_TROUBLES + REDIS_TROUBLES,
        ("kill_committing", "hang", "hang_long", "empty", "restart"),
        has_redis=True,
    ),
    "broken": Mode(3, ("kill_committing", "stop_committing"), (), has_page=True),
    "peers": Mode(3, PROCESS_TROUBLES, PROCESS_TROUBLES, has_redis=True),
    "leased": Mode(
        3,
        PROCESS_TROUBLES + REDIS_TROUBLES,
        ("stop_committing", "hang", "kill"),
        has_redis=True,
        lease=LEASE,
    ),
}
