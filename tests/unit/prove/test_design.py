"""A design that makes no sense is refused where it is written."""

import pytest

from upshift.errors import ProofError
from upshift.prove import Design


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"pairs": 0}, "pairs is 0; it must be from 1 to 500"),
        ({"pairs": 501}, "pairs is 501"),
        ({"requests": 0}, "requests is 0; it must be at least 1"),
        ({"min_requests": 0}, "min_requests is 0"),
        ({"rounds": 0}, "rounds is 0"),
        ({"warmup": -1}, "warmup is -1; it must be at least 0"),
        ({"connections": 0}, "connections is 0"),
        ({"budget_seconds": 0}, "budget_seconds is 0; it must be above 0"),
        ({"start_seconds": float("nan")}, "start_seconds is nan"),
        ({"timeout_seconds": -1}, "timeout_seconds is -1"),
        ({"margin": 1}, "margin is 1; it must be from 0 to below 1"),
        ({"confidence": 1}, "confidence is 1; it must be between 0 and 1"),
    ],
)
def test_a_value_out_of_range_is_named_with_its_range(wrong, message):
    with pytest.raises(ProofError, match=message):
        Design(**wrong)
