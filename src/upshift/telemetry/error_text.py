"""An exception in one line that may be shown: short, and without the credentials in it."""

from __future__ import annotations

import re

MAX_TEXT = 200
"""Characters that are shown of a text."""

MASK = "***"

_READ = 2_000
# What stands before the host in a URL, however the password in it was (not) escaped.
_USER_INFO = re.compile(r"://\S*@")
_SECRET = re.compile(
    r"""(?ix)
    ( (?: passw | pwd | passphrase | secret | token | credential | api [_-]? key ) [\w-]* ["']? \s* [=:] \s*
    | \b authorization ["']? \s* [=:] \s* (?: \w+ \s+ )?
    | \b (?: bearer | basic ) \s+ )
    (?: "[^"]*"? | '[^']*'? | [^\s,;&)]+ )
    """
)


def describe(error: BaseException) -> str:
    """Return an exception's class and the first line of its message, masked.

    Further lines are left out: SQLAlchemy puts statements with their parameters there.

    Example:
        >>> describe(OSError("no route to postgresql://shop:rosebud@db/shop"))
        'OSError: no route to postgresql://***@db/shop'
    """
    try:
        text = shorten(str(error))
    except Exception:  # noqa: BLE001 - an exception that cannot say what it is; its class can
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def shorten(text: str) -> str:
    """Return the first line of a text, masked and cut.

    Example:
        >>> shorten("connected with password=rosebud; 3 servers")
        'connected with password=***; 3 servers'
    """
    line = next(iter(text[:_READ].strip().splitlines()), "")
    masked = _SECRET.sub(rf"\1{MASK}", _USER_INFO.sub(f"://{MASK}@", line))
    printable = "".join(character if character.isprintable() else " " for character in masked)
    return printable if len(printable) <= MAX_TEXT else printable[: MAX_TEXT - 1] + "…"
