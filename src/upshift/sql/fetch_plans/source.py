"""Where in a Python source a statement is made, and how options are written there.

Only what is certain is changed: the query has to be made on the line that executes it, or be assigned once in
the same function. Everything else is refused with a reason, as a wrong guess in somebody's source is worse
than none.
"""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MAX_WIDTH = 100
"""Columns up to which options stay on the line of their query."""

_GETS = frozenset({"get", "get_one"})

_Function = ast.FunctionDef | ast.AsyncFunctionDef


class UnclearSourceError(Exception):
    """A statement is not made where it is executed, so no option can be written there."""


class Insertion(NamedTuple):
    r"""Text to be put into a source.

    Attributes:
        line: the line, from 1.
        column: the offset in its bytes, as `ast` counts.
        text: what to put there, with `\n` for line ends.
    """

    line: int
    column: int
    text: str


class Source:
    r"""A module of the application.

    Args:
        text: its source.

    Raises:
        UnclearSourceError: it is no Python that this interpreter reads.

    Example:
        >>> source = Source("orders = session.scalars(select(Order)).all()\n")
        >>> source.changed(source.options_at(1, "Order", ["selectinload(Order.items)"]))
        'orders = session.scalars(select(Order).options(selectinload(Order.items))).all()\n'
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._newline = "\r\n" if "\r\n" in text else "\n"
        self._lines = lines_of(text)
        try:
            self._tree = ast.parse(text)
        except (SyntaxError, ValueError, RecursionError) as error:
            raise UnclearSourceError(f"the source cannot be read: {error}") from error

    def options_at(self, line: int, root: str, options: Sequence[str]) -> Insertion:
        """Return what gives options to the query for a class that a line executes.

        Args:
            line: the line.
            root: the name of the class.
            options: the options.

        Raises:
            UnclearSourceError: the query is not made there, or more than one is.
        """
        statement = self._statement(line)
        calls = [each for each in ast.walk(statement) if isinstance(each, ast.Call)]
        found = [each for each in calls if _is_query(each, root)]
        # A loop has further lines, with queries of their own.
        found = [each for each in found if each.lineno <= line <= (each.end_lineno or line)] or found
        if not found:
            found = self._assigned(statement, calls, root)
        if not found:
            raise UnclearSourceError(f"no select({root}) is made there")
        if len(found) > 1:
            raise UnclearSourceError(f"more than one query for {root} is made there")
        return self._insertion(found[0], options)

    def names(self) -> dict[str, str]:
        """Return the names that the module's top level knows, with where they come from; "" for its own."""
        known: dict[str, str] = {}
        for node in self._tree.body:
            if isinstance(node, ast.ImportFrom):
                module = "." * node.level + (node.module or "")
                known |= {each.asname or each.name: module for each in node.names}
            elif isinstance(node, ast.Import):
                known |= {each.asname or each.name.partition(".")[0]: each.name for each in node.names}
            elif isinstance(node, ast.ClassDef | _Function):
                known[node.name] = ""
            elif isinstance(node, ast.Assign):
                known |= {each.id: "" for each in node.targets if isinstance(each, ast.Name)}
        return known

    def import_of(self, module: str, names: Sequence[str]) -> Insertion:
        """Return what imports names from a module: in its import where there is one, else in a new one."""
        for node in self._tree.body:
            if isinstance(node, ast.ImportFrom) and node.module == module and not node.level:
                return self._longer_import(node, names)
        imports = [each for each in self._tree.body if isinstance(each, ast.Import | ast.ImportFrom)]
        statement = f"from {module} import {', '.join(sorted(names))}\n"
        if imports:
            near = [each for each in imports if _top(each) == module.partition(".")[0]] or imports
            return Insertion((near[-1].end_lineno or near[-1].lineno) + 1, 0, statement)
        body = self._tree.body
        has_docstring = (
            bool(body) and isinstance(body[0], ast.Expr) and ast.get_docstring(self._tree) is not None
        )
        return Insertion((body[0].end_lineno or 1) + 1 if has_docstring else 1, 0, statement)

    def changed(self, *insertions: Insertion) -> str:
        """Return the source with texts put in."""
        lines = [each.encode() for each in self._lines]
        for line, column, text in sorted(insertions, reverse=True):
            if line > len(lines):
                if lines and not lines[-1].endswith(b"\n"):
                    lines[-1] += self._newline.encode()
                lines.append(b"")
            raw = lines[line - 1]
            lines[line - 1] = raw[:column] + text.replace("\n", self._newline).encode() + raw[column:]
        return b"".join(lines).decode()

    def _statement(self, line: int) -> ast.stmt:
        """Return the innermost statement that a line belongs to."""
        spans = [each for each in ast.walk(self._tree) if isinstance(each, ast.stmt)]
        spans = [each for each in spans if each.lineno <= line <= (each.end_lineno or each.lineno)]
        if not spans:
            raise UnclearSourceError("the source has changed since: no code is there")
        return min(spans, key=lambda each: ((each.end_lineno or each.lineno) - each.lineno, -each.col_offset))

    def _assigned(self, statement: ast.stmt, calls: Sequence[ast.Call], root: str) -> list[ast.Call]:
        """Return the queries of variables that a statement executes."""
        names = {each.id for call in calls for each in call.args if isinstance(each, ast.Name)}
        functions = [each for each in ast.walk(self._tree) if isinstance(each, _Function)]
        around = [each for each in functions if any(inner is statement for inner in ast.walk(each))]
        scope: ast.AST = around[-1] if around else self._tree
        found = _assignments(scope, names, root)
        if not found and around:
            found = _assignments(self._tree, names, root, is_flat=True)
        return found

    def _insertion(self, call: ast.Call, options: Sequence[str]) -> Insertion:
        line, column = call.end_lineno or call.lineno, call.end_col_offset or 0
        is_get = isinstance(call.func, ast.Attribute) and call.func.attr in _GETS
        if not is_get:
            return Insertion(line, column, self._written(line, ".options(", options, ")"))
        given = [each for each in call.keywords if each.arg == "options"]
        if not given:
            text = self._written(line, ", options=[", options, "]")
            return Insertion(line, column - 1, text)
        value = given[0].value
        if not isinstance(value, ast.List):
            raise UnclearSourceError("the options that it has are not written there")
        comma = ", " if value.elts else ""
        last = value.end_lineno or value.lineno
        return Insertion(last, (value.end_col_offset or 1) - 1, comma + ", ".join(options))

    def _written(self, line: int, opening: str, options: Sequence[str], closing: str) -> str:
        """Write options behind a query: on its line where they fit, else one a line."""
        text = opening + ", ".join(options) + closing
        raw = self._lines[line - 1].rstrip("\r\n")
        if len(raw) + len(text) <= MAX_WIDTH:
            return text
        indent = raw[: len(raw) - len(raw.lstrip())]
        return opening + "".join(f"\n{indent}    {each}," for each in options) + f"\n{indent}{closing}"

    def _longer_import(self, node: ast.ImportFrom, names: Sequence[str]) -> Insertion:
        """Put names into an import, in their order where the import has one."""
        known = [each.name for each in node.names]
        is_sorted = known == sorted(known, key=str.casefold) or known == sorted(known)
        new = ", ".join(sorted(names))
        after = node.names[-1]
        if is_sorted and len(names) == 1:
            before = [each for each in node.names if each.name.casefold() < names[0].casefold()]
            if known == sorted(known):
                before = [each for each in node.names if each.name < names[0]]
            if not before:
                first = node.names[0]
                return Insertion(first.lineno, first.col_offset, f"{new}, ")
            after = before[-1]
        line, column = after.end_lineno or after.lineno, after.end_col_offset or 0
        raw = self._lines[line - 1]
        if node.lineno != node.end_lineno and raw[: after.col_offset].isspace():
            indent = raw[: after.col_offset]  # one name a line
            return Insertion(line, column, "".join(f",\n{indent}{each}" for each in sorted(names)))
        return Insertion(line, column, f", {new}")


