"""Options are written where a statement is made, and nowhere else."""

from __future__ import annotations

import ast

import pytest

from upshift.sql.fetch_plans.source import Source, UnclearSourceError

OPTION = "selectinload(Order.items)"


def written(text, line, *, root="Order", options=(OPTION,)):
    source = Source(text)
    changed = source.changed(source.options_at(line, root, options))
    ast.parse(changed)
    return changed


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("s.scalars(select(Order)).all()", "s.scalars(select(Order).options({})).all()"),
        ("s.scalars(sa.select(m.Order)).all()", "s.scalars(sa.select(m.Order).options({})).all()"),
        ("s.scalars(select(Order).where(x)).all()", "s.scalars(select(Order).options({}).where(x)).all()"),
        ("s.execute(select(Order, Item.id))", "s.execute(select(Order, Item.id).options({}))"),
        ("s.query(Order).filter(x).all()", "s.query(Order).options({}).filter(x).all()"),
        ("s.get(Order, 7)", "s.get(Order, 7, options=[{}])"),
        ("s.get_one(Order, key(7))", "s.get_one(Order, key(7), options=[{}])"),
        ("s.get(Order, 7, options=[other])", "s.get(Order, 7, options=[other, {}])"),
        ("s.get(Order, 7, options=[])", "s.get(Order, 7, options=[{}])"),
        ("# ünïcödé\nå = s.get(Order, 'ü')", "# ünïcödé\nå = s.get(Order, 'ü', options=[{}])"),
    ],
)
def test_the_call_on_the_line_gets_the_options(before, after):
    assert written(before, len(before.splitlines())) == after.format(OPTION)


@pytest.mark.parametrize("line", [2, 3, 4, 5])
def test_a_query_over_many_lines(line):
    text = "def f(s):\n    return s.scalars(\n        select(Order)\n        .where(x)\n    ).all()\n"
    expected = text.replace("select(Order)", f"select(Order).options({OPTION})")
    assert written(text, line) == expected


def test_a_variable_that_is_assigned_once():
    text = "def f(s):\n    q = select(Order)\n    if x:\n        q = q.where(x)\n    return s.scalars(q)\n"
    assert written(text, 5) == text.replace("select(Order)", f"select(Order).options({OPTION})")


def test_a_constant_of_the_module():
    text = "ALL = select(Order)\n\ndef f(s):\n    return s.scalars(ALL)\n"
    assert written(text, 4) == text.replace("select(Order)", f"select(Order).options({OPTION})")


def test_a_loop_over_a_query_with_another_one_within():
    text = "def f(s):\n    for one in s.scalars(select(Order)):\n        s.scalars(select(Order).where(x))\n"
    assert written(text, 2).splitlines()[1] == f"    for one in s.scalars(select(Order).options({OPTION})):"


def test_options_that_make_the_line_too_long_get_lines_of_their_own():
    options = [f"selectinload(Order.relationship_{number})" for number in range(3)]
    text = "def f(s):\n    return s.scalars(select(Order)).all()\n"
    assert written(text, 2, options=options).splitlines() == [
        "def f(s):",
        "    return s.scalars(select(Order).options(",
        *(f"        {each}," for each in options),
        "    )).all()",
    ]


def test_line_ends_stay_what_they_are():
    text = "x = 1\r\ns.scalars(select(Order))\r\n"
    options = [f"selectinload(Order.relationship_{number})" for number in range(3)]
    assert written(text, 2, options=options).count("\r\n") == 2 + 4


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("def f(s, query):\n    return s.scalars(query).all()\n", 2, "no select"),
        ("s.scalars(select(Item)).all()\n", 1, "no select"),
        ("s.scalars(select(aliased(Order))).all()\n", 1, "no select"),
        ("f(s.scalars(select(Order)), s.scalars(select(Order)))\n", 1, "more than one"),
        (
            "def f(s):\n    q = select(Order)\n    if x:\n        q = select(Order)\n    s.get(q)\n",
            5,
            "more than one",
        ),
        ("s.get(Order, 7, options=OPTIONS)\n", 1, "not written there"),
        ("x = 1\n", 40, "has changed"),
    ],
)
def test_what_is_not_certain_is_refused(text, line, reason):
    with pytest.raises(UnclearSourceError, match=reason):
        written(text, line)


@pytest.mark.parametrize("text", ["def f(:\n", "x = '\0'\n", "(" * 5_000])
def test_what_is_no_python_is_refused(text):
    with pytest.raises(UnclearSourceError):
        Source(text)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("from sqlalchemy.orm import Session\n", "from sqlalchemy.orm import Session, selectinload\n"),
        (
            "from sqlalchemy.orm import Session, undefer\n",
            "from sqlalchemy.orm import Session, selectinload, undefer\n",
        ),
        (
            "from sqlalchemy.orm import (\n    A,\n    z,\n)\n",
            "from sqlalchemy.orm import (\n    A,\n    selectinload,\n    z,\n)\n",
        ),
        (
            "from sqlalchemy.orm import (\n    A, b,\n)\n",
            "from sqlalchemy.orm import (\n    A, b, selectinload,\n)\n",
        ),
        ("from sqlalchemy.orm import undefer\n", "from sqlalchemy.orm import selectinload, undefer\n"),
        (
            "import os\nfrom sqlalchemy import select\nimport z\n",
            "import os\nfrom sqlalchemy import select\nfrom sqlalchemy.orm import selectinload\nimport z\n",
        ),
        ('"""Doc."""\nx = 1\n', '"""Doc."""\nfrom sqlalchemy.orm import selectinload\nx = 1\n'),
        ("import os", "import os\nfrom sqlalchemy.orm import selectinload\n"),
        ("", "from sqlalchemy.orm import selectinload\n"),
    ],
)
def test_the_import_comes_where_it_belongs(before, after):
    source = Source(before)
    assert source.changed(source.import_of("sqlalchemy.orm", ["selectinload"])) == after
