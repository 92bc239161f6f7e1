"""Conventions of the loss: each by its formula, and conversions by the paths that they leave alike."""

import math

import numpy as np
import pytest

from widthwise.numerics import CONVENTIONS, Loss, counted_loss, demand_count

R = np.random.default_rng(0).normal(size=(5, 3))
FORMULAS = {
    "half-sum": 0.5 * np.sum(R**2),
    "half-mean": 0.5 * np.mean(np.sum(R**2, axis=1)),
    "half-mean-entries": np.mean(0.5 * R**2),
    "sum": np.sum(R**2),
    "mean": np.mean(np.sum(R**2, axis=1)),
    "mean-entries": np.mean(R**2),
}


@pytest.mark.parametrize("name", CONVENTIONS)
def test_the_scale_is_that_of_the_formula(name):
    assert 0.5 * Loss(name, 5, 3).scale * np.sum(R**2) == pytest.approx(FORMULAS[name], rel=1e-14)


@pytest.mark.parametrize("name", CONVENTIONS)
@pytest.mark.parametrize("other", CONVENTIONS)
def test_converted_rates_and_decays_walk_the_same_path(name, other):
    ours, theirs = Loss(name, 5, 3), Loss(other, 5, 3)
    rate, decay = ours.rate(0.3, theirs), ours.weight_decay(0.01, theirs)
    assert rate * theirs.scale == pytest.approx(0.3 * ours.scale, rel=1e-14)
    assert rate * decay == pytest.approx(0.3 * 0.01, rel=1e-14)
    assert theirs.time(ours.time(2.0, theirs), ours) == pytest.approx(2.0, rel=1e-14)
    assert theirs.largest_rate(4.0) == pytest.approx(ours.rate(ours.largest_rate(4.0), theirs), rel=1e-14)


def test_a_loss_counts_what_the_data_have():
    assert counted_loss("mean", 5, 3) == counted_loss(Loss("mean", 5, 3), 5, 3) == Loss("mean", 5, 3)
    with pytest.raises(ValueError, match="Give loss='mean' alone"):
        counted_loss(Loss("mean", 5, 3), 5, 2)


def test_a_kernel_of_zero_is_stable_at_any_rate():
    assert Loss("sum", 3).largest_rate(0.0) == math.inf


def test_what_is_no_loss_is_refused():
    with pytest.raises(ValueError, match="did you mean 'half-mean'"):
        Loss("halfmean", 3)
    with pytest.raises(ValueError, match="examples is a whole number of at least 1"):
        Loss("sum", 0)
    with pytest.raises(ValueError, match="at least 0 and finite"):
        Loss("sum", 3).largest_rate(math.nan)
    for wrong in (1.5, True, -1, "3", np.array([3])):
        with pytest.raises(ValueError, match="whole number"):
            demand_count("steps", wrong)
    assert demand_count("steps", np.int64(3)) == 3


@pytest.mark.parametrize("name", ["mse", "MSELoss", "l2"])
def test_the_usual_name_of_a_mean_over_entries_is_understood(name):
    with pytest.raises(ValueError, match="is 'mean-entries'"):
        Loss(name, 3)
