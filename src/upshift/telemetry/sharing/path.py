"""Which file the workers of one service share."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from pathlib import Path

from upshift.record.server import find_server, remove_left, started_at
from upshift.telemetry.sharing.file import FORMAT, is_in_use

_SUFFIX = f".v{FORMAT}.totals"
_NAME = re.compile(r"upshift-(?P<user>\d+)-.*-(?P<pid>\d+)-(?P<started>\d+)\.v\d+(\.\d+)?\.totals")


def find_path(service: str, explicit: str | None = None) -> Path | None:
    """Return the file for this process's totals, the same for all workers of one server.

    It lies in the folder for temporary files, named by user, service and server process. Files whose servers
    and workers are all gone are removed from there on the way.

    Args:
        service: the service's name; two services of one server process do not share a file.
        explicit: the file as somebody set it; it wins.

    Returns:
        None in a process that is no worker of several.

    Example:
        >>> find_path("shop", "/run/shop/totals").as_posix()
        '/run/shop/totals'
    """
    if explicit:
        return Path(explicit)
    server = find_server()
    if server is None:
        return None
    folder = Path(tempfile.gettempdir())
    remove_abandoned(folder)
    readable = re.sub(r"[^A-Za-z0-9]+", "_", service)[:40]
    digest = hashlib.sha256(service.encode()).hexdigest()[:8]
    started = started_at(server)
    return folder / f"upshift-{os.geteuid()}-{readable}.{digest}-{server}-{started}{_SUFFIX}"


def numbered(path: Path, number: int) -> Path:
    """Return the file for one of several instances in a process that would have the same; the first has it.

    Example:
        >>> numbered(Path("shop.totals"), 1).name, numbered(Path("shop.totals"), 2).name
        ('shop.totals', 'shop.2.totals')
    """
    return path if number == 1 else path.with_name(f"{path.stem}.{number}{path.suffix}")


def remove_abandoned(folder: Path) -> None:
    """Remove this user's files from `folder` that no living server or worker uses."""
    remove_left(folder, _NAME, is_in_use)
