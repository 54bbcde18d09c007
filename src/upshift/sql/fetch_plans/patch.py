"""Learned plans as a unified diff against the application's source, for `git apply` or `patch -p1`."""

from __future__ import annotations

import re
import tokenize
from collections import defaultdict
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path
from typing import TYPE_CHECKING

from upshift.sql.fetch_plans.source import Source, UnclearSourceError, lines_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from upshift.record import CallSite
    from upshift.sql.fetch_plans.learned import FetchPlan
    from upshift.sql.fetch_plans.source import Insertion

_LOADER = re.compile(r"\b(?:selectinload|defaultload|selectin_polymorphic)(?=\()")
_MODEL = re.compile(r"\b[A-Za-z_]\w*(?=\.\w|[\],)])")


@dataclass(frozen=True, slots=True)
class Refusal:
    """A plan that is not in the patch.

    Attributes:
        site: the line that executes the statement.
        root: the class that it is for.
        options: what to write where the statement is made.
        reason: why that could not be done.
    """

    site: CallSite
    root: str
    options: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Patch:
    """A change to the application's source.

    Attributes:
        diff: the unified diff; "" where nothing could be written.
        written: the lines whose statements it gives options to.
        refused: what it does not do.
    """

    diff: str
    written: tuple[CallSite, ...]
    refused: tuple[Refusal, ...]


def patch_for(plans: Iterable[FetchPlan], root: Path) -> Patch:
    """Write what was learned into the source.

    Args:
        plans: what was learned.
        root: the folder that the diff's paths start from; files outside of it are refused.
    """
    by_site: dict[tuple[CallSite, str], tuple[dict[str, None], dict[str, str]]] = {}
    for plan in plans:
        known, modules = by_site.setdefault((plan.site, plan.root), ({}, {}))
        known.update(dict.fromkeys(plan.options))
        modules.update(plan.models)
    by_file: dict[str, list[tuple[CallSite, str, tuple[str, ...], dict[str, str]]]] = defaultdict(list)
    for (site, name), (known, modules) in by_site.items():
        by_file[site.file].append((site, name, _longest(known), modules))
    diffs: list[str] = []
    written: list[CallSite] = []
    refused: list[Refusal] = []
    for file, changes in sorted(by_file.items()):
        try:
            path = Path(file).resolve().relative_to(root.resolve())
            with tokenize.open(file) as opened:  # in the encoding that the file declares
                encoding = opened.encoding
            source = Source(Path(file).read_bytes().decode(encoding))
        except ValueError:
            reason = f"the file is not below {root.resolve()}"
            refused += (Refusal(site, name, options, reason) for site, name, options, _ in changes)
            continue
        except (OSError, SyntaxError, UnclearSourceError) as error:
            refused += (Refusal(site, name, options, str(error)) for site, name, options, _ in changes)
            continue
        insertions: dict[Insertion, None] = {}
        imports: dict[str, set[str]] = defaultdict(set)
        for site, name, options, models in changes:
            try:
                insertion = source.options_at(site.line, name, options)
                missing = _missing(source, options, models)
            except UnclearSourceError as error:
                refused.append(Refusal(site, name, options, str(error)))
                continue
            insertions[insertion] = None
            written.append(site)
            for module, names in missing.items():
                imports[module] |= names
        for module, names in imports.items():
            insertions[source.import_of(module, sorted(names))] = None
        diffs.append(_diff(path.as_posix(), source.text, source.changed(*insertions)))
    return Patch("".join(diffs), tuple(written), tuple(refused))


def _longest(options: Iterable[str]) -> tuple[str, ...]:
    """Leave out options that a longer one has as its start."""
    every = list(options)
    return tuple(each for each in every if not any(other.startswith(f"{each}.") for other in every))


def _missing(source: Source, options: Sequence[str], models: dict[str, str]) -> dict[str, set[str]]:
    """Return the names that options use and the module does not know, by the module to import them from."""
    known = source.names()
    text = " ".join(options)
    missing: dict[str, set[str]] = defaultdict(set)
    for name in _LOADER.findall(text):
        if name not in known:
            missing["sqlalchemy.orm"].add(name)
    for name in _MODEL.findall(text):
        if name in models and name not in known:
            if models[name] in {"__main__", "builtins"}:
                raise UnclearSourceError(f"{name} cannot be imported from {models[name]}")
            missing[models[name]].add(name)
    return missing


def _diff(path: str, before: str, after: str) -> str:
    lines = unified_diff(lines_of(before), lines_of(after), f"a/{path}", f"b/{path}")
    return "".join(
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines
    )
