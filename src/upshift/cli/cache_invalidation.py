"""`upshift cache invalidate`: has values served no more, by the caches that have them."""

from __future__ import annotations

from time import monotonic, sleep
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click
import msgspec

from upshift.cli.asking import ask
from upshift.cli.cache_application import HINT, PATH
from upshift.diagnose.formats.display import one_line
from upshift.errors import UpshiftError

if TYPE_CHECKING:
    from upshift.cache import Cache

MAX_REQUEST = 1_900
"""Bytes of what an application is asked at a time; it reads no more."""

REACH_SECONDS = 3.0
"""How long Redis may take to be reached."""


@click.command()
@click.argument("tags", nargs=-1)
@click.option("--namespace", "namespaces", multiple=True, help="A function's name, or a path: all of it.")
@click.option("--app", "url", help="The address of an application that runs on this machine.")
@click.option("--redis", "where", envvar="UPSHIFT_CACHE_URL", help="The cache's Redis; for all processes.")
@click.option("--name", default="default", show_default=True, help="The cache's name in Redis.")
@click.option("--yes", is_flag=True, help="Do it, instead of only telling what would be done.")
def invalidate(
    tags: tuple[str, ...],
    *,
    namespaces: tuple[str, ...],
    url: str | None,
    where: str | None,
    name: str,
    yes: bool,
) -> None:
    """Have nothing served any more that depends on tags, or is in namespaces. What is wanted is loaded anew.

    TAGS are those that `cached`, `set` or `responses` was given.

    \b
    upshift cache invalidate menus rates:TWD --redis redis://localhost --yes
    upshift cache invalidate --namespace '/products*' --app http://127.0.0.1:8000 --yes
    """  # noqa: D301 - \b is click's mark for lines to leave as they are
    if not tags and not namespaces:
        raise click.UsageError("what is to be served no more? Name tags, or --namespace")
    if not all((*tags, *namespaces)):
        raise click.UsageError("a tag or namespace without a name")
    if url is None and where is None:
        raise click.UsageError("whose cache? Give --redis, or --app")
    what = ", ".join([*map(repr, tags), *(f"all of {each!r}" for each in namespaces)])
    place = f"the application at {url}" if url is not None else "all processes that use that Redis"
    if not yes:
        click.echo(one_line(f"{what} would be served no more by {place}", 1_000))
        click.echo("nothing was done; --yes does it", err=True)
        return
    if url is not None:
        _by_application(url, tags, namespaces)
    else:
        _by_redis(where or "", name, tags, namespaces)
    click.echo(one_line(f"{what} is served no more by {place}", 1_000))


def _by_application(url: str, tags: tuple[str, ...], namespaces: tuple[str, ...]) -> None:
    request = msgspec.json.encode({"tags": tags, "namespaces": namespaces}).decode()
    if len(request) > MAX_REQUEST:
        raise UpshiftError("these are too many at a time for an application: name fewer")
    if urlsplit(url).path.strip("/"):
        url = f"{url.rstrip('/')}/invalidate"
    body = ask(url, f"{PATH}/invalidate", {"request": request}, HINT, is_command=True)
    try:
        answer = msgspec.json.decode(body, type=dict[str, int])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UpshiftError(f"{one_line(url)} does not say that it has done it") from error
    if "dropped" not in answer:
        raise UpshiftError(f"{one_line(url)} does not say that it has done it")
    click.echo("of several workers without a page or a Redis, one has done it", err=True)


def _by_redis(where: str, name: str, tags: tuple[str, ...], namespaces: tuple[str, ...]) -> None:
    """Do as a process of the application does: the same protocol, which writers and readers follow."""
    from upshift.cache import Cache

    cache = Cache(where, name=name, timeout="500ms", unreachable="refuse")
    try:
        _wait_for(cache)
        if tags:
            cache.invalidate(*tags)
        for each in namespaces:
            cache.delete_namespace(each)
    finally:
        cache.close()


def _wait_for(cache: Cache) -> None:
    """Wait until Redis has been reached.

    Raises:
        UpshiftError: it has not.
    """
    ends = monotonic() + REACH_SECONDS
    while (state := cache.state().redis) is not None and not state.is_usable:
        if monotonic() > ends:
            raise UpshiftError(f"the cache's Redis does not answer: {one_line(state.reason)}")
        sleep(0.01)
