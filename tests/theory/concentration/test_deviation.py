"""Deviations of finite kernels: bounds against networks, the reference numbers, and what is refused."""

import numpy as np
import pytest

from widthwise.activations import activation
from widthwise.claims import Status, check
from widthwise.theory.concentration import kernel_deviation, limit_kernel
from widthwise.theory.concentration.deviation import matrix_variance, mean_kernel, summand_bound
from widthwise.theory.concentration.deviation_claims import CLAIMS, Features, _features

CLAIM = {claim.id: claim for claim in CLAIMS}


def units(count: int, d: int, seed: int = 0) -> np.ndarray:
    X = np.random.default_rng(seed).normal(size=(count, d))
    return X / np.linalg.norm(X, axis=1)[:, None]


X = units(15, 20)


@pytest.mark.parametrize(("width", "printed"), [(200, 0.839), (3200, 0.852)])
def test_deviations_agree_with_the_reference(width, printed):
    """The reference is the mean of 60 networks on other inputs of the same law, to some percent."""
    found = kernel_deviation("tanh", X, width)
    measured = float(found.measured.value) / np.sqrt(15 / width)
    spread = float(found.measured.error) / np.sqrt(15 / width)
    # Five standard errors of either mean, and as much as between the four widths of the reference.
    assert measured == pytest.approx(printed, abs=5 * 2**0.5 * spread + 0.03)
    # The reference: bound over mean about 4.6, and 1.5 to 2 times less with the exact variance.
    assert 3.5 < found.bound / found.measured.value < 5.5
    assert 1.4 < found.bound / found.exact_bound.value < 2.0


def test_the_bounds_are_those_of_the_formula():
    found = kernel_deviation("tanh", X, 800, 0.01, draws=5)
    n, logarithm = 15, np.log(2 * 15 / 0.01)
    norm = np.linalg.norm(found.limit.value, 2)
    linear = n * logarithm / (3 * 800)
    assert found.bound == pytest.approx(linear + np.sqrt(linear**2 + 2 * n * norm * logarithm / 800), rel=1e-8)
    # The statement with two separate terms is a little weaker.
    assert found.bound <= np.sqrt(2 * n * norm * logarithm / 800) + 2 * linear


@pytest.mark.parametrize("kernel", ["readout", "hidden", "both"])
def test_bounds_hold_for_every_kernel(kernel):
    found = kernel_deviation("tanh", X, 300, 1e-4, kernel=kernel, draws=40)
    assert np.max(found.draws) < found.exact_bound.value < found.bound
    assert found.quantile <= np.max(found.draws)
    assert 0 < found.exact_bound.error < 0.02 * found.exact_bound.value
    # The variance is a lower bound of the mean square, and is below its own bound.
    squares = found.draws**2
    assert found.variance.value <= np.mean(squares) + 5 * np.std(squares) / np.sqrt(40)
    assert found.variance.value < found.bernstein.variance


def test_the_exact_variance_of_one_input():
    """One unit input and the sine: M is a number of known variance."""
    limit = mean_kernel(np.eye(1), activation("sin"), "readout")
    rng = np.random.default_rng(0)
    found = matrix_variance(rng, activation("sin"), np.eye(1), 10, np.asarray(limit.value), "readout")
    exact = (3 - 4 * np.exp(-2) + np.exp(-8)) / 8 - (0.5 * (1 - np.exp(-2))) ** 2
    assert limit.value[0, 0] == pytest.approx(0.5 * (1 - np.exp(-2)), abs=1e-12)
    assert abs(10 * found.value - exact) < 5 * 10 * found.error < 0.05 * exact


@pytest.mark.slow
def test_the_series_and_the_dual_have_the_same_mean():
    for kernel in ("readout", "hidden"):
        series, dual = mean_kernel(X, activation("relu"), kernel), limit_kernel(X, activation("relu"), kernel)
        assert np.max(np.abs(series.value - dual.value)) <= float(series.error) + float(dual.error)


def test_without_a_bound_deviations_are_measured_all_the_same():
    found = kernel_deviation("relu", X, 100, draws=5)
    assert found.bound == found.exact_bound.value == np.inf
    assert found.exact_bound.error == 0.0
    assert 0 < found.measured.value < np.inf
    assert "no bound: a readout kernel needs a bounded activation; relu is not" in str(found)
    assert "bounded by" in str(kernel_deviation("relu", X, 100, draws=5, kernel="hidden"))


