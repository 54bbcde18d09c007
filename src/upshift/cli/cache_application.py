"""`upshift cache stats`: what the cache of a running application has done; and how such a one is asked."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click
import msgspec
from rich.console import Console

from upshift.cache.document import TOP, Choice, Document
from upshift.cli.asking import ask
from upshift.cli.statement_tables import BAD, BOLD, DIM, count_text, seconds_text, show
from upshift.diagnose.formats.display import one_line
from upshift.errors import UpshiftError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from upshift.cache.document import Namespace
    from upshift.cli.statement_tables import Line

PATH = "/upshift/cache"
"""Where an application tells of its cache, unless `cache_path` is another."""

HINT = "nothing tells of a cache there: it has none, or has it told elsewhere (cache_path)"

MAX_REASONS = 3
"""Reasons for not keeping values that are shown of one namespace."""

_INDENT = "  "


@click.command()
@click.argument("url")
@click.option("--top", default=TOP, show_default=True, type=click.IntRange(1, 10_000), help="How many.")
@click.option(
    "--sort",
    default="calls",
    show_default=True,
    type=click.Choice(["calls", "misses", "bytes", "seconds", "name"]),
    help="By what.",
)
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
def stats(url: str, *, top: int, sort: str, form: str) -> None:
    """Print what the cache of a running application has done, by function and path.

    URL is the address of an application that runs on this machine. Each of several workers tells of itself;
    the metrics are of all.

    \b
    upshift cache stats http://127.0.0.1:8000 --sort misses
    """  # noqa: D301 - \b is click's mark for lines to leave as they are
    choice = msgspec.convert({"top": top, "sort": sort}, Choice)
    body = told_by(url, choice)
    if form == "json":
        click.echo(body)
    else:
        show(_lines(decoded(body, url)), Console())


def told_by(url: str, choice: Choice) -> bytes:
    """Return what an application tells of its cache, as JSON.

    Raises:
        UpshiftError: it does not answer, or has no cache.
    """
    query = {name: str(value).lower() for name, value in asdict(choice).items()}
    return ask(url, PATH, query, HINT)


def decoded(body: bytes, url: str) -> Document:
    """Return what an application has told.

    Raises:
        UpshiftError: it is something else.
    """
    try:
        return msgspec.json.decode(body, type=Document)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UpshiftError(f"{one_line(url)} does not tell of a cache: {one_line(str(error))}") from error


def _lines(document: Document) -> Iterator[Line]:
    if document.namespaces:
        yield _figures("calls", "hits", "ratio", "misses", "load", "p95", "values", "bytes", "hit"), BOLD
    else:
        yield "nothing has been asked of it", None
    for each in document.namespaces:
        yield _row(each), BAD if each.stale_served or (each.refused and not each.fills) else None
        yield _INDENT + one_line(each.name), None
        yield from ((_INDENT + one_line(each), DIM) for each in _remarks(each))
    shown = len(document.namespaces)
    of = f"{shown} of {document.known}" if shown < document.known else str(shown)
    state = document.state
    held = f"{count_text(state.entries)} values of {_bytes(state.bytes)} in memory"
    yield f"{of} functions and paths; {held}, tokens in {_place(document)}", BOLD
    yield f"process {document.pid} of {one_line(document.service)}; each worker tells of itself only", DIM


def _row(each: Namespace) -> str:
    def time(seconds: float | None) -> str:
        return "" if seconds is None else seconds_text(seconds)

    return _figures(
        count_text(each.calls),
        count_text(each.hits),
        f"{each.hit_ratio:.0%}",
        count_text(each.misses),
        time(each.loads.mean),
        time(each.loads.p95),
        count_text(each.entries),
        _bytes(each.bytes),
        time(each.hit_seconds),
    )


def _remarks(each: Namespace) -> Iterator[str]:
    """Yield what is out of the ordinary."""
    if each.stale_served:
        yield f"{each.stale_served:,} of {each.audited:,} hits that were audited had served a stale value"
    for reason, count in sorted(each.refused.items(), key=lambda item: -item[1])[:MAX_REASONS]:
        yield f"{count:,} not kept: {reason}"
    counts = {
        "shared another's load": each.joined,
        "past the cache, as the caller had written": each.bypassed,
        "found and not served, as it had been written": each.stale_prevented,
        "found and not served, as its time was up": each.expired,
        "made room for others": each.evictions,
        "loads failed": each.errors,
        "last values served as a load had failed": each.stale_served_on_error,
        "answered by 304": each.not_modified,
    }
    told = [f"{count:,} {what}" for what, count in counts.items() if count]
    if told:
        yield "; ".join(told)


def _place(document: Document) -> str:
    state = document.state
    if state.redis is not None:
        how = "in use" if state.redis.is_usable else f"not asked: {state.redis.reason}"
        return one_line(f"Redis at {state.redis.server or 'an unknown place'} ({state.redis.name}), {how}")
    return one_line(f"the page {state.page}") if state.page else "this process"


def _bytes(number: int) -> str:
    """Return a size that takes no more than seven columns."""
    return f"{number:,} B" if number < 1_000 else f"{count_text(number)}B"  # noqa: PLR2004 - as people read it


def _figures(*cells: str) -> str:
    widths = (8, 8, 5, 8, 9, 9, 8, 9, 8)
    return " ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
