"""Lazy problems: how they are built, moved, centred and mirrored, and what they refuse."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from widthwise.networks import MLP, sample
from widthwise.theory.lazy import LazyProblem, Probe, Smoothness, certify, follow, model_problem
from widthwise.theory.lazy.examples import extremal, network, random_quadratic


def test_tangency_agrees_with_dense_linear_algebra():
    problem = random_quadratic(3, 5.0, 0.5)
    J0, seen = np.asarray(problem.f.J0), problem.tangency
    K = J0 @ J0.T
    assert np.allclose(seen.spectrum, np.linalg.eigvalsh(K)[::-1], rtol=1e-12)
    assert np.allclose(seen.J0, J0, atol=1e-14)
    assert seen.kappa == pytest.approx(5.0, rel=1e-12)
    assert seen.residual == pytest.approx(float(np.linalg.norm(problem.y)), rel=1e-15)
    assert seen.distance == pytest.approx(float(np.sqrt(problem.y @ np.linalg.solve(K, problem.y))), rel=1e-12)
    assert np.linalg.norm(seen.coefficients) == pytest.approx(seen.residual, rel=1e-14)
    assert seen.sigma == pytest.approx(seen.sigma_min - 30 * 2.2e-16 * seen.sigma_max, rel=1e-15)


def test_a_model_becomes_a_problem():
    model = sample(MLP(16, 2).network(outputs=3), jr.key(0), 4)
    X = np.random.default_rng(0).normal(size=(5, 4))
    problem = model_problem(model, X, np.ones(5), 2.0, output=2, X_test=X[:2] + 0.1)
    assert np.allclose(problem.tangency.f0, np.asarray(jax.vmap(model)(jnp.asarray(X)))[:, 2], rtol=1e-13)
    assert problem.smoothness(0.1).certified
    assert problem.probe.smoothness(0.1).shape == (2,)
    assert problem.smooth


@pytest.mark.slow
def test_float32_models_are_trained_in_float64():
    with jax.enable_x64(False):
        model = sample(MLP(8, 1).network(), jr.key(0), 2)
        problem = model_problem(model, np.eye(2), np.array([1.0, -1.0]))
        assert problem.w0.dtype == np.float64
        assert problem.tangency.singular_values.dtype == np.float64
        assert problem.flow.displacements.dtype == np.float64
        inside = follow(problem).sigma_min
        certificate = certify(problem)
    with jax.enable_x64(True):
        again = model_problem(model, np.eye(2), np.array([1.0, -1.0]))
        assert np.array_equal(follow(again).sigma_min, inside)
        assert certify(again).h == certificate.h


def test_centred_and_mirrored_outputs_start_at_zero():
    problem = network().moved(network().w0 + 0.01 * np.arange(200) / 200)
    assert np.linalg.norm(problem.tangency.f0) > 1e-3
    centred, mirrored = problem.centred(), problem.mirrored()
    for other in (centred, mirrored):
        assert np.max(np.abs(other.tangency.f0)) < 1e-15  # compiled and interpreted, f(w0) may differ by rounding
        assert np.allclose(other.tangency.spectrum, problem.tangency.spectrum, rtol=1e-12)
    beta = problem.smoothness(0.0).value
    assert centred.smoothness(0.0).value == beta
    assert mirrored.smoothness(0.0).value == pytest.approx(beta / np.sqrt(2), rel=1e-15)
    assert mirrored.w0.size == 2 * problem.w0.size
    assert np.allclose(mirrored.probe.smoothness(0.0), problem.probe.smoothness(0.0) / np.sqrt(2))
    assert np.max(np.abs(np.asarray(mirrored.probe.g(jnp.asarray(mirrored.w0))))) < 1e-15


def test_a_moved_problem_looks_at_a_larger_ball():
    known = Smoothness(1.0, True, radius=1.0)
    problem = LazyProblem(lambda w: w - 0.5 * w**2, np.zeros(1), np.ones(1), smoothness=known)
    moved = problem.moved(np.array([0.4]))
    assert moved.smoothness(0.5).certified
    assert not moved.smoothness(0.7).certified
    assert moved.tangency.sigma_min == pytest.approx(0.6, rel=1e-15)


def test_another_alpha_needs_no_other_jacobian():
    problem = extremal()
    seen = problem.tangency
    other = problem.at(3.0)
    assert other.tangency.tangent.U is seen.tangent.U
    assert other.tangency.alpha == other.alpha == 3.0
    assert np.allclose(other.tangency.r0, -problem.y)
    assert other.flow is other.flow


def test_the_twin_is_the_closed_form():
    problem = random_quadratic(3, 5.0, 0.5).at(2.5)
    times = np.array([0.1, 1.0, 30.0])
    displacements, residuals = problem.tangency.twin(times)
    K = problem.tangency.J0 @ problem.tangency.J0.T
    rates, Q = np.linalg.eigh(K)
    for t, u, r in zip(times, displacements, residuals, strict=True):
        left = Q @ (np.exp(-(2.5**2) * rates * t) * (Q.T @ problem.tangency.r0))
        assert np.allclose(r, left, atol=1e-14)
        assert np.allclose(2.5 * problem.tangency.J0 @ u + problem.tangency.r0, left, atol=1e-14)


def test_the_clock_of_an_ill_conditioned_problem_is_bounded():
    """Beyond a condition number of 20 an explicit flow would take the square of it in steps."""
    problem = random_quadratic(9, 1e4, 0.5)
    assert problem.rate == pytest.approx((problem.tangency.sigma_max / 20) ** 2)
    assert len(problem.flow.times) == len(problem.times)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"w0": np.zeros((2, 1))}, "w0 of shape"),
        ({"y": np.zeros(0)}, "y of shape"),
        ({"y": np.array([np.nan])}, r"y\[0\] is nan"),
        ({"w0": np.array([-np.inf])}, r"w0\[0\] is -inf"),
        ({"alpha": 0.0}, "alpha=0.0"),
        ({"alpha": -1.0}, "alpha=-1.0"),
        ({"alpha": float("inf")}, "alpha=inf"),
        ({"y": np.zeros(2)}, "f returns outputs of shape"),
    ],
)
def test_bad_input(change, words):
    arguments = {"w0": np.zeros(1), "y": np.ones(1), "alpha": 1.0, **change}
    with pytest.raises(ValueError, match=words) as refused:
        LazyProblem(lambda w: w, **arguments)
    assert str(refused.value).count(". ") >= 2


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("alpha", "1", "alpha='1'"),
        ("smoothness", 1.0, r"smoothness=1.0\. .*Smoothness\(1, certified=True\)"),
        ("smoothness", None, "smoothness=None"),
    ],
)
def test_bad_types(name, value, words):
    """Past the types that are checked in tests only."""
    problem = LazyProblem(lambda w: w, np.zeros(1), np.ones(1))
    object.__setattr__(problem, name, value)
    with pytest.raises(ValueError, match=words):
        problem.__post_init__()


def test_bad_data_for_a_model():
    model = sample(MLP(8, 1).network(), jr.key(0), 2)
    with pytest.raises(ValueError, match="X of shape"):
        model_problem(model, np.eye(2), np.ones(3))


def test_a_probe_is_asked_for_where_it_is_needed():
    with pytest.raises(ValueError, match="without test outputs"):
        _ = extremal().probe
    probe = Probe(lambda w: w, lambda radius: np.ones(1) * radius)
    assert probe.changed(lambda beta: lambda radius: 2 * beta(radius)).smoothness(1.5) == 3.0
