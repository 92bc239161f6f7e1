"""Lanczos against dense linear algebra; Gauss quadrature against its degree of exactness."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from widthwise.measure import quadrature, top_eigenvalue, tridiagonalise

N = 40
# Backward error of N products and of the reorthogonalisation, each a few ulps of the norm of A.
ROUNDING = 100 * N * np.finfo(float).eps


@pytest.fixture(scope="module")
def operator():
    values = np.linspace(0.1, 3.0, N) ** 2
    basis = np.linalg.qr(np.asarray(jr.normal(jr.key(0), (N, N))))[0]
    return jnp.asarray(basis * values @ basis.T), values


def start(seed=1):
    return jr.normal(jr.key(seed), (N,))


def test_a_full_run_has_the_eigenvalues_of_the_matrix(operator):
    A, values = operator
    rule = quadrature(tridiagonalise(lambda v: A @ v, start(), N))
    np.testing.assert_allclose(rule.nodes, values, atol=ROUNDING * values[-1], rtol=0)


@pytest.mark.parametrize("steps", [3, 8, 16])
def test_gauss_rule_is_exact_to_degree_2k_minus_1(operator, steps):
    A, _ = operator
    v = np.asarray(start())
    rule = quadrature(tridiagonalise(lambda v: A @ v, start(), steps))
    scale = np.linalg.norm(A, 2)
    for degree in range(2 * steps):
        exact = v @ np.linalg.matrix_power(A / scale, degree) @ v
        assert abs(rule(lambda x, p=degree: (x / scale) ** p).value - exact) < ROUNDING * (v @ v)


def test_gauss_rule_is_not_exact_beyond(operator):
    A, _ = operator
    v = np.asarray(start())
    rule = quadrature(tridiagonalise(lambda v: A @ v, start(), 3))
    assert abs(rule(lambda x: x**6).value - v @ np.linalg.matrix_power(A, 6) @ v) > 1e-3 * (v @ v)


@pytest.mark.parametrize("steps", [1, 4, 12, 40])
@pytest.mark.parametrize("time", [0.01, 0.1, 1.0, 10.0, 1000.0])
def test_two_sided_bounds_hold_for_the_exponential(operator, time, steps):
    A, _ = operator
    v = np.asarray(start())
    values, vectors = np.linalg.eigh(A)
    exact = np.exp(-values * time) @ (vectors.T @ v) ** 2
    rule = quadrature(tridiagonalise(lambda v: A @ v, start(), steps), lower=0.0)
    estimate = rule(lambda x: np.exp(-x * time))
    assert abs(estimate.value - exact) <= estimate.error
    assert np.exp(-rule.nodes * time) @ rule.weights <= exact + ROUNDING * (v @ v)


def test_the_difference_between_orders_estimates_the_error(operator):
    A, _ = operator
    v = np.asarray(start())
    values, vectors = np.linalg.eigh(A)
    rule = quadrature(tridiagonalise(lambda v: A @ v, start(), 12))
    estimate = rule(lambda x: np.cos(x))
    assert abs(estimate.value - np.cos(values) @ (vectors.T @ v) ** 2) <= estimate.error


def test_a_function_of_several_parameters_is_integrated_at_once(operator):
    A, _ = operator
    rule = quadrature(tridiagonalise(lambda v: A @ v, start(), 8), lower=0.0)
    times = np.array([0.1, 0.5, 2.0])
    together = rule(lambda x: np.exp(-times[:, None] * x))
    alone = [rule(lambda x, t=t: np.exp(-t * x)).value for t in times]
    np.testing.assert_allclose(together.value, alone, rtol=1e-14)


@pytest.mark.parametrize("steps", [5, 12, 30])
def test_the_top_eigenvalue_is_within_its_error(operator, steps):
    A, values = operator
    top = top_eigenvalue(tridiagonalise(lambda v: A @ v, start(), steps))
    assert abs(top.value - values[-1]) <= top.error
    assert top.value <= values[-1] + ROUNDING * values[-1]


def test_a_start_in_an_invariant_subspace_ends_early_and_exactly():
    A = jnp.diag(jnp.arange(1.0, 11.0))
    start = jnp.zeros(10).at[jnp.array([2, 5])].set(1.0)
    rule = quadrature(tridiagonalise(lambda v: A @ v, start, 8))
    np.testing.assert_allclose(rule.nodes, [3.0, 6.0], rtol=ROUNDING)
    estimate = rule(lambda x: 1.0 / x)
    assert abs(estimate.value - (1 / 3 + 1 / 6)) <= ROUNDING
    assert estimate.error <= ROUNDING


def test_an_eigenvector_gives_its_eigenvalue():
    top = top_eigenvalue(tridiagonalise(lambda v: 2.0 * v, jnp.ones(5), 5))
    assert abs(top.value - 2.0) <= top.error <= ROUNDING


def test_pytrees_and_jit_are_welcome(operator):
    A, values = operator

    def product(tree):
        flat = A @ jnp.concatenate(tree)
        return (flat[:10], flat[10:])

    run = jax.jit(lambda v: tridiagonalise(product, (v[:10], v[10:]), N))
    top = top_eigenvalue(run(start()))
    assert abs(top.value - values[-1]) <= ROUNDING * values[-1]


@pytest.mark.parametrize(
    ("matvec", "start", "said"),
    [
        (lambda v: v, jnp.zeros(4), "start that is zero"),
        (lambda v: v * jnp.nan, jnp.ones(4), "not finite"),
        (lambda v: v * jnp.inf, jnp.ones(4), "not finite"),
    ],
)
def test_what_cannot_be_decomposed_is_refused(matvec, start, said):
    with pytest.raises(ValueError, match=said):
        top_eigenvalue(tridiagonalise(matvec, start, 3))


def test_no_steps_are_refused():
    with pytest.raises(ValueError, match="0 Lanczos steps"):
        tridiagonalise(lambda v: v, jnp.ones(3), 0)
