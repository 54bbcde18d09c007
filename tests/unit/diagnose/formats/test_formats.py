from __future__ import annotations

import pytest

from upshift.diagnose.formats import FORMATS


def test_the_formats_are_named_as_the_command_takes_them():
    assert list(FORMATS) == ["table", "json", "github", "sarif"]


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_prints_a_report_of_nothing(name, report):
    assert FORMATS[name](report())
