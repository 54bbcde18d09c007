from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest
import sqlalchemy as sa

from upshift.errors import IndexAdviceError
from upshift.sql.indexes.advisor import advise


def test_a_database_of_another_kind_is_named():
    driver = SimpleNamespace(paramstyle="format", VERSION=(1, 0, 0))
    engine = sa.create_engine("mysql+pymysql://", module=driver)
    with pytest.raises(IndexAdviceError, match="mysql"):
        advise(engine, [])


def test_without_sqlglot_the_extra_is_named_and_the_room_still_opens():
    code = "import sys; sys.modules['sqlglot'] = None; import upshift.sql; import upshift.sql.indexes.advisor"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install 'upshift[find]'" in ended.stderr.splitlines()[-1]
