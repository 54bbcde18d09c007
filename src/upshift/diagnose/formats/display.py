"""How text of the application appears in a report: on one line, without control characters, cut to length."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from upshift.diagnose.finding import Finding

MAX_CHARACTERS = 240
"""Characters of one fact; a longer one is cut."""

MAX_EVIDENCE = 6
"""Facts shown of one finding; `--format json` has all."""

_INLINE = re.compile(r"(\.<locals>\.<\w+>)+$")


def one_line(text: str, limit: int | None = MAX_CHARACTERS) -> str:
    r"""Return the text on one line, with everything in it visible.

    White space of any kind becomes a space. What else does not print (escape sequences, marks that turn the
    direction of writing, lone surrogates) is shown as a Python escape.

    Args:
        text: any text.
        limit: characters to keep; None for all.

    Example:
        >>> one_line("SELECT 1\n\x1b[31m"), one_line("SELECT name FROM users", limit=12)
        ('SELECT 1 \\x1b[31m', 'SELECT name…')
    """
    if limit is not None and len(text) > limit:
        text = text[: limit - 1].rstrip() + "…"
    return text if text.isprintable() else "".join(map(_visible, text))


def _visible(character: str) -> str:
    if character.isprintable():
        return character
    return " " if character.isspace() else character.encode("unicode_escape").decode("ascii")


def relative(file: str, root: Path | None = None) -> str:
    """Return a file's path below `root` as seen from there, any other as it is; with forward slashes.

    Args:
        file: the path as the interpreter has it.
        root: the folder; the current one where none is given.

    Example:
        >>> relative("/srv/shop/orders.py", Path("/srv")), relative("/opt/plugin.py", Path("/srv"))
        ('shop/orders.py', '/opt/plugin.py')
    """
    path, root = Path(file), root or Path.cwd()
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()


def enclosing(function: str) -> str:
    """Return the function that a comprehension or a lambda stands in, for those have names of their own.

    Before Python 3.12 every comprehension had; so a finding keeps its place from one version to the next.

    Example:
        >>> enclosing("list_orders.<locals>.<listcomp>"), enclosing("make_app.<locals>.list_orders")
        ('list_orders', 'make_app.<locals>.list_orders')
    """
    return _INLINE.sub("", function)


def evidence(finding: Finding) -> Iterator[str]:
    """Yield what was observed, one fact a line, and how many facts are left out."""
    if finding.also:
        places = (f"{relative(each.file)}:{each.line} {enclosing(each.function)}" for each in finding.also)
        yield one_line(f"also at {', '.join(places)}")
    yield from map(one_line, finding.evidence[:MAX_EVIDENCE])
    if len(finding.evidence) > MAX_EVIDENCE:
        yield f"… and {len(finding.evidence) - MAX_EVIDENCE} more (--format json)"


def fix(finding: Finding) -> Iterator[str]:
    """Yield what to write or run, one alternative a line. It is to be copied, so nothing is cut off."""
    return (one_line(alternative, None) for alternative in finding.fix)


def explanation(finding: Finding) -> str:
    """Return what follows the title, in several lines."""
    labelled = ["Fix: " + "\n".join(fix(finding)), f"Expect: {one_line(finding.expect)}"]
    return "\n".join([*evidence(finding), *labelled])
