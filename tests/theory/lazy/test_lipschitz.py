"""Certified Lipschitz constants of the Jacobian: reference numbers, soundness under attack, and honest refusals."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from widthwise.activations import ACTIVATIONS, Activation, activation
from widthwise.networks import MLP, Apply, Chain, Dense, Residual, sample
from widthwise.operators import flatten
from widthwise.theory.lazy import Shallow, Smoothness, attack, certified_smoothness, difference_quotient
from widthwise.theory.lazy.deep import input_smoothness
from widthwise.theory.lazy.lipschitz import (
    _PEAKS,
    curvature_on,
    demand_profile,
    kinked_call,
    quadratic,
    shallow,
    shallow_local,
    sharpest_change,
)
from widthwise.theory.lazy.maps import ModelMap, QuadraticMap, ShallowMap
from widthwise.theory.lazy.reference import reference_problem

TANH = activation("tanh")


def unit_rows(rng, n, d):
    X = rng.normal(size=(n, d))
    return X / np.linalg.norm(X, axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("form", "value"), [("frobenius", 0.1521451549), ("schur", 0.0647228894), ("flattened", 0.0513883378)]
)
def test_digits(form, value):
    """Printed to ten decimals; the margin adds 1e-10 of the value."""
    assert reference_problem(form=form).smoothness(0.0).value == pytest.approx(value, abs=6e-11)


@pytest.mark.parametrize(("radius", "value"), [(0.0, 0.0472285), (0.15, 0.0500166), (50.0, 0.0513883)])
def test_digits_on_balls(radius, value):
    f = reference_problem().f
    local = shallow_local(f.X, f.net.W, f.net.signs, f.net.activation, f.net.scale)
    assert local(radius).value == pytest.approx(value, abs=6e-8)
    assert local(radius).value <= reference_problem().smoothness(0.0).value


def test_digits_at_the_start():
    """The exact curvature at the start, of one neuron, is printed as 0.0442080."""
    problem = reference_problem()
    f, best = problem.f, 0.0
    second = jax.vmap(jax.vmap(jax.grad(jax.grad(TANH.fn))))
    curvature, X = np.asarray(second(f.X @ f.net.W[:256].T)), np.asarray(f.X)
    for j in range(256):
        u = X[np.argmax(np.abs(curvature[:, j]))]
        for _ in range(60):
            u = (curvature[:, j] ** 2 * (X @ u) ** 3) @ X
            u /= np.linalg.norm(u)
        best = max(best, np.sqrt(np.sum(curvature[:, j] ** 2 * (X @ u) ** 4)))
    assert best / np.sqrt(512) == pytest.approx(0.0442080, rel=1e-4)


def test_shallow_reference():
    """Printed for 10 unit inputs of dimension 5: 2.4343224778, 1.5179947071, 1.3533561964; truth above 1.2456626748."""
    X = unit_rows(np.random.default_rng(0), 10, 5)
    values = [shallow(X, np.ones(4), TANH, 1.0, form).value for form in ("frobenius", "schur", "flattened")]
    assert values == pytest.approx([2.4343224778, 1.5179947071, 1.3533561964], abs=3e-10)
    net = Shallow(jnp.asarray(np.random.default_rng(1).normal(size=(20, 5))), jnp.ones(20), TANH)
    f = ShallowMap(net, jnp.asarray(X))
    found = attack(f, np.asarray(net.W).ravel(), 4.0, jr.key(0), restarts=12, rounds=200)
    assert 0.9 * values[2] < found.value <= values[2]


@pytest.mark.parametrize("name", sorted(_PEAKS))
def test_curvature_on_intervals(name):
    """Above a dense grid on every interval, and attained."""
    s, rng = ACTIVATIONS[name], np.random.default_rng(3)
    centre, reach = rng.normal(scale=2, size=(6, 8)), rng.uniform(0, 2, size=(6, 1))
    bound = curvature_on(s, centre, reach)
    grid = centre[..., None] + reach[..., None] * np.linspace(-1, 1, 4001)
    second = np.abs(np.asarray(jax.vmap(jax.grad(jax.grad(s.fn)))(jnp.asarray(grid.ravel())))).reshape(grid.shape)
    assert np.all(second.max(axis=-1) <= bound * (1 + 1e-12) + 1e-15)
    assert np.all(bound <= second.max(axis=-1) + 1e-5)
    assert np.all(bound <= s.curvature_bound * (1 + 1e-9))


def test_an_activation_without_known_peaks_gets_its_global_bound():
    assert np.all(curvature_on(activation("sin"), np.zeros((2, 2)), np.zeros((2, 1))) == 1.0)


@pytest.mark.parametrize("name", ["tanh", "gelu", "silu", "sigmoid", "softplus", "erf", "sin", "identity"])
def test_slope_and_curvature_bounds_are_bounds(name):
    """What the certificates rest on: nowhere on a fine grid is |s'| or |s''| larger, and both are attained."""
    s, z = ACTIVATIONS[name], jnp.linspace(-12.0, 12.0, 240_001)
    slope = np.abs(np.asarray(jax.vmap(jax.grad(s.fn))(z)))
    second = np.abs(np.asarray(jax.vmap(jax.grad(jax.grad(s.fn)))(z)))
    for found, bound in ((slope.max(), s.slope_bound), (second.max(), s.curvature_bound)):
        assert found <= bound * (1 + 1e-10)
        assert found >= bound * (1 - 1e-4)


