"""Verdicts are as sure as they say: exact intervals, symmetric judgement, few false alarms."""

import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upshift.prove.statistics import Ratio, Verdict, _trimmed, blocked_ratio, blocks_needed, judge

VALUES = st.floats(min_value=1e-6, max_value=1e6)
PAIRS = st.lists(st.tuples(VALUES, VALUES), min_size=6, max_size=30)
BLOCKS = st.lists(st.tuples(VALUES, VALUES, VALUES), min_size=1, max_size=30)


def noisy_blocks(rng, blocks, *, samples=3, deviation=0.06):
    """Equal programs on a real machine: noise, a drift that never returns, and hiccups, in random order."""
    shape = blocks * samples
    drift = np.cumsum(rng.normal(0, deviation / 2, shape))
    hiccups = np.where(rng.random(shape) < 0.05, rng.exponential(0.3, shape), 0)
    logs = (drift + rng.normal(0, deviation, shape) + hiccups).reshape(blocks, samples)
    return np.exp(rng.permuted(logs, axis=1))


quick_ratio = partial(blocked_ratio, resamples=100)
"""For invariants, which hold for every number of resamples."""


def verdicts(blocks, *, effect, comparisons):
    rng = np.random.default_rng(1)
    found = []
    for _ in range(comparisons):
        samples = noisy_blocks(rng, blocks)
        ratio = blocked_ratio(samples[:, :2].tolist(), (samples[:, 2] * effect).tolist())
        found.append(judge(ratio))
    return found


class TestRatio:
    def test_is_the_median_of_the_ratios_within_the_blocks(self):
        assert blocked_ratio([[1], [2], [10]], [3.0, 2.0, 20.0]).value == pytest.approx(2)

    def test_compares_the_head_with_each_base_sample_of_its_block(self):
        # The ratios are 4, 2, 8 and 4.
        assert blocked_ratio([[1, 2], [1, 2]], [4, 8]).value == pytest.approx(4)

    def test_ignores_what_blocks_have_in_common(self):
        drifting = [1.0, 10.0, 100.0, 1e3, 1e4, 1e5]
        ratio = blocked_ratio([[value] for value in drifting], [2 * value for value in drifting])
        assert (ratio.low, ratio.value, ratio.high) == pytest.approx((2, 2, 2))

    def test_is_not_moved_by_a_hiccup(self):
        base, head = [[1.0, 1.0]] * 20, [0.5] * 18 + [500.0] * 2
        assert judge(blocked_ratio(base, head)) is Verdict.FASTER

    @given(BLOCKS)
    def test_lies_within_its_interval(self, blocks):
        ratio = quick_ratio([block[:2] for block in blocks], [block[2] for block in blocks])
        assert ratio.low <= ratio.value <= ratio.high

    @given(PAIRS)
    def test_turns_over_when_base_and_head_change_places(self, pairs):
        base, head = zip(*pairs, strict=True)
        there = quick_ratio([[value] for value in base], head)
        back = quick_ratio([[value] for value in head], base)
        assert (back.low, back.value, back.high) == pytest.approx(
            (1 / there.high, 1 / there.value, 1 / there.low)
        )

    @given(PAIRS, st.floats(min_value=1e-3, max_value=1e3))
    def test_does_not_depend_on_the_unit(self, pairs, scale):
        base, head = zip(*pairs, strict=True)
        one = quick_ratio([[value] for value in base], head)
        other = quick_ratio([[value * scale] for value in base], [value * scale for value in head])
        assert (other.low, other.value, other.high) == pytest.approx((one.low, one.value, one.high))

    @given(PAIRS, st.floats(min_value=1e-3, max_value=1e3))
    def test_grows_with_the_head(self, pairs, factor):
        base, head = zip(*pairs, strict=True)
        one = quick_ratio([[value] for value in base], head)
        other = quick_ratio([[value] for value in base], [value * factor for value in head])
        assert (other.low, other.value, other.high) == pytest.approx(
            (one.low * factor, one.value * factor, one.high * factor)
        )

    def test_is_the_same_for_the_same_samples(self):
        samples = noisy_blocks(np.random.default_rng(0), 12).tolist()
        base, head = [block[:2] for block in samples], [block[2] for block in samples]
        assert blocked_ratio(base, head, seed=7) == blocked_ratio(base, head, seed=7)

    def test_has_a_wider_interval_at_higher_confidence(self):
        samples = noisy_blocks(np.random.default_rng(0), 20).tolist()
        base, head = [block[:2] for block in samples], [block[2] for block in samples]
        narrow, wide = (blocked_ratio(base, head, confidence=level) for level in (0.9, 0.999))
        assert wide.low < narrow.low < narrow.high < wide.high

    def test_has_no_infinity_in_json(self):
        assert blocked_ratio([[1.0]], [2.0]).to_dict() == {
            "value": pytest.approx(2),
            "low": None,
            "high": None,
            "confidence": 0.95,
            "blocks": 1,
        }

    @pytest.mark.parametrize(
        ("base", "head"),
        [
            ([], []),
            ([[1.0]], [1.0, 2.0]),
            ([[1.0], [1.0, 2.0]], [1.0, 2.0]),
            ([[]], [1.0]),
            ([[0.0]], [1.0]),
            ([[1.0]], [-1.0]),
            ([[1.0]], [math.nan]),
            ([[math.inf]], [1.0]),
        ],
    )
    def test_refuses_samples_that_have_no_ratio(self, base, head):
        with pytest.raises(ValueError, match=r"a ratio needs|every block needs"):
            blocked_ratio(base, head)


