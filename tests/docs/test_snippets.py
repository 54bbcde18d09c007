"""Every Python block in the documentation compiles, and runs unless it is marked `no-run`.

The blocks of one page share a module and run in their order, in an empty folder, as a reader would type them.
A block may use `await`.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import sys
import textwrap
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest
from sqlalchemy.engine import Engine
from sqlalchemy.ext.asyncio import AsyncEngine

from upshift import Upshift

ROOT = Path(__file__).parents[2]
PAGES = sorted(page for page in (ROOT / "README.md", *ROOT.glob("docs/**/*.md")) if page.is_file())
FENCE = re.compile(
    r"^(?P<indent> *)```python(?P<marks>(?: [^\n`]*)?)\n(?P<code>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    line: int
    code: str
    runs: bool


def blocks_of(text: str) -> list[Block]:
    return [
        Block(
            line=text.count("\n", 0, match.start("code")) + 1,
            code=textwrap.dedent(match["code"]),
            runs="no-run" not in match["marks"].split(),
        )
        for match in FENCE.finditer(text)
    ]


def run_page(page: Path, module: ModuleType) -> None:
    with asyncio.Runner() as runner:
        for block in blocks_of(page.read_text("utf-8")):
            padded = "\n" * (block.line - 1) + block.code  # a traceback then shows the page's own line
            code = compile(padded, page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
            if block.runs:
                waiting = eval(code, vars(module))
                if inspect.iscoroutine(waiting):
                    runner.run(waiting)


def release(module: ModuleType) -> None:
    """Close what the page opened: a reader's process would end here."""
    for value in vars(module).values():
        match value:
            case Upshift():
                value.close()
            case AsyncEngine():
                value.sync_engine.dispose()
            case Engine():
                value.dispose()


@pytest.mark.parametrize("page", PAGES, ids=[page.relative_to(ROOT).as_posix() for page in PAGES])
def test_every_block_of_the_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = ModuleType(f"documentation_{page.stem}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    try:
        run_page(page, module)
    finally:
        release(module)


def test_a_block_is_found_with_its_line_its_marks_and_without_its_indentation():
    text = "- item\n\n  ```python no-run\n  if a:\n      b = 2\n  ```\n\n```python\nc = 3\n```\n"

    assert blocks_of(text) == [
        Block(line=4, code="if a:\n    b = 2\n", runs=False),
        Block(line=9, code="c = 3\n", runs=True),
    ]


def test_blocks_of_other_languages_are_left_alone():
    assert (
        blocks_of("```console\n$ upshift find\n```\n\n```pycon\n>>> 1\n```\n\n```python-like\nx\n```\n") == []
    )
