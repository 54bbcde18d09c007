"""Learned plans as a diff that tools apply."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from upshift.record import CallSite
from upshift.sql.fetch_plans.learned import FetchPlan
from upshift.sql.fetch_plans.patch import patch_for

BEFORE = """\
from sqlalchemy import select

from shop.models import Order


def orders(session):
    return session.scalars(select(Order)).all()


def helped(session, query):
    return session.scalars(query).all()
"""


def plan(file, line=7, options=("selectinload(Order.items)",), **changes):
    values = {
        "operation": "GET /orders",
        "site": CallSite(str(file), line, "orders"),
        "root": "Order",
        "options": options,
        "loads": (),
        "models": {"Order": "shop.models", "Item": "shop.models"},
    }
    return FetchPlan(**(values | changes))


@pytest.fixture
def file(tmp_path):
    (tmp_path / "shop").mkdir()
    file = tmp_path / "shop" / "orders.py"
    file.write_text(BEFORE)
    return file


DEEP = ("selectinload(Order.items).selectinload(Item.product)",)


@pytest.mark.parametrize("tool", [["git", "apply"], ["patch", "-p1"]])
def test_it_applies(file, tmp_path, tool):
    if shutil.which(tool[0]) is None:
        pytest.skip(f"{tool[0]} is not installed")
    patch = patch_for([plan(file, options=DEEP)], tmp_path)
    subprocess.run(tool, input=patch.diff, text=True, cwd=tmp_path, check=True, capture_output=True)
    text = file.read_text()
    assert "from sqlalchemy.orm import selectinload\n" in text
    assert "from shop.models import Item, Order\n" in text
    assert f"select(Order).options(\n        {DEEP[0]},\n    )" in text
    assert not patch.refused


def test_without_a_line_end_at_the_end_of_the_file_too(file, tmp_path):
    file.write_text("from m import Order, select, selectinload\norders = session.scalars(select(Order))")
    patch = patch_for([plan(file, 2)], tmp_path)
    assert "\\ No newline at end of file" in patch.diff
    subprocess.run(["git", "apply"], input=patch.diff, text=True, cwd=tmp_path, check=True)
    assert file.read_text().endswith("select(Order).options(selectinload(Order.items)))")


def test_routes_that_share_a_line_share_its_options(file, tmp_path):
    plans = [
        plan(file),
        plan(file, options=DEEP, operation="GET /other"),
        plan(file, options=("selectinload(Order.customer)",), operation="GET /third"),
    ]
    diff = patch_for(plans, tmp_path).diff
    added = "".join(line[1:].strip() for line in diff.splitlines() if line.startswith("+"))
    assert f"{DEEP[0]},selectinload(Order.customer)," in added
    assert "selectinload(Order.items)," not in added


def test_what_it_cannot_write_is_told_with_the_option_and_the_place(file, tmp_path):
    patch = patch_for([plan(file), plan(file, 11)], tmp_path)
    (refusal,) = patch.refused
    assert (refusal.site.line, refusal.options) == (11, ("selectinload(Order.items)",))
    assert "no select(Order)" in refusal.reason
    assert len(patch.written) == 1


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda folder: folder.parent / "elsewhere.py", "not below"),
        (lambda folder: folder / "gone.py", "No such file"),
        (lambda folder: _written(folder / "broken.py", b"def f(:\n"), "cannot be read"),
        (lambda folder: _written(folder / "binary.py", b"\xff\xfe\x00"), ""),
    ],
)
def test_a_file_that_cannot_be_changed_is_refused(tmp_path, make, reason):
    folder = tmp_path / "project"
    folder.mkdir()
    patch = patch_for([plan(make(folder))], folder)
    assert patch.diff == ""
    assert reason in patch.refused[0].reason


def _written(file, content):
    file.write_bytes(content)
    return file
