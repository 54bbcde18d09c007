"""Runs one benchmark by name, or all of them, and keeps the results of a full run.

`make bench BENCH=capture` prints the lines of one. `make bench` runs all, one after the other, and writes
their lines with machine, date and versions to `benchmarks/results/`.
"""

import datetime as dt
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
FILES = {
    "advisor": "advisor.py",
    "batching": "batching.py",
    "cache": "cache.py",
    "cache_outage": "cache_outage.py",
    "cache_redis": "cache_redis.py",
    "capture": "capture.py",
    "codec": "codec.py",
    "fetch_plans": "fetch_plans.py",
    "generator": "generator.py",
    "hit_ratio": "hit_ratio.py",
    "logging": "logging_lines.py",  # the name alone is the standard library's
    "memory": "memory.py",
    "observe": "observe.py",
    "pool": "pool.py",
    "responses": "responses.py",
    "scrape": "scrape.py",
    "writes": "writes.py",
    "stale": "stale.py",
}


def run(name: str) -> tuple[str, int]:
    finished = subprocess.run(
        [sys.executable, str(HERE / FILES[name])], stdout=subprocess.PIPE, text=True, check=False
    )
    sys.stdout.write(finished.stdout)
    sys.stdout.flush()
    return finished.stdout, finished.returncode


def main() -> int:
    if sys.argv[1:]:
        name = sys.argv[1]
        if name not in FILES:
            sys.exit(f"there is no benchmark {name!r}; there are {', '.join(FILES)}")
        return run(name)[1]
    date = dt.datetime.now(tz=dt.UTC).date().isoformat()
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}"
    worst = 0
    results = []
    for name in FILES:
        printed, status = run(name)
        results += [json.loads(line) for line in printed.splitlines()]
        worst = max(worst, status)
    folder = HERE / "results"
    folder.mkdir(exist_ok=True)
    document = {"date": date, "machine": machine, "python": platform.python_version(), "results": results}
    (folder / f"{date}.json").write_text(json.dumps(document, indent=1) + "\n")
    return worst


if __name__ == "__main__":
    sys.exit(main())
