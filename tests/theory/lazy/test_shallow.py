"""The shallow case study against its reference numbers and against differentiation."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy.integrate import quad

from widthwise.activations import ACTIVATIONS, activation
from widthwise.claims import Status, check
from widthwise.theory.lazy.landscapes import unit_inputs
from widthwise.theory.lazy.lipschitz import shallow as certified
from widthwise.theory.lazy.shallow import Shallow, draw_shallow, jacobian, slopes, tangent_gram
from widthwise.theory.lazy.shallow_claims import CLAIMS, Case
from widthwise.theory.lazy.shallow_limits import lazy_width, limit_gram, mean_initial_risk, mean_square, singular_limits

X, TANH = unit_inputs(10, 5), activation("tanh")
Y = jnp.linspace(-1.0, 1.0, 10)
CLAIM = {claim.id: claim for claim in CLAIMS}


@pytest.mark.parametrize("name", ["tanh", "gelu", "relu", "sigmoid"])
def test_the_gram_formula_agrees_with_differentiation(name):
    net = draw_shallow(jr.key(0), 40, 5, activation(name), scale=0.3)
    J = jacobian(net, X)
    assert J.shape == (10, 200)
    # Sums of 40 terms in two orders.
    np.testing.assert_allclose(tangent_gram(net, X), J @ J.T, rtol=0, atol=1e-14)


def test_the_jacobian_is_the_printed_one():
    net = draw_shallow(jr.key(1), 4, 5, TANH, scale=2.0)
    printed = 2.0 * np.einsum("j,ij,id->ijd", net.signs, slopes(net, X), X).reshape(10, 20)
    np.testing.assert_allclose(jacobian(net, X), printed, rtol=0, atol=1e-15)


def test_outputs_at_other_weights():
    net = draw_shallow(jr.key(1), 4, 5, TANH)
    np.testing.assert_array_equal(net.at(net.W.ravel()).outputs(X), net.outputs(X))
    np.testing.assert_array_equal(net.at(jnp.zeros(20)).outputs(X), 0.0)


@pytest.mark.parametrize(
    ("form", "value"), [("frobenius", 2.4343224778), ("schur", 1.5179947071), ("flattened", 1.3533561964)]
)
def test_the_smoothness_bounds_agree_with_the_reference(form, value):
    # The certified constants carry a margin of 1e-10; ten decimals are printed.
    assert certified(X, np.ones(1), TANH, 1.0, form).value == pytest.approx(value, abs=0.5e-10 + 1.1e-10 * value)


def test_the_limits_of_the_singular_values():
    limits = singular_limits(X, TANH)
    # The reference, 0.1824621542 and 1.2765426140, used Gauss-Hermite rules of 80 nodes, which are off by 2e-8 here;
    # these are from trapezoid rules on a fine grid, which converge geometrically.
    z = np.linspace(-9.5, 9.5, 400)
    weights = np.exp(-0.5 * z**2) * (z[1] - z[0]) / np.sqrt(2 * np.pi)
    G = np.minimum(np.asarray(X @ X.T), 1.0)
    slope = 1.0 / np.cosh(z) ** 2

    def mean(rho):
        other = 1.0 / np.cosh(rho * z[:, None] + np.sqrt(1 - rho**2) * z[None]) ** 2
        return (weights * slope) @ other @ weights

    exact = np.sqrt(np.linalg.eigvalsh(G * np.vectorize(mean)(G))[[0, -1]])
    np.testing.assert_allclose(limits.value, exact, rtol=0, atol=1e-12)
    np.testing.assert_allclose(limits.value, [0.1824621542, 1.2765426140], rtol=0, atol=2e-8)


@pytest.mark.parametrize("name", ["tanh", "relu"])
def test_the_limit_is_the_mean_kernel(name):
    act = activation(name)
    limit = limit_gram(X, act)
    draw = jax.jit(jax.vmap(lambda k: tangent_gram(draw_shallow(k, 400, 5, act, scale=0.05), X)))
    nets = draw(jr.split(jr.key(2), 300))
    error = np.std(nets, axis=0) / np.sqrt(300)
    assert np.max(error) < 0.01 * np.max(limit.value)
    assert np.max(np.abs(np.mean(nets, axis=0) - limit.value) / error) < 5


def test_the_limit_for_inputs_of_different_lengths():
    """Identity: all slopes are 1, so the limit is the Gram matrix itself."""
    long = X * jnp.linspace(0.2, 3.0, 10)[:, None]
    np.testing.assert_allclose(limit_gram(long, activation("identity")).value, long @ long.T, rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", ["tanh", "relu"])
def test_an_input_of_zero_has_no_kernel(name):
    value = limit_gram(jnp.zeros((3, 2)).at[0, 0].set(1.0).at[1, 1].set(-2.0), activation(name)).value
    np.testing.assert_array_equal(value[2], 0.0)
    assert np.all(np.isfinite(value))


def test_the_mean_square_of_tanh():
    # An independent quadrature; the reference 0.3942944906 is off by 2e-10, the error of its 80 Gauss-Hermite nodes.
    exact = quad(lambda z: np.tanh(z) ** 2 * np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi), -12, 12, epsabs=1e-13)[0]
    np.testing.assert_allclose(mean_square(X, TANH), exact, rtol=0, atol=1e-13)
    assert exact == pytest.approx(0.3942944906, abs=3e-10)
    np.testing.assert_allclose(mean_square(3.0 * X, activation("relu")), 4.5, rtol=1e-14)


@pytest.mark.parametrize(("width", "alpha"), [(50, 1.0), (200, 0.5)])
def test_the_mean_initial_risk_agrees_with_the_reference(width, alpha):
    assert mean_initial_risk(X, Y, width, TANH, alpha) == pytest.approx(100.61066, abs=0.5e-5)


def test_the_scale_enters_like_alpha():
    scaled = mean_initial_risk(X, Y, 50, TANH, alpha=2.0, scale=0.3)
    assert scaled == pytest.approx(mean_initial_risk(X, Y, 50, TANH, alpha=0.6), rel=1e-14)


def test_the_widths_that_are_enough():
    assert lazy_width(X, TANH) == pytest.approx(26062, abs=0.5)
    assert lazy_width(X, TANH, "frobenius", "printed") == pytest.approx(5.94e8, rel=1e-3)
    assert lazy_width(X, activation("relu")) == np.inf


@pytest.mark.parametrize(("width", "dim"), [(0, 3), (4, 0), (-1, 3)])
def test_a_network_has_neurons_and_inputs(width, dim):
    with pytest.raises(ValueError, match=rf"width={width}, dim={dim}\. Both are .* at least 1\. Give"):
        draw_shallow(jr.key(0), width, dim, TANH)


def test_an_unknown_theorem_is_refused():
    with pytest.raises(ValueError, match=r"theorem='8.1'\. The theorems are 'ball' and 'printed'\. Choose"):
        lazy_width(X, TANH, theorem="8.1")


def test_signs_are_plus_and_minus_one():
    net = draw_shallow(jr.key(0), 1000, 2, TANH)
    assert isinstance(net, Shallow)
    np.testing.assert_array_equal(np.abs(net.signs), 1.0)
    # Five standard errors of a fair coin.
    assert abs(float(jnp.mean(net.signs))) < 5 / np.sqrt(1000)


@pytest.mark.parametrize(
    ("claim", "setup", "reason"),
    [
        ("LAZY-24", Case(X, Y, ACTIVATIONS["relu"]), "no such bound because the activation relu has a kink at 0"),
        ("LAZY-25", Case(jnp.concatenate([X, X[:1]]), jnp.ones(11), TANH), "the limiting kernel is singular because"),
        ("LAZY-25b", Case(X, Y, TANH, width=50), "because m = 50 is below 20 n"),
    ],
)
def test_claims_say_why_they_do_not_apply(claim, setup, reason):
    verdict = check(CLAIM[claim], setup)
    assert verdict.status is Status.NOT_APPLICABLE
    assert reason in verdict.reasons[0]
