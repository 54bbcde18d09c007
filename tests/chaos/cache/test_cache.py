"""Processes with a cache on a real PostgreSQL and a real Valkey, which are stopped, killed and started again.

Every read has to be at least as new as the last commit that was acknowledged before it began; how that is
judged is told at the top of `board`. `make chaos-cache` has each trouble many times, and a million reads.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .modes import LEASE, MODES

ROOT = Path(__file__).parents[3]
ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "0"))
READS = {"process": 400_000, "page": 400_000, "redis": 100_000, "leased": 200_000}
"""Of `make chaos-cache`."""

FEW = 5_000


def run(mode: str, database: str, *options: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.chaos.cache", mode, "--database", database, *options]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    outcome: dict[str, Any] = json.loads(done.stdout)
    print(json.dumps({"mode": mode} | outcome))  # noqa: T201 - shown with `-s`, as `make chaos-cache` does
    return outcome


@pytest.mark.timeout(3_600 if ROUNDS else 240)
@pytest.mark.parametrize("mode", READS)
def test_no_read_is_older_than_the_last_commit_before_it(mode, postgres_database):
    reads = READS[mode] if ROUNDS else FEW
    outcome = run(mode, postgres_database, "--reads", str(reads), "--rounds", str(ROUNDS))

    assert outcome["faults"] == []
    assert outcome["violations"] == []
    counts = outcome["counts"]
    assert counts["stale"] == counts["regressed"] == counts["dirty"] == 0
    assert outcome["oldest"] <= (LEASE if mode == "leased" else 0.0)
    assert counts["reads"] >= reads
    assert counts["hits"] >= reads // 2
    assert counts["writes"] > 0 < counts["ambiguous"]
    assert outcome["troubles"] == (
        dict.fromkeys(MODES[mode].troubles, ROUNDS) if ROUNDS else dict.fromkeys(MODES[mode].few, 1)
    )


@pytest.mark.parametrize("mutant", ["settles_only", "stamps_late"])
def test_a_cache_that_is_broken_is_found_out(mutant, postgres_database):
    outcome = run(
        "broken", postgres_database, "--mutant", mutant, "--until-violated", "--reads", str(10**9),
        "--rounds", "100",
    )  # fmt: skip

    assert outcome["violations"] != []
