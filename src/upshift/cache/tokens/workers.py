"""The page that the workers of one server share without being told: each finds it by the server's process."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from upshift.cache.tokens.local import LocalTokens
from upshift.cache.tokens.page import PageTokens, is_in_use
from upshift.errors import SettingsError
from upshift.record.server import find_server, remove_left, started_at

if TYPE_CHECKING:
    from typing import Any

    from upshift.cache.tokens.carrier import Carrier

logger = logging.getLogger("upshift.cache")

_NAME = re.compile(r"upshift-\d+-cache\.[0-9a-f]+-(?P<pid>\d+)-(?P<started>\d+)\.page")


def tokens_of(name: str) -> tuple[Carrier[Any], str]:
    """Return the tokens of a cache that is given neither a page nor a Redis, and the page that they are in.

    A process that is no worker of a server has its own. Where the page cannot be used, it has too, which is
    logged: then no worker sees what the others write.

    Args:
        name: the cache's; those of one name share a page.
    """
    path = find_page(name)
    if path is not None:
        try:
            return PageTokens(path), str(path)
        except SettingsError as error:
            logger.warning("the workers of this server do not see what the others write: %s", error)
    return LocalTokens(), ""


def find_page(name: str) -> Path | None:
    """Return the page of the workers of one server; None in a process that is no such worker.

    It lies in the folder for temporary files. Pages of servers that are gone are removed from there.
    """
    server = find_server()
    if server is None:
        return None
    folder = Path(tempfile.gettempdir())
    remove_abandoned(folder)
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return folder / f"upshift-{os.geteuid()}-cache.{digest}-{server}-{started_at(server)}.page"


def remove_abandoned(folder: Path) -> None:
    """Remove this user's pages from a folder that no living server or worker uses."""
    remove_left(folder, _NAME, is_in_use)