def test_quadratic_maps():
    rng = np.random.default_rng(0)
    B = rng.normal(size=(3, 7, 7))
    B = B + B.transpose(0, 2, 1)
    beta = quadratic(B).value
    f = QuadraticMap(jnp.asarray(rng.normal(size=(3, 7))), jnp.asarray(B))
    found = attack(f, np.zeros(7), 1.0, jr.key(0)).value
    assert found <= beta
    # The unfolding treats the n outputs as independent directions; the truth is at least 1/sqrt(n) of it.
    assert found >= beta / np.sqrt(3)
    assert difference_quotient(f, np.zeros(7), 1.0, jr.key(1)).value <= beta


def exact_curvature(Hs):
    """sup_v |sum_i v_i H_i| by alternation between v and the top eigenvector, from several starts."""
    best = 0.0
    for seed in range(3):
        v = np.random.default_rng(seed).normal(size=len(Hs))
        for _ in range(8):
            v /= max(np.linalg.norm(v), 1e-300)
            values, Q = np.linalg.eigh(np.tensordot(v, Hs, 1))
            k = int(np.argmax(np.abs(values)))
            best = max(best, abs(values[k]))
            v = np.einsum("ipq,p,q->i", Hs, Q[:, k], Q[:, k])
    return best


ARCHITECTURES = {
    "one hidden layer": Chain((Dense(1.5, 0.1, 6), Apply("tanh"), Dense(1.0, 0.2, 1))),
    "two hidden layers": Chain(
        (Dense(1.5, 0.0, 5), Apply("gelu"), Dense(1.0, 0.3, 4), Apply("sigmoid"), Dense(1.0, 0.0, 1))
    ),
    "three, standard": Chain(
        (
            Dense(1.5, 0.1, 4, "standard"),
            Apply("tanh"),
            Dense(1.5, 0.1, 4, "standard"),
            Apply("softplus"),
            Dense(1.0, 0.0, 3, "standard"),
            Apply("erf"),
            Dense(1.0, 0.0, 2, "standard"),
        )
    ),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "one hidden layer" else pytest.mark.slow) for name in ARCHITECTURES]
)
def test_the_deep_bound_is_sound(name):
    """Exact second derivatives at the start and at random points of spheres, and an adversarial search of each ball."""
    rng = np.random.default_rng(0)
    X = unit_rows(rng, 3, 3)
    model = sample(ARCHITECTURES[name], jr.key(5), 3)
    w0, rebuild = flatten(model)
    f = ModelMap(rebuild, jnp.asarray(X))
    beta, each = certified_smoothness(model, X), input_smoothness(model, X)
    hessian = jax.jit(jax.hessian(f))
    for radius in (0.0, 0.3, 1.0):
        worst, worst_each = 0.0, np.zeros(3)
        for _ in range(4):
            step = rng.normal(size=w0.shape)
            Hs = np.asarray(hessian(w0 + radius * step / np.linalg.norm(step)))
            worst = max(worst, exact_curvature(Hs))
            worst_each = np.maximum(worst_each, np.abs(np.linalg.eigvalsh(Hs)).max(axis=1))
        worst = max(worst, attack(f, w0, radius, jr.key(1), restarts=4, rounds=60).value)
        assert beta(radius).certified
        assert worst <= beta(radius).value
        assert np.all(worst_each <= each(radius))
        assert beta(radius).value <= 60 * worst  # loose, by about an order for three layers, but no more


