"""What has to hold for anything to be put into SQLAlchemy's loading of relationships."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import sqlalchemy

from upshift.sql.loading.claim import claim_names
from upshift.sql.loading.selectin import is_covered

if TYPE_CHECKING:
    from collections.abc import Callable


class UncoveredSQLAlchemyWarning(UserWarning):
    """This SQLAlchemy's loaders are not covered by Upshift's contract tests, so loading is left to it."""


def may_install(stays_off: str, pronoun: str, late: type[Warning]) -> bool:
    """Tell whether it is safe, and warn whoever asked for it where it is not. Call it from an `__init__`.

    Args:
        stays_off: what then stays off, such as `batching stays off`.
        pronoun: that in a word.
        late: the warning that it was asked for too late.
    """
    if not is_covered():
        warnings.warn(
            f"{stays_off}: SQLAlchemy {sqlalchemy.__version__} is newer than Upshift's contract"
            " tests cover; lazy loads run as SQLAlchemy runs them",
            UncoveredSQLAlchemyWarning,
            stacklevel=3,
        )
        return False
    if not claim_names():
        warnings.warn(
            f"{stays_off}: create the Upshift before the process loads its first objects; on"
            f" CPython 3.11 {pronoun} would be unsafe after that (from Python 3.12 on any time is right)",
            late,
            stacklevel=3,
        )
        return False
    return True


def drop_loaders(pickled: dict[str, Any], is_ours: Callable[[str], bool]) -> None:
    """Leave out of an object's pickled state the loaders that we have put into it."""
    loaders = pickled.get("callables")
    if loaders:
        pickled["callables"] = {key: loader for key, loader in loaders.items() if not is_ours(key)}
