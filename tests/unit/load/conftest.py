import pytest

from upshift.load import Report
from upshift.load.report import Counts, count
from upshift.load.tally import Tally


@pytest.fixture
def report():
    """A run with three answers, one refusal and one time-out."""
    tally = Tally()
    for _ in range(3):
        tally.answered(200, due=0, now=0.25, received_bytes=1_000)
    tally.answered(404, due=0, now=0.125, received_bytes=500)
    tally.failed("timeout", due=0, now=10)
    tally.sent = 5
    counts = count([tally])
    return Report(
        **counts,
        url="http://localhost:8000",
        model="open",
        connections=256,
        asked_rate=2.5,
        achieved_rate=2.0,
        seconds=2.0,
        lag_p99=0.0001,
        lagging=False,
        cpu_seconds=0.001,
        interrupted=False,
        by_request={"GET /a": Counts(**counts)},
    )
