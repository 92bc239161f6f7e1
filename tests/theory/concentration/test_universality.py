"""Interpolants on a circle of fixed height: the reference numbers, at every width, and what is refused."""

import numpy as np
import pytest

from widthwise.claims import Status, check
from widthwise.theory.concentration import approximate_on_slice, interpolate, on_slice
from widthwise.theory.concentration.universality_claims import CLAIMS, Wave
from widthwise.theory.infinite_width import rectifier_kernel
from widthwise.theory.infinite_width.feature_claims import CLAIMS as features
from widthwise.theory.infinite_width.universality_claims import CLAIMS as universality

CENTRES = (4, 8, 16, 32, 64, 128, 256)
CLAIM = {claim.id: claim for claim in CLAIMS}


def wave(phi):
    return np.cos(3 * phi)


def bump(phi):
    return np.exp(np.sin(2 * phi) + np.cos(phi))


@pytest.mark.parametrize(
    ("function", "errors"),
    [
        (wave, (1.715, 0.5835, 0.1478, 0.0373, 0.009324, 0.002333, 0.0005835)),
        (bump, (3.346, 1.163, 0.382, 0.0947, 0.02481, 0.006228, 0.001557)),
    ],
)
def test_errors_agree_with_the_reference(function, errors):
    found = approximate_on_slice(function, CENTRES)
    for error, printed in zip(found.errors, errors, strict=True):
        digits = len(str(printed).split(".")[1])
        assert error == pytest.approx(printed, abs=0.51 * 10.0**-digits)
    assert found.rate == pytest.approx(-2.0, abs=0.1)
    assert np.all(np.diff(found.norms) > 0)


def test_the_norm_agrees_with_the_reference():
    assert approximate_on_slice(wave, (32,)).norms[0] == pytest.approx(9.559051, abs=0.5e-6)


def test_odd_waves_are_missed_without_a_fixed_coordinate():
    odd = approximate_on_slice(wave, (16, 64, 256), height=0.0, cutoff=1e-10)
    np.testing.assert_allclose(odd.errors, 1.0, rtol=1e-9)
    even = approximate_on_slice(lambda phi: np.cos(2 * phi), (16, 64, 256), height=0.0, cutoff=1e-10)
    np.testing.assert_allclose(even.errors, [0.03495, 0.002162, 0.0001355], rtol=2.5e-4)


@pytest.mark.slow
def test_errors_at_finite_width_agree_with_the_reference():
    """The reference is the mean of 5 networks; its spread is taken to be that of ours."""
    found = approximate_on_slice(wave, (32,), (100, 1000, 10_000, 100_000), angles=501, draws=10, cutoff=1e-12)
    printed = np.array([0.347, 0.084, 0.0486, 0.0390])
    bar = 5 * 3**0.5 * found.width_errors.error
    assert np.all(np.abs(found.width_errors.value - printed) < bar)
    assert found.width_norms.value[-1] == pytest.approx(9.569, abs=5 * 10**0.5 * float(found.width_norms.error[-1]))
    assert "100000" in str(found)


def test_values_are_met_at_the_centres():
    nodes = 2 * np.pi * np.arange(9) / 9
    for width in (None, 300):
        f = interpolate(on_slice(nodes), bump(nodes), width=width)
        np.testing.assert_allclose(f(f.centres), bump(nodes), rtol=0, atol=1e-10)
        assert f.norm == pytest.approx(np.sqrt(bump(nodes) @ f.coefficients), rel=1e-9)


def test_a_finite_interpolant_is_a_tangent_function():
    nodes = 2 * np.pi * np.arange(9) / 9
    f, Z = interpolate(on_slice(nodes), wave(nodes), width=200, seed=3), on_slice(np.linspace(0.0, 6.0, 40))
    moved = f.displacement()
    assert f.weights is not None
    assert np.linalg.norm(moved) == pytest.approx(f.norm, rel=1e-10)
    tangent = np.sum((Z @ f.weights.T > 0) * (Z @ moved.T), axis=1) / np.sqrt(200)
    np.testing.assert_allclose(tangent, f(Z), rtol=0, atol=1e-10)