def lines_of(text: str) -> list[str]:
    r"""Return the lines of a source as `ast` counts them, with their ends.

    Example:
        >>> lines_of("a\x0cb\nc")
        ['a\x0cb\n', 'c']
    """
    return [each for each in re.split(r"(?<=\n)", text) if each]


def _top(node: ast.Import | ast.ImportFrom) -> str:
    name = node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
    return (name or "").partition(".")[0]


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _is_query(call: ast.Call, root: str) -> bool:
    """Tell whether a call makes a query whose first entity is a class."""
    function = _name(call.func)
    is_method = isinstance(call.func, ast.Attribute)
    if not (function == "select" or (is_method and function in {"query", *_GETS})):
        return False
    return bool(call.args) and _name(call.args[0]) == root


def _assignments(scope: ast.AST, names: set[str], root: str, *, is_flat: bool = False) -> list[ast.Call]:
    """Return the queries for a class that are assigned to names, where each name has but one."""
    found: list[ast.Call] = []
    for node in ast.iter_child_nodes(scope) if is_flat else _within(scope):
        targets = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.AnnAssign) and node.value is not None:
            targets = [node.target]
        if any(isinstance(each, ast.Name) and each.id in names for each in targets):
            inner = [each for each in ast.walk(node) if isinstance(each, ast.Call)]
            found += [each for each in inner if _is_query(each, root)]
    return found


def _within(scope: ast.AST) -> Iterator[ast.AST]:
    """Yield what belongs to a function itself, and not to one within it."""
    for node in ast.iter_child_nodes(scope):
        yield node
        if not isinstance(node, _Function | ast.Lambda | ast.ClassDef):
            yield from _within(node)
