"""With a Redis that goes away or forgets nothing stale is served; by simpler protocols it is."""

import pytest

from tests.unit.cache.tokens.outage_model import Mutant, check


@pytest.mark.parametrize(
    ("writers", "readers", "reads", "outages"), [(1, 2, 2, 1), (2, 1, 2, 1), (1, 1, 2, 2)], ids=str
)
def test_no_schedule_serves_a_stale_value(writers, readers, reads, outages):
    checked = check(Mutant.NONE, writers=writers, readers=readers, reads=reads, outages=outages)

    assert checked.schedule is None
    assert checked.states > 2_000  # it has looked


@pytest.mark.parametrize("mutant", [each for each in Mutant if each is not Mutant.NONE])
def test_a_schedule_is_found_in_which_a_simpler_protocol_does(mutant):
    schedule = check(mutant, writers=1, readers=2, reads=2).schedule

    assert schedule is not None
    assert "hits" in schedule[-1]