def test_an_interpolant_has_the_least_norm():
    """Any other function of the space with these values, here with one more centre, has a larger norm."""
    nodes = 2 * np.pi * np.arange(6) / 6
    f = interpolate(on_slice(nodes), wave(nodes))
    more = on_slice([*nodes, 0.3])
    other = interpolate(more, [*wave(nodes), 2.0])
    assert other.norm > f.norm
    K = rectifier_kernel(f.centres, f.centres)
    assert f.norm**2 == pytest.approx(wave(nodes) @ np.linalg.solve(K, wave(nodes)), rel=1e-10)


def test_equal_centres_share_the_mean_of_their_values():
    X = on_slice([0.0, 0.0, 2.0])
    np.testing.assert_allclose(interpolate(X, [1.0, 3.0, 0.0])(X), [2.0, 2.0, 0.0], rtol=0, atol=1e-12)


def test_an_infinite_network_moves_no_neuron():
    with pytest.raises(ValueError, match="Only the weights of finite networks move"):
        interpolate(on_slice([0.0]), [1.0]).displacement()


@pytest.mark.parametrize("y", [[1.0], [1.0, np.nan], [[1.0, 2.0]]])
def test_values_fit_their_centres(y):
    with pytest.raises(ValueError, match=r"Values are \(N,\) and finite\. Give one for each centre"):
        interpolate(on_slice([0.0, 1.0]), y)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"height": 1.0}, "The height lies in"),
        ({"height": np.nan}, "The height lies in"),
        ({"centres": ()}, "no centres"),
        ({"centres": (8, 0)}, "centres=0"),
        ({"widths": (0,)}, "width=0"),
        ({"draws": 0}, "draws=0"),
        ({"angles": 1}, "angles=1"),
    ],
)
def test_bad_input_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        approximate_on_slice(wave, **{"centres": (8,), **change})


def test_a_claim_about_the_kernel_is_one_about_lazy_training():
    known = {claim.id: claim for claim in (*features, *universality)}
    assert {known[f"LAZY-{k}"].field for k in (15, 16, 17)} == {"lazy-training"}


@pytest.mark.parametrize(
    ("setup", "reason"), [(Wave(height=0.0), "because the height is 0"), (Wave(width=20), "20 neurons are few")]
)
def test_claims_say_why_they_do_not_apply(setup, reason):
    verdict = check(CLAIM["LAZY-17b"], setup)
    assert verdict.status is Status.NOT_APPLICABLE
    assert reason in verdict.reasons[0]


def test_what_is_missed_is_told():
    equal = interpolate(on_slice([0.0, 0.0, 1.0]), [1.0, 3.0, 1.0])
    assert equal.residual == pytest.approx(1.0)
    assert interpolate([[0.0, 0.0], [0.0, 1.0]], [2.0, 1.0]).residual == 2.0
    assert repr(equal).startswith("Interpolant(3 centres, d=3, infinite width, norm ")
    with pytest.raises(ValueError, match=r"Like the centres they are \(k, 3\)"):
        equal([[1.0, 2.0]])


@pytest.mark.parametrize("cutoff", [-1e-3, 1.0, np.nan])
def test_a_cutoff_is_a_part_of_the_largest_singular_value(cutoff):
    with pytest.raises(ValueError, match=r"in \[0, 1\)"):
        interpolate(on_slice([0.0]), [1.0], cutoff=cutoff)


def test_rates_are_not_looked_for_at_widths_too_few():
    verdict = check(CLAIM["LAZY-17c"], Wave(centres=40, width=10**6))
    assert verdict.status is Status.NOT_APPLICABLE
    assert "250 neurons are few for 40 centres" in verdict.reasons[0]