class TestFewBlocks:
    @pytest.mark.parametrize("replicates", [1, 2, 3])
    @pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
    def test_have_no_interval_below_the_number_needed(self, replicates, confidence):
        needed = blocks_needed(replicates, confidence)
        short = blocked_ratio(
            [[1.0] * replicates] * (needed - 1), [9.0] * (needed - 1), confidence=confidence
        )
        enough = blocked_ratio([[1.0] * replicates] * needed, [9.0] * needed, confidence=confidence)
        assert (short.bounded, enough.bounded) == (False, True)

    def test_are_inconclusive_however_large_the_difference(self):
        assert judge(blocked_ratio([[1.0, 1.0]] * 3, [1e6] * 3)) is Verdict.INCONCLUSIVE

    def test_need_every_ratio_to_clear_the_margin_when_just_enough(self):
        assert judge(blocked_ratio([[1.0, 1.0]] * 4, [1.5] * 4)) is Verdict.SLOWER
        assert judge(blocked_ratio([[1.0, 1.0]] * 4, [1.5, 1.5, 1.5, 1.01])) is Verdict.INCONCLUSIVE


class TestExactInterval:
    def test_is_the_textbook_interval_of_the_sign_test(self):
        # Binomial table, p = 1/2: P(K <= 5) = 0.0207 for n = 20, P(K <= 1) = 0.0107 for n = 10.
        assert (_trimmed(20, 1, 0.025), _trimmed(10, 1, 0.025), _trimmed(5, 1, 0.025)) == (5, 1, None)

    @pytest.mark.parametrize(("blocks", "replicates"), [(4, 2), (5, 2), (6, 1), (7, 3)])
    def test_counts_the_ranks_of_the_head_in_all_orders(self, blocks, replicates):
        ranks = np.indices((replicates + 1,) * blocks).reshape(blocks, -1).sum(axis=0)
        trimmed = _trimmed(blocks, replicates, 0.025)
        assert (ranks <= trimmed).mean() <= 0.025 < (ranks <= trimmed + 1).mean()


class TestVerdict:
    @pytest.mark.parametrize(
        ("low", "high", "verdict"),
        [
            (0.5, 0.97, Verdict.FASTER),
            (0.5, 0.99, Verdict.INCONCLUSIVE),  # below 1, but not by the margin
            (0.9, 1.1, Verdict.INCONCLUSIVE),
            (1.01, 1.5, Verdict.INCONCLUSIVE),
            (1.03, 1.5, Verdict.SLOWER),
        ],
    )
    def test_needs_the_whole_interval_to_clear_the_margin(self, low, high, verdict):
        assert judge(Ratio(1.0, low, high, 0.95, 20), margin=0.02) is verdict

    def test_knows_that_more_throughput_is_faster(self):
        assert judge(Ratio(1.5, 1.4, 1.6, 0.95, 20), more_is_better=True) is Verdict.FASTER
        assert judge(Ratio(0.5, 0.4, 0.6, 0.95, 20), more_is_better=True) is Verdict.SLOWER

    @given(st.floats(0.1, 10), st.floats(0.1, 10), st.floats(0, 0.5))
    def test_turns_over_when_base_and_head_change_places(self, one, other, margin):
        low, high = sorted((one, other))
        swapped = {Verdict.FASTER: Verdict.SLOWER, Verdict.SLOWER: Verdict.FASTER}
        there = judge(Ratio(1.0, low, high, 0.95, 20), margin=margin)
        back = judge(Ratio(1.0, 1 / high, 1 / low, 0.95, 20), margin=margin)
        bounds = (1 + margin, 1 / (1 + margin))
        near = any(end == pytest.approx(bound) for end in (low, high) for bound in bounds)
        assert near or back is swapped.get(there, there)


class TestErrorRates:
    """Simulated comparisons, with fixed seeds: these figures are counted, not timed."""

    @pytest.mark.parametrize(("blocks", "comparisons"), [(5, 1_000), (20, 300)])
    def test_at_most_one_in_twenty_equal_programs_gets_a_verdict(self, blocks, comparisons):
        found = verdicts(blocks, effect=1.0, comparisons=comparisons)
        assert found.count(Verdict.INCONCLUSIVE) >= 0.95 * comparisons

    @pytest.mark.parametrize(("effect", "verdict"), [(1.1, Verdict.SLOWER), (1 / 1.1, Verdict.FASTER)])
    def test_ten_percent_more_or_less_is_found_by_twenty_pairs(self, effect, verdict):
        found = verdicts(20, effect=effect, comparisons=150)
        assert found.count(verdict) >= 0.8 * 150
