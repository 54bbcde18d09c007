"""`upshift demo`: find, fix and prove, on a real application, without a change to its code."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click
from rich.console import Console

from upshift.cli.demo.agreement import find_agreement
from upshift.cli.demo.databases import open_databases
from upshift.cli.demo.manifest import default_folder, read_manifest
from upshift.cli.demo.observer import observe
from upshift.cli.demo.page import check_place, write_page
from upshift.cli.demo.progress import Progress
from upshift.cli.demo.result import Result, StoredResult, changed_paths
from upshift.cli.demo.serving import keep_serving
from upshift.cli.demo.terminal import show_findings, show_result
from upshift.cli.demo.writing import writing
from upshift.errors import ApplicationLoadError, IndexAdviceError, ProofError
from upshift.load import Request
from upshift.prove import Design, Scenario, Variant, compare
from upshift.sql import IndexAdvice, apply_indexes, engine_for

if TYPE_CHECKING:
    from upshift.cli.demo.agreement import Agreement
    from upshift.cli.demo.databases import Databases
    from upshift.cli.demo.manifest import Manifest
    from upshift.cli.demo.observer import Seen
    from upshift.prove import Comparison

STEPS = 7
STEPS_OF_STORING = 2

DESIGN = Design(requests=100, min_requests=8, rounds=2, warmup=2, budget_seconds=0.4, connections=2)
STORED_DESIGN = Design(requests=160, min_requests=80, rounds=1, warmup=8, budget_seconds=1.5, connections=2)
"""More requests than the first, and in one piece: while the others are asked, the writer ends what is stored,
so that each sample begins with nothing, and asks for each path often enough to be given what it stores.
"""

WRITES_PER_SECOND = 1.0
"""Changes a second while what is stored is proved."""


@click.command()
@click.option(
    "--app",
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with a demo.toml; by default the one that [tool.upshift] in pyproject.toml names.",
)
@click.option("--sqlite", is_flag=True, help="Use SQLite files instead of PostgreSQL.")
@click.option(
    "--pairs",
    default=5,
    show_default=True,
    type=click.IntRange(5, 100),
    help="Pairs of samples to prove with.",
)
@click.option(
    "--report",
    default="upshift-report.html",
    show_default=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where the HTML report is written.",
)
@click.option(
    "--fix",
    "further",
    type=click.Choice(["cache"]),
    multiple=True,
    help="cache: store responses as well, while the data is written to.",
)
@click.option("--exit", "leave", is_flag=True, help="End when done, also at a terminal.")
def demo(
    folder: Path | None, sqlite: bool, pairs: int, report: Path, further: tuple[str, ...], leave: bool
) -> None:
    """Find, fix and prove on a real application: start a database, load it, observe, repair, compare."""
    started = time.monotonic()
    manifest = read_manifest(folder or default_folder())
    check_place(report)
    stores = "cache" in further
    if stores and not (manifest.responses and manifest.write):
        raise ApplicationLoadError(
            f"{manifest.name}'s demo.toml has no responses, or no write, for --fix cache"
        )
    console = Console(highlight=False)
    with Progress(console, STEPS + STEPS_OF_STORING * stores) as progress, ExitStack() as stack:
        progress.begin("starting a database")
        databases = stack.enter_context(open_databases(sqlite=sqlite))
        progress.done(f"{databases.label} is up")
        progress.begin(f"loading {manifest.name}'s data")
        _fill(manifest, databases)
        progress.done(f"{manifest.name}'s data is loaded")
        progress.begin(f"observing {manifest.name} under load")
        before = observe(manifest, databases.before, fixed=False, advise=True)
        progress.done(f"observed {manifest.name} under load")
        show_findings(console, before)
        progress.begin("building the indexes on a copy of the database")
        indexes = _build(databases, before, progress)
        progress.done(f"built {len(indexes)} verified indexes on a copy of the database")
        progress.begin("asking for all answers with batching and compression on")
        after = observe(manifest, databases.after, fixed=True)
        _check_unchanged(before, after)
        progress.done(f"all {len(before.bodies)} answers are unchanged with batching and compression on")
        progress.begin("comparing fresh processes of the application as it is and with the fixes")
        comparison = _prove(manifest, databases, pairs, progress)
        progress.done("proved by interleaved comparison of fresh processes")
        stored = _store(manifest, databases, pairs, before, progress) if stores else None
        result = Result(
            manifest=manifest,
            database=databases.label,
            before=before,
            after=after,
            indexes=indexes,
            comparison=comparison,
            stored=stored,
            seconds=time.monotonic() - started,
        )
        show_result(console, result)
        progress.begin("writing the report")
        write_page(report, result)
        progress.done(f"report written to {report}")
        if sys.stdout.isatty() and not leave:
            _keep_serving(manifest, databases, console)


def _fill(manifest: Manifest, databases: Databases) -> None:
    finished = subprocess.run(  # noqa: S603 - the module that the manifest names
        [sys.executable, "-m", manifest.load, "--url", databases.before],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([manifest.app_dir, os.environ.get("PYTHONPATH", "")]),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode != 0:
        lines = (finished.stderr or finished.stdout).strip().splitlines() or ["it said nothing"]
        raise ApplicationLoadError(f"{manifest.name}'s data could not be loaded: {lines[-1]}")


def _build(databases: Databases, before: Seen, progress: Progress) -> tuple[str, ...]:
    databases.copy()
    indexes = [IndexAdvice.from_dict(each).index for each in before.advice]
    engine = engine_for(databases.after)
    try:
        outcomes = apply_indexes(engine, indexes, on_progress=progress.part)
    finally:
        engine.dispose()
    failed = [each for each in outcomes if each.did == "failed"]
    if failed:
        raise IndexAdviceError(f"{failed[0].name} could not be built: {failed[0].reason}")
    return tuple(each.create_sql for each in indexes)


def _check_unchanged(before: Seen, after: Seen) -> None:
    changed = changed_paths(before, after)
    if changed:
        raise ProofError(f"the fixes changed the answers to {', '.join(changed)}; nothing is proved")


def _store(
    manifest: Manifest, databases: Databases, pairs: int, before: Seen, progress: Progress
) -> StoredResult:
    """Store the responses, and prove what that adds to the other fixes while the data is written to."""
    with TemporaryDirectory(prefix="upshift-demo-") as folder:
        progress.begin("comparing all answers with stored ones while the data is written to")
        agreement = find_agreement(manifest, databases.after, Path(folder) / "agreement.page")
        _check_agreement(before, agreement)
        progress.done(
            f"stored answers are unchanged: {agreement.compared} compared,"
            f" {agreement.hits} of them stored, during {agreement.writes} writes"
        )
        progress.begin("comparing fresh processes with the fixes, and with responses stored as well")
        page = Path(folder) / "cache.page"
        variable = manifest.database_url_variable
        base = Variant("fixed", _fixed(manifest, "{port}"), {variable: databases.after})
        head = Variant("stored", _stored(manifest, page), {variable: databases.after})
        with writing(manifest, databases.after, page, WRITES_PER_SECOND) as writer:
            comparison = _compare(manifest, databases, base, head, STORED_DESIGN, pairs, progress)
        progress.done(f"proved by interleaved comparison during {writer.writes} writes")
    return StoredResult(agreement, comparison, writer.writes)


def _check_agreement(before: Seen, agreement: Agreement) -> None:
    changed = [path for path, body in agreement.bodies.items() if before.bodies[path] != body]
    if changed or agreement.stale:
        raise ProofError(
            f"stored answers are not what they have to be, for {', '.join([*changed, *agreement.stale])};"
            " nothing is proved"
        )
    missing = sorted(before.bodies.keys() - agreement.bodies.keys())
    if missing:
        raise ProofError(f"no answer was stored for {', '.join(missing)}")


def _prove(manifest: Manifest, databases: Databases, pairs: int, progress: Progress) -> Comparison:
    variable = manifest.database_url_variable
    base = Variant("before", _plain(manifest), {variable: databases.before})
    head = Variant("after", _fixed(manifest, "{port}"), {variable: databases.after})
    return _compare(manifest, databases, base, head, DESIGN, pairs, progress)


def _compare(
    manifest: Manifest,
    databases: Databases,
    base: Variant,
    head: Variant,
    design: Design,
    pairs: int,
    progress: Progress,
) -> Comparison:
    scenarios = [
        Scenario(each.name, [Request("GET", path, {"accept-encoding": "gzip"}) for path in each.paths])
        for each in manifest.endpoint
    ]
    return compare(
        base,
        head,
        scenarios,
        replace(design, pairs=pairs, count_cpu_of=databases.processes),
        on_progress=lambda done, total, what: progress.part(f"{done}/{total} {what}"),
    )


def _plain(manifest: Manifest) -> tuple[str, ...]:
    return (
        *(sys.executable, "-m", "uvicorn", manifest.app, "--app-dir", manifest.app_dir),
        *("--port", "{port}", "--log-level", "warning", "--no-access-log"),
    )


def _fixed(manifest: Manifest, port: str) -> tuple[str, ...]:
    return (
        *(sys.executable, "-m", "upshift", "serve", manifest.app, "--app-dir", manifest.app_dir),
        *("--port", port, "--log-level", "warning", "--batching", "--compression"),
    )


def _stored(manifest: Manifest, page: Path) -> tuple[str, ...]:
    patterns = [word for pattern in manifest.responses for word in ("--responses", pattern)]
    return (*_fixed(manifest, "{port}"), *patterns, "--cache-page", str(page))


def _keep_serving(manifest: Manifest, databases: Databases, console: Console) -> None:
    def tell(url: str) -> None:
        path = manifest.endpoint[0].paths[0]
        console.print(f"\n{manifest.name} is served with the fixes on {url}{path}  (Ctrl-C ends)")

    keep_serving(
        lambda port: _fixed(manifest, str(port)), {manifest.database_url_variable: databases.after}, tell
    )
