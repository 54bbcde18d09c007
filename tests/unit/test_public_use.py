"""Applications and benchmarks use what any user may: the names that rooms export."""

import ast
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted([*ROOT.glob("apps/**/*.py"), *ROOT.glob("benchmarks/*.py")])
OPEN_MODULES = {"upshift.errors"}
"""Without an `__all__`: every name that it defines is public unless it begins with an underscore."""


def private_names(code: str) -> list[str]:
    """Return what is imported from Upshift without being exported there."""
    private = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "upshift":
            public = exported(node.module)
            private += [f"{node.module}.{each.name}" for each in node.names if each.name not in public]
        elif isinstance(node, ast.Import):
            private += [each.name for each in node.names if each.name.startswith("upshift.")]
    return private


def exported(name: str) -> set[str]:
    module = importlib.import_module(name)
    if name in OPEN_MODULES:
        own = {each for each, value in vars(module).items() if getattr(value, "__module__", name) == name}
        return {each for each in own if not each.startswith("_")}
    return set(getattr(module, "__all__", ()))


@pytest.mark.parametrize("file", FILES, ids=[file.relative_to(ROOT).as_posix() for file in FILES])
def test_only_exported_names_are_used(file):
    assert private_names(file.read_text("utf-8")) == []


@pytest.mark.parametrize(
    ("code", "private"),
    [
        ("from upshift import Upshift", []),
        ("from upshift.sql import Capture", []),
        ("from upshift.sql.capture.capture import Capture", ["upshift.sql.capture.capture.Capture"]),
        ("from upshift.sql import capture", ["upshift.sql.capture"]),
        ("from upshift import sql", ["upshift.sql"]),
        ("import upshift.sql", ["upshift.sql"]),
        ("def late():\n    from upshift.record.model import Record", ["upshift.record.model.Record"]),
        ("from upshift.settings import Settings", []),
        ("from upshift.settings import Path", ["upshift.settings.Path"]),
        ("from upstairs import anything", []),
    ],
)
def test_what_is_private_is_told(code, private):
    assert private_names(code) == private
