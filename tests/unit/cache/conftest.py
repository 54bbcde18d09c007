"""A cache in this process, which ends with the test."""

from __future__ import annotations

import pytest

from upshift.cache import Cache


@pytest.fixture
def cache():
    cache = Cache()
    yield cache
    cache.close()
