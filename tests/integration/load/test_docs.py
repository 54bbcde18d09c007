import re
from pathlib import Path
from typing import get_args

from upshift.load.tally import Failure

PAGE = Path(__file__).parents[3] / "docs" / "load.md"


def test_the_snippet_of_the_page_runs_against_a_server(serve):
    [snippet] = re.findall(r"```python no-run\n(.*?)```", PAGE.read_text(), re.DOTALL)
    exec(snippet.replace("http://localhost:8000", serve().url), {})


def test_every_error_kind_is_on_the_page():
    assert all(f"`{kind}`" in PAGE.read_text() for kind in get_args(Failure))
