"""Where the report goes: a place that cannot be written to is told before the work begins."""

import pytest

from upshift.cli.demo.page import check_place
from upshift.errors import UpshiftError


def test_a_place_that_can_be_written_to_is_left_as_it_is(tmp_path):
    (tmp_path / "old.html").write_text("old")

    check_place(tmp_path / "old.html")
    check_place(tmp_path / "new.html")

    assert [file.name for file in tmp_path.iterdir()] == ["old.html"]
    assert (tmp_path / "old.html").read_text() == "old"


@pytest.mark.parametrize("name", ["nowhere/report.html", "file/report.html", "x" * 300])
def test_a_place_that_cannot_be_written_to_is_told(tmp_path, name):
    (tmp_path / "file").touch()

    with pytest.raises(UpshiftError, match=r"the report cannot be written to .*: "):
        check_place(tmp_path / name)
