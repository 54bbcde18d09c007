"""Texts that UTF-8 cannot carry.

A file's name in another encoding, or a statement made of one, holds lone surrogates (PEP 383). JSON is UTF-8,
so an encoder refuses them; whatever comes from the application passes through here when it does.
"""

from __future__ import annotations

from typing import Any, Literal


def encodable(value: Any, errors: Literal["replace", "backslashreplace"] = "replace") -> Any:  # noqa: ANN401 - any JSON value
    r"""Return a JSON value, all of whose texts UTF-8 can carry.

    Args:
        value: the value.
        errors: what lone surrogates become: question marks, or escapes, which tell them apart.

    Example:
        >>> encodable({"file": ["\udcff.py", 1]})
        {'file': ['?.py', 1]}
        >>> encodable("\udcff.py", "backslashreplace")
        '\\udcff.py'
    """
    match value:
        case str():
            return value.encode("utf-8", errors).decode("utf-8")
        case list() | tuple():
            return [encodable(item, errors) for item in value]
        case dict():
            return {encodable(key, errors): encodable(item, errors) for key, item in value.items()}
        case _:
            return value