def test_an_input_of_zero_has_no_deviation():
    found = kernel_deviation("tanh", np.zeros((2, 3)), 10, draws=3)
    np.testing.assert_array_equal(found.draws, 0.0)
    assert found.bound >= found.exact_bound.value >= 0


def test_the_seed_decides():
    one, same, other = (kernel_deviation("tanh", X, 50, draws=3, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.draws, same.draws)
    assert not np.any(one.draws == other.draws)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 0}, r"width=0\. width is a whole number of at least 1"),
        ({"draws": 1}, r"draws=1\. draws is a whole number of at least 2"),
        ({"delta": 0.0}, "A probability of failure lies between 0 and 1"),
        ({"kernel": "all"}, "kernel='all'"),
        ({"X": [[np.inf, 0.0]]}, "Inputs are finite numbers"),
        ({"X": np.zeros((0, 2))}, "X of shape"),
    ],
)
def test_bad_input_is_refused(change, message):
    given = {"activation": "tanh", "X": X, "width": 10, **change}
    with pytest.raises(ValueError, match=message):
        kernel_deviation(given.pop("activation"), given.pop("X"), given.pop("width"), **given)


@pytest.mark.slow
@pytest.mark.parametrize(("count", "tanh", "cos"), [(10, 0.63, 1.01), (40, 0.88, 1.81), (160, 1.00, 3.65)])
def test_the_printed_rate_needs_a_mean_of_zero(count, tanh, cos):
    """On 400-dimensional inputs at width 4000; the reference is the mean of 6 networks."""
    for name, printed in (("tanh", tanh), ("cos", cos)):
        found = kernel_deviation(name, units(count, 400), 4000, draws=12)
        unit = np.sqrt(count / 4000)
        bar = 5 * (1 / 12 + 1 / 6) ** 0.5 * np.std(found.draws, ddof=1) / unit
        assert found.measured.value / unit == pytest.approx(printed, abs=bar + 0.05 * printed)


@pytest.mark.parametrize(
    ("claim", "setup", "reason"),
    [
        ("LAZY-36", _features("relu", width=100), "the activation relu is not bounded"),
        ("LAZY-36e", Features(X, activation("exp"), 10, "hidden"), "the slope of activation exp is not bounded"),
        ("LAZY-36b", _features(count=41), "because 200 neurons are few for 41 inputs"),
        ("LAZY-36c", _features("cos"), "because there are 15"),
        ("LAZY-36c", _features("tanh", 192, 200, 10), "the mean of tanh over the weights is small"),
    ],
)
def test_claims_say_why_they_do_not_apply(claim, setup, reason):
    verdict = check(CLAIM[claim], setup)
    assert verdict.status is Status.NOT_APPLICABLE
    assert reason in verdict.reasons[0]


@pytest.mark.parametrize(("name", "X", "kernel"), [("sign", X, "hidden"), ("relu", 0 * X, "readout")])
def test_a_kernel_of_zero_has_no_variance_whatever_the_bound(name, X, kernel):
    found = kernel_deviation(name, X, 10, draws=3, kernel=kernel)
    assert found.bernstein.variance == 0.0
    np.testing.assert_array_equal(found.draws, 0.0)
    assert summand_bound(activation("exp"), 0 * X, "hidden") == 0.0


def test_few_draws_have_a_largest_and_no_quantile():
    found = kernel_deviation("tanh", X, 50, 0.05, draws=10)
    assert f"{np.max(found.draws):.4g} in the largest" in str(found)
    assert "at most" in str(kernel_deviation("tanh", X, 50, 0.2, draws=10))
    assert repr(found).startswith("KernelDeviation(readout kernel of tanh, 15 inputs, width 50: measured ")


def test_long_inputs_have_the_error_of_their_series(monkeypatch):
    def refuse(*_):
        raise ValueError

    monkeypatch.setattr("widthwise.theory.concentration.deviation.limit_kernel", refuse)  # as it does after a minute
    long = 10 * np.array([[1.0, 0.0], [1.0, 1e-3]])
    found = mean_kernel(long, activation("tanh"), "readout")
    z = np.linspace(-9, 9, 20001)
    exact = np.trapezoid(np.tanh(10 * z) ** 2 * np.exp(-0.5 * z**2), z) / np.sqrt(2 * np.pi)
    assert abs(found.value[0, 0] - exact) <= float(found.error) + 1e-12
