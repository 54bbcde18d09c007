"""Runs one mode, and prints what came of it as JSON: `python -m tests.chaos.cache page --reads 100000`."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from sqlalchemy import create_engine

from upshift.testing.servers import postgres

from .conductor import Conductor
from .modes import MODES
from .shop import fill
from .valkey_server import valkey


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.cache", description=__doc__)
    parser.add_argument("mode", choices=MODES)
    parser.add_argument(
        "--database", default="", help="the URL of an empty PostgreSQL; one is started if none"
    )
    parser.add_argument("--reads", type=int, default=100_000, help="how many there are at least")
    parser.add_argument(
        "--rounds", type=int, default=1, help="how often each trouble comes; 0 for a few of them, once"
    )
    parser.add_argument("--mutant", default="", help="what is to be broken")
    parser.add_argument("--peer", default="", help="the adapter of another library, in its place")
    parser.add_argument("--until-violated", action="store_true", help="end with the first violation")
    given = parser.parse_args()
    mode = MODES[given.mode]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="upshift-chaos-", dir="/tmp")))
        database = given.database or stack.enter_context(postgres()).url(driver="psycopg")
        redis = stack.enter_context(valkey(folder)) if mode.has_redis else None
        engine = create_engine(database)
        fill(engine)
        engine.dispose()
        troubles = [*mode.troubles] * given.rounds or mode.few
        url = "" if redis is None else redis.tcp_url if given.peer else redis.url
        plan = mode.plan(database, url, folder, given.mutant, given.peer)
        outcome = Conductor(plan, mode.workers, redis).run(
            troubles, given.reads, until_violated=given.until_violated
        )
    json.dump(outcome._asdict(), sys.stdout, indent=1)


if __name__ == "__main__":
    main()
