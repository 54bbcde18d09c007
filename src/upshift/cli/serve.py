"""`upshift serve`: serves an application with Upshift around it, without a change to its code."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import TYPE_CHECKING

import click

from upshift.application import Upshift
from upshift.cache import Cache
from upshift.cli.boot import find_engines, load_application
from upshift.cli.ending import Unhurried
from upshift.errors import MissingExtraError

if TYPE_CHECKING:
    from upshift.settings import Arguments


@click.command()
@click.argument("target", metavar="MODULE:APP")
@click.option("--app-dir", default=".", show_default=True, help="Folder put first on the import path.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535))
@click.option("--batching/--no-batching", default=None, help="Answer lazy loads by cohort.")
@click.option("--compression/--no-compression", default=None, help="Compress responses.")
@click.option(
    "--responses",
    metavar="PATTERN",
    multiple=True,
    help="Store the responses of paths, such as '/products*'; any number of times.",
)
@click.option(
    "--cache-page",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File by which processes of this host tell each other what they write.",
)
@click.option("--log-level", default="info", show_default=True, help="uvicorn's.")
def serve(
    target: str,
    app_dir: str,
    host: str,
    port: int,
    batching: bool | None,
    compression: bool | None,
    responses: tuple[str, ...],
    cache_page: Path | None,
    log_level: str,
) -> None:
    """Serve an application with Upshift around it, as `Upshift(app, …)` in its code would.

    The engines are those that exist once the application is imported. What is loaded by then is kept from the
    garbage collector, so that its pauses are short.
    """
    try:
        import uvicorn
    except ImportError as error:
        raise MissingExtraError("serving", "demo") from error
    app = load_application(target, app_dir)
    arguments: Arguments = {}
    if batching is not None:
        arguments["batching"] = batching
    if compression is not None:
        arguments["compression"] = compression
    cache = Cache(page=cache_page) if responses else None
    observed = Upshift(app, engine=find_engines(), cache=cache, **arguments)
    for pattern in responses:
        observed.cache.responses(pattern)
    # What has been loaded lives as long as the process. Else each full collection would look at all of it,
    # which with ShopEase took 60 to 100 ms once in a hundred requests, and takes 10 to 20 so.
    gc.collect()
    gc.freeze()
    uvicorn.run(observed, host=host, port=port, log_level=log_level, access_log=False)
    raise Unhurried(0)
