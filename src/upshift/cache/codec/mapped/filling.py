"""The dicts of many objects, made of columns by code that is written for their names.

A display of a dict with constant keys is made in one step, with the right size; filling one key by key takes
twice as long, and that is a fifth of what restoring an object takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.orm.base import DEFAULT_STATE_ATTR

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def filling(names: Sequence[str]) -> Callable[[list[Any], list[list[Any]]], list[dict[str, Any]]]:
    """Return what makes the dicts of objects, of their states and of the columns of their values.

    Args:
        names: names of the attributes, in the order of the columns.

    Example:
        >>> filling(["id", "name"])(["its state"], [[1], ["hose"]])
        [{'_sa_instance_state': 'its state', 'id': 1, 'name': 'hose'}]
    """
    values = [f"value{number}" for number in range(len(names))]
    items = "".join(f", {name!r}: {value}" for name, value in zip(names, values, strict=True))
    one = f"{{{DEFAULT_STATE_ATTR!r}: state{items}}}"
    targets = ", ".join(["state", *values])
    code = f"lambda states, columns: [{one} for {targets} in zip(states, *columns, strict=True)]"
    made: Callable[[list[Any], list[list[Any]]], list[dict[str, Any]]]
    made = eval(code, {"zip": zip})  # noqa: S307 - the names are those of the mapping, and are quoted
    return made
