from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from upshift.testing.servers import PostgresServer

from .cluster import Cluster, cluster


@pytest.fixture(scope="session")
def database_cluster(postgres_server: PostgresServer) -> Iterator[Cluster]:
    if sys.platform != "linux":
        pytest.skip("the programs of the running server are found by /proc")
    with cluster(postgres_server) as made:
        yield made
