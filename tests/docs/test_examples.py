"""What the pages of findings show is what `upshift find` prints for the code above it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGES = sorted((Path(__file__).parents[2] / "docs" / "findings").glob("UP*.md"))
COMMAND = "$ upshift find shop.main:app\n"
EXAMPLE = re.compile(
    rf"```python\n(?P<code>.*?)```\n\n```console\n{re.escape(COMMAND)}(?P<output>.*?)```", re.DOTALL
)
EXAMPLES = {page.stem: found for page in PAGES if (found := EXAMPLE.search(page.read_text("utf-8")))}
MEASURED = re.compile(r"\b[\d.,]+(?= ms)|(?<=steps )[\d.,]+ → [\d.,]+")
"""Numbers that differ from one run, or one version of SQLite, to the next."""


@pytest.mark.parametrize("code", EXAMPLES)
def test_the_output_shown_is_what_find_prints(code, tmp_path):
    module = tmp_path / "shop" / "main.py"
    module.parent.mkdir()
    module.write_text(EXAMPLES[code]["code"], "utf-8")

    finished = subprocess.run(
        [sys.executable, "-m", "upshift", "find", "shop.main:app", "--fail-on", "never"],
        cwd=tmp_path,
        env={**os.environ, "COLUMNS": "80", "NO_COLOR": "1"},
        capture_output=True,
        check=False,
    )

    assert finished.returncode == 0, finished.stderr.decode()
    assert MEASURED.sub("N", finished.stdout.decode()) == MEASURED.sub("N", EXAMPLES[code]["output"])


def test_pages_have_examples():
    assert set(EXAMPLES) >= {"UP101", "UP201", "UP301"}
