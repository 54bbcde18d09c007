"""`upshift cache keys`, `get` and `delete`: what a cache keeps in Redis, seen from outside."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

import click
import msgspec

from upshift.cli.statement_tables import count_text
from upshift.diagnose.formats.display import one_line
from upshift.errors import CodecError, UpshiftError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from upshift.cache.redis.looking import Kept, Looker
    from upshift.cache.responses.stored import Stored

MAX_VALUE = 2**20
"""Bytes of a value that is read to be shown."""

MAX_SHOWN = 100_000
"""Characters of a value that are shown."""


@dataclass(frozen=True, slots=True)
class Shown:
    """An entry, as it is told in JSON."""

    key: str
    state: str
    bytes: int
    seconds_left: float
    made: str
    tags: tuple[str, ...]


def in_redis(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command what tells its Redis and the name of the cache there."""
    options = (
        click.option(
            "--redis",
            "where",
            envvar="UPSHIFT_CACHE_URL",
            required=True,
            help="The cache's Redis, as `Cache` is given it; also from UPSHIFT_CACHE_URL.",
        ),
        click.option("--name", default="default", show_default=True, help="The cache's name there."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@contextmanager
def looking(where: str, name: str) -> Iterator[Looker]:
    """Look at a cache for the length of a `with` block.

    Raises:
        UpshiftError: the server does not answer, or does not do as it is asked.
    """
    from upshift.cache.redis.looking import looking_at
    from upshift.cache.redis.wire import Unreachable

    try:
        with looking_at(where, name) as looker:
            yield looker
    except Unreachable as error:
        raise UpshiftError(f"the cache's Redis does not answer: {one_line(str(error))}") from error


@click.command()
@click.argument("pattern", default="*")
@in_redis
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 100_000), help="How many.")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
def keys(pattern: str, *, where: str, name: str, limit: int, form: str) -> None:
    """List what a cache keeps in Redis. They are found by SCAN, so the server goes on serving meanwhile.

    PATTERN is a name in which * stands for anything. Those of a function are named `namespace:key`.

    \b
    upshift cache keys --redis redis://localhost
    upshift cache keys 'shop.menus.menu:*' --limit 20
    """  # noqa: D301 - \b is click's mark for lines to leave as they are
    with looking(where, name) as looker:
        found = list(islice(looker.entries(pattern), limit + 1))
    shown = [_shown(each) for each in found[:limit]]
    if form == "json":
        document = {"version": 1, "keys": [asdict(each) for each in shown], "is_all": len(found) <= limit}
        click.echo(msgspec.json.encode(document))
        return
    for each in shown:
        tags = ", ".join(each.tags)
        click.echo(
            f"{each.state:10} {count_text(each.bytes):>7} B  {each.seconds_left:>7,.0f} s left  "
            f"{one_line(each.key)}  {one_line(tags, 100)}".rstrip()
        )
    if len(found) > limit:
        click.echo(f"these are {limit}, and there are more: --limit", err=True)
    elif not shown:
        click.echo("nothing matches", err=True)


@click.command()
@click.argument("key")
@in_redis
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def get(key: str, *, where: str, name: str, form: str) -> None:
    """Show what is kept under a key in Redis: its value where it can be read, when it was made, and its tags.

    KEY is as `upshift cache keys` lists it; what follows the bar may be left away.
    """
    with looking(where, name) as looker:
        kept = looker.entry(key)
        if kept is None:
            click.echo("nothing is kept under that key", err=True)
            sys.exit(1)
        is_read = kept.header is not None and kept.bytes <= MAX_VALUE
        told = _value_of(looker.payload(kept)) if is_read else {"reason": _unread(kept)}
    entry = asdict(_shown(kept))
    if form == "json":
        click.echo(json.dumps({"version": 1, **entry, **told}, default=repr))
        return
    for field, value in entry.items():
        told_value = ", ".join(value) if isinstance(value, tuple) else str(value)
        click.echo(f"{field:12} {one_line(told_value, 1_000)}")
    for field in ("codec", "reason"):
        if told.get(field):
            click.echo(f"{field:12} {one_line(str(told[field]), 1_000)}")
    if "value" in told:
        text = json.dumps(told["value"], indent=2, ensure_ascii=False, default=repr)
        for line in text[:MAX_SHOWN].splitlines():
            click.echo(one_line(line, None))
        if len(text) > MAX_SHOWN:
            click.echo("… --format json has all", err=True)


@click.command()
@click.argument("pattern")
@in_redis
@click.option("--yes", is_flag=True, help="Do it, instead of only telling what would be done.")
def delete(pattern: str, *, where: str, name: str, yes: bool) -> None:
    """Drop from Redis what matches a pattern. What processes have in memory they keep as long as it holds.

    To have nothing served any more anywhere, use `upshift cache invalidate`.
    """
    with looking(where, name) as looker:
        count = looker.delete(pattern) if yes else looker.count(pattern)
    click.echo(f"{count:,} entries {'are dropped' if yes else 'would be dropped'}")
    if not yes:
        click.echo("nothing was done; --yes does it", err=True)


def _shown(kept: Kept) -> Shown:
    header = kept.header
    state = "unreadable" if header is None else "holds" if kept.holds else "outdated"
    made = "" if header is None else _moment(header.made)
    tags = () if header is None else tuple(header.tags)
    key = kept.name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return Shown(key, state, kept.bytes, kept.seconds_left, made, tags)


def _moment(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):  # whoever can write there can write anything
        return "at no time that there is"


def _unread(kept: Kept) -> str:
    if kept.header is None:
        return "it is no entry of a cache, or of another version"
    return f"it takes {kept.bytes:,} bytes, and {MAX_VALUE:,} are read at most"


def _value_of(payload: bytes) -> dict[str, Any]:
    """Return what is told of a value: of a stored response all but a body that is no text."""
    from upshift.cache.codec.looking import look
    from upshift.cache.responses.stored import Stored

    try:
        seen = look(payload)
    except CodecError as error:
        try:
            stored = msgspec.msgpack.decode(payload, type=Stored)
        except (msgspec.DecodeError, ValueError, RecursionError):
            return {"reason": str(error)}
        return {"codec": "a stored response", "value": _response(stored)}
    if not seen.is_readable:
        return {"codec": seen.form, "reason": f"it cannot be read here ({seen.size:,} bytes): {seen.reason}"}
    try:
        value = msgspec.to_builtins(seen.value, str_keys=True, enc_hook=repr)
        return {"codec": seen.form, "value": json.loads(msgspec.json.encode(value, enc_hook=repr))}
    except (TypeError, ValueError, RecursionError):
        return {"codec": seen.form, "value": repr(seen.value)}


def _response(stored: Stored) -> dict[str, Any]:
    body = stored.body[:MAX_SHOWN].decode("utf-8", "backslashreplace")
    return {
        "status": stored.status,
        "route": stored.route,
        "headers": [f"{name.decode('latin-1')}: {value.decode('latin-1')}" for name, value in stored.headers],
        "body": body,
    }
