"""The adversary: it finds what is known, never leaves the ball, and never exceeds a bound that is one."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from widthwise.theory.lazy import Smoothness
from widthwise.theory.lazy.lipschitz import quadratic
from widthwise.theory.lazy.maps import QuadraticMap
from widthwise.theory.linearisation import adversarial_gap, departure, remainder_bound, sampled_gaps

RNG = np.random.default_rng(1)


def random_map(outputs=3, size=6):
    B = RNG.normal(size=(outputs, size, size))
    B = B + B.transpose(0, 2, 1)
    return QuadraticMap(jnp.asarray(RNG.normal(size=(outputs, size))), jnp.asarray(B)), quadratic(B)


def test_the_departure_of_a_quadratic_map_is_its_quadratic_part():
    f, _ = random_map()
    w0, delta = RNG.normal(size=(2, 6))
    expected = 0.5 * np.einsum("ipq,p,q->i", f.B, delta, delta)
    np.testing.assert_allclose(departure(f, w0, delta), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("count", [20, pytest.param(500, marks=pytest.mark.slow)])
def test_no_adversary_exceeds_a_certified_bound_and_half_a_constant_is_caught(count):
    """The unfolded constant of three outputs is at most root three too large, so half of it is always exceeded."""
    for number in range(count):
        f, beta = random_map()
        radius = float(10 ** RNG.uniform(-3, 2))
        found = adversarial_gap(f, RNG.normal(size=6), radius, jr.key(number), restarts=3, rounds=30)
        bound = remainder_bound(beta, radius).value
        assert found.gap <= bound + found.rounding
        assert found.gap > remainder_bound(beta.scaled(0.5), radius).value
        assert np.linalg.norm(found.displacement) <= radius


def test_the_supremum_of_one_quadratic_form_is_found():
    """It is attained at an eigenvector; ascent is slow to tell apart two eigenvalues of nearly one size."""
    for number in range(5):
        f, beta = random_map(outputs=1)
        found, bound = adversarial_gap(f, np.zeros(6), 0.7, jr.key(number)), remainder_bound(beta, 0.7).value
        assert 0.99 * bound < found.gap <= bound


def test_the_gap_is_that_of_the_displacement():
    f, _ = random_map()
    w0 = RNG.normal(size=6)
    found = adversarial_gap(f, w0, 0.3, jr.key(0))
    assert np.linalg.norm(departure(f, w0, found.displacement)) == pytest.approx(found.gap, rel=1e-12)


@pytest.mark.slow
def test_kinks_that_lie_away_from_the_start_are_found():
    """|w| at 0.3 is off by 2(|d| - 0.3) once d < -0.3; of twenty such coordinates some are to be moved alike."""
    w0 = np.linspace(0.1, 2.0, 20)
    found = adversarial_gap(lambda w: jnp.abs(w).sum()[None], w0, 1.0, jr.key(0))
    counts = np.arange(1, 21)
    exact = np.max(2 * (np.sqrt(counts) - np.cumsum(w0)))
    assert 0.95 * exact < found.gap <= exact * (1 + 1e-12)


@pytest.mark.parametrize("f", [lambda w: 3.0 * w + 1.0, lambda w: jnp.zeros(2)], ids=["affine", "constant"])
def test_what_is_linear_has_no_gap(f):
    found = adversarial_gap(f, np.ones(2), 10.0, jr.key(0))
    assert found.gap <= found.rounding
    assert np.all(sampled_gaps(f, np.ones(2), 10.0, jr.key(0)) <= 1e-13)


def test_a_ball_without_extent_has_no_gap():
    found = adversarial_gap(jnp.sin, np.ones(3), 0.0, jr.key(0))
    assert found.gap == 0.0
    assert not np.any(found.displacement)


def test_random_points_are_uniform_in_the_ball():
    r"""On a line $E\delta^2 = R^2/3$; in p dimensions $E\|\delta\|^2 = R^2p/(p+2)$."""
    for size in (1, 4):
        gaps = sampled_gaps(lambda w: jnp.sum(w**2)[None], np.zeros(size), 2.0, jr.key(3), count=200)
        assert abs(np.mean(gaps) - 4 * size / (size + 2)) < 5 * np.std(gaps) / np.sqrt(200)
        assert np.max(gaps) <= 4.0


def test_the_search_is_the_same_for_the_same_key():
    f, _ = random_map()
    first, second, third = (adversarial_gap(f, np.zeros(6), 1.0, jr.key(seed)) for seed in (4, 4, 5))
    np.testing.assert_array_equal(first.displacement, second.displacement)
    assert np.any(first.displacement != third.displacement)


def test_a_profile_is_integrated():
    r"""$\int_0^2(1 + \rho)\rho\,d\rho = 2 + 8/3$ from above, by at most the last of eight steps."""
    bound = remainder_bound(lambda radius: Smoothness(1.0 + radius, True, radius), 2.0)
    assert 2 + 8 / 3 <= bound.value <= (2 + 8 / 3) + 0.25 * 2.0
    assert bound.certified
    assert not remainder_bound(lambda radius: Smoothness(1.0, radius < 1.0, radius), 2.0).certified
    assert remainder_bound(Smoothness(np.inf, False), 0.0).value == 0.0


@pytest.mark.parametrize(
    ("w0", "radius", "options", "words"),
    [
        (np.ones((2, 2)), 1.0, {}, r"a start of shape \(2, 2\)\. It is a vector"),
        (np.zeros(0), 1.0, {}, r"a start of shape \(0,\)"),
        (np.array([np.nan]), 1.0, {}, r"with NaN or infinity"),
        (np.ones(2), -0.5, {}, r"radius=-0\.5"),
        (np.ones(2), np.inf, {}, r"radius=inf"),
        (np.ones(2), 1.0, {"restarts": 0}, r"restarts=0\. It is a whole number"),
        (np.ones(2), 1.0, {"rounds": True}, r"rounds=True"),
    ],
)
def test_what_is_refused(w0, radius, options, words):
    with pytest.raises(ValueError, match=words):
        adversarial_gap(jnp.sin, w0, radius, jr.key(0), **options)


def test_other_refusals():
    with pytest.raises(ValueError, match=r"count=0\."):
        sampled_gaps(jnp.sin, np.ones(2), 1.0, jr.key(0), count=0)
    with pytest.raises(ValueError, match=r"a map with the gap (nan|inf) within 1"):
        adversarial_gap(lambda w: jnp.where(w > -9.0, jnp.nan, w), np.ones(2), 1.0, jr.key(0))
    with pytest.raises(ValueError, match=r"radius=-1"):
        remainder_bound(Smoothness(1.0, True), -1.0)


def test_it_runs_in_double_precision_whatever_is_set():
    with jax.enable_x64(False):
        found = adversarial_gap(jnp.sin, [0.5], 1e-4, jr.key(0))
    assert found.gap == pytest.approx(0.5 * np.sin(0.5) * 1e-8, rel=1e-3)
