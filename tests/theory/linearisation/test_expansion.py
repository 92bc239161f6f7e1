"""Features and expansions of a shallow network against differentiation, reference numbers, and the claims' refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from widthwise.activations import activation
from widthwise.claims import Status, check
from widthwise.theory.infinite_width import taylor_model
from widthwise.theory.infinite_width.shallow_setups import Shallows, shallows
from widthwise.theory.lazy import Shallow, draw_shallow, tangent, tangent_gram
from widthwise.theory.lazy.shallow import jacobian
from widthwise.theory.linearisation import expansion_at_zero, feature_map, least_norm_solution, start_scales
from widthwise.theory.linearisation.function_claims import Drawn

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("name", ["relu", *(pytest.param(name, marks=pytest.mark.slow) for name in ("tanh", "gelu"))])
def test_the_features_are_the_gradient(name):
    net, X = draw_shallow(jax.random.key(0), 20, 4, activation(name), 20**-0.5), jnp.asarray(RNG.normal(size=(5, 4)))
    features = feature_map(net, X)
    np.testing.assert_allclose(features, jacobian(net, X), rtol=0, atol=1e-15)
    np.testing.assert_allclose(features @ features.T, tangent_gram(net, X), rtol=0, atol=1e-14)
    W = net.W + 0.3
    along = np.asarray(net.outputs(X)) + features @ np.full(80, 0.3)
    np.testing.assert_allclose(taylor_model(net, X, W), along, rtol=0, atol=1e-14)


def test_the_expansion_at_zero_is_that_of_the_network_with_zero_weights():
    net, X = draw_shallow(jax.random.key(0), 7, 2, activation("sigmoid"), 2.0), jnp.asarray(RNG.normal(size=(4, 2)))
    w = net.W.ravel()
    value, along = jax.jvp(lambda w: net.at(w).outputs(X), (jnp.zeros_like(w),), (w,))
    np.testing.assert_allclose(expansion_at_zero(net, X), value + along, rtol=0, atol=1e-14)


def test_the_two_solutions_of_the_reference():
    """The random example: they are 1.467 apart, both fit, and each is the nearest in its own way."""
    rng = np.random.default_rng(0)
    J, w0, f0, y = rng.normal(size=(4, 9)), rng.normal(size=9), rng.normal(size=4), rng.normal(size=4)
    least, flow = least_norm_solution(J, f0, w0, y), w0 + np.asarray(tangent(J, f0, y).displacement(jnp.inf))
    assert np.linalg.norm(least - flow) == pytest.approx(1.467, abs=0.5e-3)
    for one in (least, flow):
        np.testing.assert_allclose(f0 + J @ (one - w0), y, rtol=0, atol=1e-13)
    assert np.linalg.norm(least) < np.linalg.norm(flow)
    assert np.linalg.norm(least - w0) > np.linalg.norm(flow - w0)
    P = np.linalg.pinv(J) @ J
    np.testing.assert_allclose(flow, least + w0 - P @ w0, rtol=0, atol=1e-13)
    np.testing.assert_allclose(np.linalg.pinv(J).T @ J.T, np.eye(4), rtol=0, atol=1e-14)


def test_the_two_solutions_are_equal_where_the_start_lies_in_the_range():
    J, f0, y = RNG.normal(size=(3, 7)), RNG.normal(size=3), RNG.normal(size=3)
    w0 = J.T @ RNG.normal(size=3)
    flow = w0 + np.asarray(tangent(J, f0, y, 2.5).displacement(jnp.inf))
    np.testing.assert_allclose(least_norm_solution(J, f0, w0, y, 2.5), flow, rtol=0, atol=1e-12)


def test_more_targets_than_parameters_are_fitted_by_least_squares():
    J, f0, y = RNG.normal(size=(6, 2)), RNG.normal(size=6), RNG.normal(size=6)
    found = least_norm_solution(J, f0, np.zeros(2), y)
    np.testing.assert_allclose(J.T @ (f0 + J @ found - y), 0.0, atol=1e-13)
    twice = least_norm_solution(np.ones((2, 3)), np.zeros(2), np.zeros(3), np.array([3.0, 3.0]))
    np.testing.assert_allclose(twice, np.ones(3), rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ((np.ones((2, 3)), np.ones(2), np.ones(2), np.ones(2)), r"w0 of shape \(2,\)"),
        ((np.ones((2, 3)), np.ones(3), np.ones(3), np.ones(2)), r"f0 of shape \(3,\)"),
        ((np.ones((0, 3)), np.ones(0), np.ones(3), np.ones(0)), r"none empty"),
        ((np.ones((2, 3)), np.full(2, np.nan), np.ones(3), np.ones(2)), r"not finite"),
    ],
)
def test_wrong_systems_are_refused(parts, words):
    with pytest.raises(ValueError, match=words):
        least_norm_solution(*parts)
    with pytest.raises(ValueError, match="alpha is above 0"):
        least_norm_solution(np.eye(2), np.ones(2), np.ones(2), np.ones(2), alpha=0.0)


@pytest.mark.slow
def test_the_kernels_of_the_reference_do_not_depend_on_the_width():
    """|K| m/alpha^2 of unit data is printed as 0.909, 0.907, 0.896, 0.899 (root mean square of five networks)."""
    X = np.random.default_rng(3).normal(size=(6, 8))
    X = jnp.asarray(X / np.linalg.norm(X, axis=1, keepdims=True))
    for width, printed in ((64, 0.909), (256, 0.907), (1024, 0.896)):
        norms = []
        for seed in range(5):
            W = jnp.asarray(np.random.default_rng(seed).normal(size=(width, 8)))
            net = Shallow(W, jnp.ones(width), activation("tanh"), width**-0.5)
            norms.append(np.linalg.norm(tangent_gram(net, X), 2))
        assert np.sqrt(np.mean(np.square(norms))) == pytest.approx(printed, abs=0.5e-3)


def test_scales_at_the_start():
    found = start_scales(activation("tanh"), [0.6, 0.8], 20, jax.random.key(1), nets=4000)
    assert abs(found.value[0] - 0.3942944906) < 5 * found.error[0]
    none = start_scales(activation("tanh"), [0.0, 0.0], 20, jax.random.key(1), nets=2)
    assert none.value.tolist() == [0.0, 0.0]
    for width, nets in ((0, 10), (5, 1)):
        with pytest.raises(ValueError, match=rf"width={width}, nets={nets}\."):
            start_scales(activation("tanh"), [1.0], width, jax.random.key(0), nets=nets)


TWINS = Shallows(jnp.asarray([[1.0, 0.0], [1.0, 0.0]]), activation("tanh"), 6)


@pytest.mark.parametrize(
    ("claim", "setup", "words"),
    [
        ("LAZY-2", Drawn(activation("tanh")), "about the identity, not about tanh"),
        ("LAZY-2", Drawn(activation("identity"), dim=30), "takes more than"),
        ("LAZY-2b", ("tanh", "relu"), "relu has a kink at 0"),
        ("LAZY-7", TWINS, "no full row rank"),
        ("LAZY-10", shallows("relu", 1.0).__class__(2.0 * jnp.eye(3), activation("relu")), "norm 2"),
        ("LAZY-12", shallows("tanh"), "tanh is no rectifier"),
        ("LAZY-12", shallows("identity"), "identity is no rectifier"),
        ("LAZY-11", shallows("identity"), "this is the identity"),
        ("LAZY-13b", shallows("identity"), "identity does not bend"),
        ("LAZY-13", shallows("relu"), "relu has a kink at 0"),
        ("LAZY-13b", shallows("elu"), "elu has a kink at 0"),
        ("LAZY-14", shallows("tanh"), "about the rectifier"),
        ("LAZY-14b", shallows("relu", width=30), "too many subsets"),
        ("LAZY-14d", shallows("gelu"), "about the rectifier"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.startswith("LAZY") else "",
)
def test_claims_say_why_they_do_not_apply(claim, setup, words):
    verdict = check(claim, setup)
    assert verdict.status is Status.NOT_APPLICABLE
    assert words in verdict.reasons[0]


@pytest.mark.parametrize(
    ("claim", "setup"),
    [
        pytest.param("LAZY-8", shallows("gelu", 1.0, width=7), id="LAZY-8", marks=pytest.mark.slow),
        pytest.param("LAZY-11", shallows("softplus", width=5), id="LAZY-11"),
        pytest.param("LAZY-12", shallows("leaky_relu", 0.5, width=33), id="LAZY-12", marks=pytest.mark.slow),
        pytest.param("LAZY-13", shallows("gelu", 0.7, width=9), id="LAZY-13", marks=pytest.mark.slow),
    ],
)
def test_claims_hold_on_other_setups(claim, setup):
    verdict = check(claim, setup)
    assert verdict.status is Status.HOLDS, str(verdict)
