"""`import upshift` costs next to nothing; what it exports comes when it is asked for."""

import subprocess
import sys

import pytest

import upshift
from upshift.application import Upshift
from upshift.settings import Settings


def test_the_names_are_those_of_their_rooms():
    assert upshift.Upshift is Upshift
    assert upshift.Settings is Settings


def test_what_is_exported_is_listed_before_it_is_imported():
    assert set(upshift.__all__) <= set(dir(upshift))


def test_a_name_that_is_not_there_is_refused_as_by_any_module():
    with pytest.raises(AttributeError, match="module 'upshift' has no attribute 'Upshfit'"):
        _ = upshift.Upshfit


@pytest.mark.parametrize("module", ["upshift", "upshift.cli"])
def test_importing_it_imports_no_library(module):
    told = subprocess.run(
        [sys.executable, "-c", f"import {module}, sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )

    imported = {name.partition(".")[0] for name in told.stdout.split()}
    assert imported & {"click", "rich", "sqlalchemy", "starlette", "msgspec"} == set()


def test_it_can_be_imported_by_star():
    subprocess.run([sys.executable, "-c", "from upshift import *; Upshift; Settings"], check=True)


def test_a_type_checker_knows_the_names(tmp_path):
    program = tmp_path / "program.py"
    program.write_text("from upshift import Settings, Upshift\nreveal_type(Settings)\nreveal_type(Upshift)\n")

    told = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", str(program)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert "upshift.settings" in told.stdout
    assert "upshift.application.upshift.Upshift" in told.stdout
