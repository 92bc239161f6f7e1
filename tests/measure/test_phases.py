"""The states of a training from made-up records."""

import math

import numpy as np
import pytest

from widthwise.measure.phases import CATAPULT, DIVERGENT, EDGE, SHARPENING, STABLE, Moment, Phase, advanced, advice

NAN = float("nan")


def followed(rows, threshold=10.0):
    """Statuses after each (step, loss, margin) or (step, loss, margin, ntk margin, threshold)."""
    phase, moments, seen = Phase(), [], []
    for row in rows:
        step, loss, margin, ntk, limit = (*row, *(row[2], threshold)[len(row) - 3 :])
        moments.append(Moment(step, loss, margin, ntk, limit))
        phase = advanced(phase, moments)
        seen.append(phase.status)
        assert advice(phase, moments).endswith(".")
    return seen, phase, moments


def test_a_steady_training_is_stable():
    seen, phase, _ = followed([(t, 0.9**t, 0.5) for t in range(20)])
    assert {*seen} == {STABLE} and phase.crossing is None


def test_a_rising_sharpness_is_seen_before_it_crosses_and_the_crossing_is_placed_between_records():
    seen, phase, moments = followed([(10 * t, 1.0, 0.3 + 0.1 * t) for t in range(9)])
    assert seen[4] == SHARPENING and seen[-1] == EDGE
    assert phase.crossing == pytest.approx(70.0)
    assert "falls to it in 10 steps" in advice(Phase(SHARPENING), moments[:7])


def test_an_edge_is_left_when_the_sharpness_falls():
    rows = [(t, 1.0, 0.6 + 0.1 * t) for t in range(5)] + [(5 + t, 0.9, 1.0 + 0.1 * math.sin(t)) for t in range(20)]
    seen, *_ = followed(rows)
    assert {*seen[6:]} == {EDGE}
    assert followed([*rows, (30, 0.5, 0.7)])[0][-1] == STABLE
    assert followed([*rows, *((30 + t, 0.5, 0.9) for t in range(40))])[0][-1] == STABLE


@pytest.mark.parametrize(("margin", "first"), [(1.1, CATAPULT), (1.9, CATAPULT), (2.5, DIVERGENT)])
def test_the_first_word_is_that_of_two_layer_networks(margin, first):
    assert followed([(0, 1.0, margin)])[0] == [first]


def test_a_fall_of_the_curvature_overrules_the_first_word():
    seen, *_ = followed([(0, 1.0, 3.0), (1, 4.5, 2.9), (2, 10.0, 1.2), (3, 3.0, 0.8), (4, 0.5, 0.8)])
    assert seen == [DIVERGENT, CATAPULT, CATAPULT, CATAPULT, STABLE]


def test_a_rise_of_the_curvature_overrules_the_first_word():
    seen, *_ = followed([(0, 1.0, 1.5), (1, 3.0, 1.5), (2, 9.0, 1.8)])
    assert seen == [CATAPULT, CATAPULT, DIVERGENT]


def test_the_tangent_kernel_decides_where_it_is_known():
    seen, *_ = followed([(0, 1.0, 1.5, 1.5, 10.0), (1, 9.0, 1.9, 1.4, 10.0)])
    assert seen[-1] == CATAPULT
    seen, *_ = followed([(0, 1.0, 1.5, NAN, 10.0), (1, 9.0, 1.9, NAN, 10.0)])
    assert seen[-1] == DIVERGENT


def test_a_rate_that_is_raised_throws_the_training_off_an_edge_does_not_begin():
    seen, phase, _ = followed([(0, 1.0, 0.5, 0.5, 10.0), (1, 1.0, 1.5, 1.5, 3.3)])
    assert seen[-1] == CATAPULT and phase.crossing is None


@pytest.mark.parametrize("row", [(1, np.nan, 0.5), (1, np.inf, 0.5), (1, 2e6, 0.5), (1, 1.0, np.nan)])
def test_what_is_not_finite_or_has_exploded_is_divergent(row):
    assert followed([(0, 1.0, 0.5), row])[0][-1] == DIVERGENT


def test_advice_after_numbers_that_are_not_finite_does_not_blame_the_rate():
    *_, moments = followed([(0, 1.0, 0.5), (1, np.nan, np.nan)])
    assert "no longer a finite number" in advice(Phase(DIVERGENT), moments)
    *_, moments = followed([(0, 1.0, 3.0), (1, np.nan, np.nan)])
    assert "at least 3" in advice(Phase(DIVERGENT, since=moments[0]), moments)
