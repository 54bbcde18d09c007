"""How often a read is older than the last commit that was acknowledged before it began, beside other caches.

    python benchmarks/stale.py

Three processes read and write rows on a PostgreSQL, with each library's cache in a Valkey, used as its
documentation says: a function with a time of a minute, and its key invalidated after the commit, which counts
as acknowledged only when that is done. The processes are stopped and killed meanwhile, the same for all. How
reads are judged is told in `tests/chaos/cache/board.py`; `make chaos-cache` is where ours has to show more.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from report import Case, progress, report

ROOT = Path(__file__).parents[1]
READS = 20_000
ROUNDS = 2
PEERS = {
    "cashews": "of_cashews",
    "aiocache": "of_aiocache",
    "dogpile.cache": "of_dogpile",
    "advanced-alchemy": "of_advanced_alchemy",
}


def stale_reads(adapter: str) -> int:
    """Return how many reads of one library were stale."""
    command = [sys.executable, "-m", "tests.chaos.cache", "peers", "--peer", adapter]
    command += ["--reads", str(READS), "--rounds", str(ROUNDS)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    outcome: dict[str, Any] = json.loads(done.stdout)
    if outcome["faults"]:
        sys.exit(outcome["faults"][0])
    counts: dict[str, int] = outcome["counts"]
    progress(f"{adapter}: {counts['stale']} of {counts['reads']} reads, up to {outcome['oldest']:.3f} s old")
    return counts["stale"]


def compared(ours: int, peer: int, name: str) -> Case:
    # A peer that shows nothing proves nothing of the run.
    ratio = ours / peer if peer else 1.0
    return Case("stale reads", ours, peer, name, 0.0, f"reads of {READS} or more", ratio)


def main() -> int:
    ours = stale_reads("of_upshift")
    cases = [compared(ours, stale_reads(adapter), name) for name, adapter in PEERS.items()]
    return report("stale", cases, ("upshift", *PEERS))


if __name__ == "__main__":
    sys.exit(main())
