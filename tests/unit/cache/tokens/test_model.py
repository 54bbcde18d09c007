"""The protocol serves nothing stale in any interleaving, and each simpler one does in some."""

import pytest

from tests.unit.cache.tokens.model import Mutant, check


@pytest.mark.parametrize(("writers", "readers", "reads"), [(2, 2, 2), (2, 3, 1), (3, 2, 1)], ids=str)
def test_no_schedule_serves_a_stale_value(writers, readers, reads):
    checked = check(writers=writers, readers=readers, reads=reads)

    assert checked.violation is None
    assert checked.states > 30_000  # it has looked


@pytest.mark.parametrize("mutant", [each for each in Mutant if each is not Mutant.NONE])
def test_a_schedule_is_found_in_which_a_simpler_protocol_does(mutant):
    violation = check(mutant).violation

    assert violation is not None
    assert violation.served < violation.committed
    assert "hits" in violation.schedule[-1]
