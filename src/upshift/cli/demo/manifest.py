"""What `upshift demo` has to know of an application, read from the `demo.toml` beside it.

.. code-block:: toml

    name = "ShopEase"
    app = "shopease.main:app"
    app-dir = ".."                           # put on the import path; relative to this file
    load = "shopease.dataset"                # python -m … --url URL fills an empty database
    database-url-variable = "DATABASE_URL"   # where the application reads its database from
    responses = ["/products*"]               # what `--fix cache` stores
    write = "shopease.shopkeeper:work"       # what goes on meanwhile: commits one change, given a Random

    [[endpoint]]
    name = "product list"
    paths = ["/products", "/products?page=2"]
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any

import msgspec

from upshift.errors import ApplicationLoadError

FILE = "demo.toml"


class Endpoint(msgspec.Struct, frozen=True):
    """One endpoint of the application.

    Attributes:
        name: as the reader would call it.
        paths: GET requests that stand for its traffic.
    """

    name: str
    paths: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]


class Manifest(msgspec.Struct, frozen=True, rename="kebab", forbid_unknown_fields=True):
    """How to load, start and ask an application.

    Attributes:
        name: the application's name.
        app: its ASGI object, `module:attribute`.
        app_dir: the folder to import it from.
        load: the module that fills a database when it is run with `--url`.
        database_url_variable: the variable from which the application takes its database.
        endpoint: its endpoints.
        responses: patterns of the paths whose responses may be stored.
        write: a function that is called with a `random.Random`, and commits one change; `module:attribute`.
    """

    name: str
    app: str
    app_dir: str
    load: str
    database_url_variable: str
    endpoint: Annotated[tuple[Endpoint, ...], msgspec.Meta(min_length=1)]
    responses: tuple[str, ...] = ()
    write: str = ""


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest in a folder; its `app_dir` comes back absolute.

    Raises:
        ApplicationLoadError: there is none, or it is malformed.
    """
    file = folder / FILE
    try:
        manifest = msgspec.toml.decode(file.read_bytes(), type=Manifest)
    except OSError as error:
        raise ApplicationLoadError(f"{file} cannot be read: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise ApplicationLoadError(f"{file} is no demo manifest: {error}") from error
    return msgspec.structs.replace(manifest, app_dir=str((folder / manifest.app_dir).resolve()))


def default_folder() -> Path:
    """Return the folder that `[tool.upshift] demo` in this directory's `pyproject.toml` names.

    Raises:
        ApplicationLoadError: nothing is named there.
    """
    try:
        project: dict[str, Any] = tomllib.loads(Path("pyproject.toml").read_text("utf-8"))
        return Path(project["tool"]["upshift"]["demo"])
    except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise ApplicationLoadError(
            "no application to show: run this in a checkout of Upshift, or name a folder that has a"
            f" {FILE} with --app"
        ) from error
