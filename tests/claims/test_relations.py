"""The four relations: what holds, what is violated, and what cannot be told."""

import numpy as np
import pytest

from widthwise.claims import AtLeast, AtMost, Equal, Scaling, Status
from widthwise.numerics import Estimate

RNG = np.random.default_rng(0)
NOISE = RNG.normal(size=4000)


def status(relation, predicted, draws):
    return relation.judge(predicted, np.asarray(draws, dtype=float)).status


def test_equality_within_the_error_bar_holds():
    assert status(Equal(), Estimate(1.0, 0.0), 1.0 + 0.1 * NOISE) is Status.HOLDS


def test_equality_off_by_ten_standard_errors_is_violated():
    off = 10 * 0.1 / np.sqrt(NOISE.size)
    assert status(Equal(), Estimate(1.0, 0.0), 1.0 + off + 0.1 * NOISE) is Status.VIOLATED


def test_equality_without_power_is_inconclusive():
    assert status(Equal(), Estimate(1.0, 0.0), 1.0 + 3.0 * NOISE[:50]) is Status.INCONCLUSIVE


def test_a_deterministic_equality_has_the_bar_of_its_prediction():
    assert status(Equal(), Estimate(1.0, 1e-9), [1.0 + 0.9e-9]) is Status.HOLDS
    assert status(Equal(), Estimate(1.0, 1e-9), [1.0 + 1.1e-9]) is Status.VIOLATED
    assert status(Equal(), Estimate(1.0, 0.5), [1.0]) is Status.INCONCLUSIVE


def test_every_component_counts():
    assert status(Equal(), Estimate(np.ones(3), 1e-9), [[1.0, 1.0, 1.1]]) is Status.VIOLATED


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("relation", [Equal(), AtMost(), AtMost(of="mean"), AtLeast()])
def test_what_is_not_a_number_never_holds(relation, bad):
    draws = [bad if not isinstance(relation, AtLeast) else -bad]
    assert status(relation, Estimate(1.0, 0.1), draws) is Status.VIOLATED


def test_a_bound_for_every_draw_is_broken_by_one():
    draws = np.append(np.zeros(99), 1.1)
    assert status(AtMost(), Estimate(1.0, 0.0), draws) is Status.VIOLATED
    assert status(AtMost(of="mean"), Estimate(1.0, 0.0), draws) is Status.HOLDS


def test_a_bound_on_the_mean_near_its_edge_is_inconclusive():
    assert status(AtMost(of="mean"), Estimate(1.0, 0.0), 1.0 + NOISE) is Status.INCONCLUSIVE
    assert status(AtMost(of="mean"), Estimate(1.0, 0.0), 1.2 + NOISE) is Status.VIOLATED


def test_lower_bounds_mirror_upper_bounds():
    assert status(AtLeast(), Estimate(1.0, 0.0), [1.0, 2.0]) is Status.HOLDS
    assert status(AtLeast(), Estimate(1.0, 0.0), [0.9, 2.0]) is Status.VIOLATED


def test_slack_is_measured_over_bound():
    assert AtMost().judge(Estimate(2.0, 0.0), np.array([0.5])).slack == 0.25
    assert AtLeast().judge(Estimate(0.5, 0.0), np.array([2.0])).slack == 0.25


SIZES = (32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)


def powers(exponent, correction=4.0, spread=0.05, draws=60):
    sizes = np.array(SIZES)
    noise = np.random.default_rng(1).normal(size=(draws, sizes.size))
    return sizes**exponent * (1 + correction / sizes) * (1 + spread * noise)


def test_an_exponent_is_found_through_its_correction():
    assert status(Scaling(SIZES), Estimate(-0.5, 0.0), powers(-0.5)) is Status.HOLDS
    assert status(Scaling(SIZES), Estimate(-1.0, 0.0), powers(-0.5)) is Status.VIOLATED
    naive = np.polyfit(np.log(SIZES), np.log(powers(-0.5).mean(axis=0)), 1)[0]
    assert abs(naive + 0.5) > 0.02


def test_an_exponent_with_wide_error_is_inconclusive():
    assert status(Scaling(SIZES), Estimate(-0.5, 0.0), powers(-0.5, spread=3.0, draws=8)) is Status.INCONCLUSIVE