@pytest.mark.slow
def test_the_deep_bound_falls_with_the_width():
    """Like the width to the -1/2 in the NTK parameterisation."""
    X = unit_rows(np.random.default_rng(0), 4, 10)
    values = [
        certified_smoothness(sample(MLP(width, 2).network(), jr.key(0), 10), X)(0.5).value for width in (32, 128, 512)
    ]
    assert np.allclose(np.diff(np.log(values)) / np.log(4), -0.5, atol=0.15)


def test_an_affine_network_has_constant_zero():
    assert certified_smoothness(sample(Dense(1.0, 1.0, 1), jr.key(0), 3), np.eye(3))(1.0).value == 0.0


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (sample(MLP(8, 1, "relu").network(), jr.key(0), 2), "relu has a kink at 0"),
        (sample(MLP(8, 2, "abs").network(), jr.key(0), 2), "abs has a kink at 0"),
        (sample(Residual(Dense(1.0, 0.0, 2)), jr.key(0), 2), "Shortcut"),
        (sample(Chain((Dense(size=2), Apply("tanh"))), jr.key(0), 2), "ends in the activation tanh"),
        (jax.tree_util.Partial(lambda w, x: w * x, jnp.ones(2)), "Partial"),
    ],
)
def test_what_has_no_bound_says_why(model, words):
    found = certified_smoothness(model, np.eye(2))(0.1)
    assert not found.certified
    assert found.value == np.inf
    assert words in found.method
    assert np.all(np.isinf(input_smoothness(model, np.eye(2))(0.1)))


def test_certified_and_estimated_are_kept_apart():
    bound, guess = Smoothness(1.0, True, 2.0, "by hand"), Smoothness(1.0, False)
    assert "certified" in repr(bound)
    assert "estimated" in repr(guess)
    assert bound(2.0) is bound
    assert bound(2.1).value == np.inf
    assert bound.scaled(0.5).value == 0.5
    with pytest.raises(ValueError, match="Lipschitz constant of nan"):
        Smoothness(float("nan"), True)
    with pytest.raises(ValueError, match=r"form='flat'.*did you mean 'flattened'"):
        shallow(np.eye(2), np.ones(2), TANH, form="flat")
    assert shallow(np.eye(2), np.ones(2), activation("relu")).value == np.inf
    assert shallow_local(np.eye(2), np.eye(2), np.ones(2), activation("relu"))(1.0).value == np.inf


def test_a_function_under_a_known_name_is_not_taken_for_the_known_one():
    r"""$\tanh(3z)$ bends nine times as much as tanh and elsewhere: the places of its maxima are not those of tanh."""
    steep = Activation("tanh", lambda z: jnp.tanh(3 * z), slope_bound=3.0, curvature_bound=9 * 0.7698003589195)
    z = np.linspace(-0.5, 0.5, 1001)
    t = np.tanh(3 * z)
    bound = shallow_local(np.eye(1), np.zeros((1, 1)), [1.0], steep)(0.5).value
    assert bound >= np.max(np.abs(18 * t * (1 - t**2)))


@pytest.mark.parametrize("function", [jax.nn.softplus, jax.nn.elu])
def test_smooth_models_do_not_jump(function):
    """Not even those whose code compares; nor on balls so small that rounding is all that changes."""
    X, W = np.random.default_rng(0).normal(size=(2, 3)), np.random.default_rng(1).normal(size=12)

    def f(w):
        return function(jnp.asarray(X) @ w.reshape(3, 4)).sum(axis=1)

    assert kinked_call(f, jnp.asarray(W)) is None
    at = [sharpest_change(f, W, radius, jr.key(0)) for radius in (1.0, 1e-3, 1e-9, 1e-14)]
    assert 0.01 < at[0] < 2.0 * np.linalg.norm(X, 2) ** 2
    assert max(at[1:]) < 2.0 * np.linalg.norm(X, 2) ** 2


@pytest.mark.parametrize("given", [0.3, None, [1.0], "certifed"])
def test_what_is_no_constant_is_refused(given):
    with pytest.raises(ValueError, match=r"'certified', a Smoothness or a function .* Smoothness\(0.3, certified=True"):
        demand_profile(given, ("certified",))


def test_an_output_that_does_not_exist_is_refused():
    model = sample(MLP(width=4, depth=1, activation="tanh").network(outputs=2), jr.key(0), in_size=3)
    last, second = (certified_smoothness(model, np.eye(3), output)(0.5).value for output in (-1, 1))
    assert last == second
    with pytest.raises(ValueError, match=r"output=2.*has 2 outputs"):
        certified_smoothness(model, np.eye(3), 2)
