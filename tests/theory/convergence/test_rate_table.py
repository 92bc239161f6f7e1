"""Constants and rows of recorded trainings: reference numbers, theorems as properties, networks, bad input."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from scipy.optimize import root

from widthwise.theory.convergence import table
from widthwise.theory.convergence.rate_table import _number, _rate, _told
from widthwise.theory.lazy import descend
from widthwise.theory.lazy.landscapes import WAVY_PL, log_cosh, wavy_parabola


def square(w):
    return 0.5 * jnp.vdot(w, w)


def stretched(w):
    return 0.5 * jnp.sum(jnp.array([1.0, 10.0]) * w**2)


def descended(loss, start, rate, count):
    return np.asarray(descend(loss, jnp.asarray(start), rate, count))


class Reference:
    """The random strongly convex problem of the reference numbers."""

    rng = np.random.default_rng(0)
    B, c = rng.normal(size=(6, 4)), rng.normal(size=6)
    start = 3.0 * rng.normal(size=4)
    beta = 0.3 + np.linalg.norm(B, 2) ** 2

    @classmethod
    def loss(cls, w):
        return 0.15 * jnp.vdot(w, w) + jnp.sum(log_cosh(jnp.asarray(cls.B) @ w - jnp.asarray(cls.c)))

    @classmethod
    def minimiser(cls):
        return root(lambda w: 0.3 * w + cls.B.T @ np.tanh(cls.B @ w - cls.c), np.zeros(4), tol=1e-14).x


def test_descent_comes_as_near_to_its_bounds_as_in_the_reference():
    points = descended(Reference.loss, Reference.start, 1.0 / Reference.beta, 199)
    found = table(Reference.loss, points, rate=1.0 / Reference.beta, reference=Reference.minimiser(), convexity=0.3)
    printed = {"convex": 0.311, "stationarity": 0.350}
    printed |= {"strongly convex, value": 0.860, "strongly convex, distance": 0.777}
    for name, ratio in printed.items():
        assert found[name] == pytest.approx(ratio, abs=0.6e-3), name
        assert found.rows[name].reason == ""
    assert all(row.holds for row in found.rows.values())
    assert 0.3 <= found.constants["strong convexity"].value < found.constants["smoothness"].value <= Reference.beta


@pytest.mark.slow
def test_the_flow_comes_as_near_to_its_bounds_as_in_the_reference():
    times = np.append(0.0, np.linspace(0.01, 8.0, 400))
    least, slope = Reference.minimiser(), jax.jit(jax.grad(Reference.loss))
    run = solve_ivp(lambda _, w: -np.asarray(slope(w)), (0, 8), Reference.start, rtol=1e-11, atol=1e-13, t_eval=times)
    # The flow contracts, so that its integration errs by a few tolerances.
    found = table(Reference.loss, run.y.T, times=times, reference=least, convexity=0.3, error=1e-9)
    printed = {"convex": 0.317, "stationarity": 0.589}
    printed |= {"strongly convex, value": 0.987, "strongly convex, distance": 0.978}
    for name, ratio in printed.items():
        assert found[name] == pytest.approx(ratio, abs=0.6e-3), name
    assert all(row.holds and not row.reason for row in found.rows.values()), str(found)


def test_the_wavy_parabola_has_its_reference_constants():
    points = np.linspace(3.0, 1e-3, 6001)[:, None]
    found = table(wavy_parabola, points, reference=np.zeros(1))
    # A grid of 5e-4 misses a smooth minimum by its square.
    assert found["PL, squared"] == pytest.approx(WAVY_PL, abs=1e-6)
    assert found["PL, half"] == pytest.approx(0.1755309859, abs=1e-6)
    assert found.constants["PL, squared"].at == pytest.approx((3.0 - 2.2017091767) / 2.999 * 6000, abs=1.0)
    assert found["restricted secant"] == pytest.approx(0.6965982307, abs=1e-6)
    assert found["one-point convexity"] == 2.0 * found["restricted secant"]
    assert found["smoothness"] == pytest.approx(8.0, abs=1e-5)
    assert found["strong convexity"] == pytest.approx(-4.0, abs=1e-5)
    assert not found.rows


def test_a_quadratic_has_its_eigenvalues():
    found = table(stretched, descended(stretched, [1.0, 1.0], 0.1, 20), rate=0.1, reference=np.zeros(2))
    assert found["strong convexity"] == pytest.approx(1.0, rel=1e-9)
    assert found["strongly convex, value"] <= 1.0
    # From the second step on only the slow direction is left.
    assert found["PL, half"] == pytest.approx(1.0, rel=1e-9)
    assert found["decay of the distance"] == pytest.approx(-2.0 * np.log(0.9), rel=1e-9)
    assert found["smoothness"] == pytest.approx(10.0 * 10 / np.hypot(10, 1), rel=0.1)
    assert found.length > found.displacement > 1.0


def test_the_flow_of_a_quadratic_attains_its_rows():
    times = np.linspace(0.0, 3.0, 31)
    found = table(
        square, np.exp(-times)[:, None] * np.array([[0.6, 0.8]]), times=times, minimum=0.0, reference=np.zeros(2)
    )
    for name in ("PL", "strongly convex, value", "strongly convex, distance"):
        assert found[name] == pytest.approx(1.0, abs=1e-9)
        assert found.rows[name].holds
    assert found["decay of the value"] == pytest.approx(2.0, rel=1e-9)
    # |grad|^2 = e^(-2t) against 1/(2t): largest at t = 1/2.
    assert found["stationarity"] == pytest.approx(2 * 0.5 * np.exp(-1.0), rel=1e-9)
    assert found["length under PL"] == pytest.approx(1.0 - np.exp(-3.0), rel=1e-9)
    assert found["last iterate"] == pytest.approx(np.exp(-1.0), rel=1e-9)


class Random(eqx.Module):
    """A smooth loss: convex, or bent so that it is not."""

    A: jax.Array
    b: jax.Array
    bent: bool = eqx.field(static=True)

    def __call__(self, w):
        z = self.A @ w - self.b
        return 0.5 * jnp.sum((jnp.sin(z) + z) ** 2) if self.bent else jnp.sum(log_cosh(z))


@pytest.mark.slow
@given(st.integers(0, 2**31), st.floats(0.01, 1.5), st.booleans(), st.sampled_from([1, 7]), st.booleans())
@settings(max_examples=80)
def test_no_row_exceeds_its_bound_where_its_assumption_holds(seed, share, bent, stride, single):
    """Descent on random losses, with rates below and above 1/beta, in double or single precision."""
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(4, 3)) * 10.0 ** rng.uniform(-1, 1)
    loss = Random(jnp.asarray(A), jnp.asarray(rng.normal(size=4)), bent)
    beta = float(np.linalg.norm(A, 2)) ** 2 * (6.0 if bent else 1.0)
    start = rng.normal(size=3) * 10.0 ** rng.uniform(-2, 1) / np.linalg.norm(A, 2)
    points = descended(loss, start, share / beta, 42)[::stride].astype("float32" if single else float)
    found = table(loss, points, rate=share / beta, steps=np.arange(0, 43, stride))
    for row in found.rows.values():
        assert row.reason or row.holds, f"{row.name}: {row.ratio}"
    if share < 1.0 and not bent:
        wanted = {"stationarity", "convex", "PL", "length", "length under PL"}
        assert not any(found.rows[name].reason for name in wanted), str(found)


def test_a_rate_that_is_too_large_is_told():
    found = table(stretched, descended(stretched, [1.0, 1.0], 0.15, 20), rate=0.15, reference=np.zeros(2))
    assert found.rows["convex"].reason.startswith("the rate is above 1/beta = 0.1")


def test_a_loss_that_is_not_convex_is_told():
    found = table(wavy_parabola, descended(wavy_parabola, [3.0], 0.1, 40), rate=0.1, minimum=0.0, reference=np.zeros(1))
    assert found.rows["convex"].reason.startswith("F is not convex along the record (at ")
    assert np.isnan(found["strongly convex, value"])
    for name in ("stationarity", "PL", "length", "length under PL"):
        assert found.rows[name].holds and not found.rows[name].reason, name


def test_momentum_is_not_descent():
    points, speed = [np.array([1.0, 1.0])], np.zeros(2)
    for _ in range(20):
        speed = 0.5 * speed - 0.05 * np.array([1.0, 10.0]) * points[-1]
        points.append(points[-1] + speed)
    found = table(stretched, np.array(points), rate=0.05)
    assert "of its length from that of gradient descent" in found.rows["PL"].reason


def test_a_clock_that_is_too_fast_is_no_flow():
    times = np.linspace(0.0, 3.0, 31)
    points = np.exp(-times)[:, None] * np.ones((1, 2))
    assert table(square, points, times=times, minimum=0.0).rows["PL"].reason == ""
    assert "farther apart than a flow" in table(square, points, times=0.9 * times, minimum=0.0).rows["PL"].reason


def test_every_tenth_step_will_do():
    points = descended(stretched, [1.0, 1.0], 0.1, 20)
    found = table(stretched, points[::10], rate=0.1, steps=np.arange(0, 21, 10), reference=np.zeros(2))
    assert all(row.holds and not row.reason for row in found.rows.values()), str(found)


def model_and_points(dtype, count=30):
    X = jnp.asarray(np.random.default_rng(0).normal(size=(16, 3)), dtype=dtype)
    y = jnp.sin(X[:, :1])
    model = eqx.nn.MLP(3, 1, 16, 1, activation=jnp.tanh, key=jax.random.key(0), dtype=dtype)

    def loss(model):
        return 0.5 * jnp.mean((jax.vmap(model)(X.astype(model.layers[0].weight.dtype)) - y.astype(X.dtype)) ** 2)

    @eqx.filter_jit
    def step(model):
        slope = eqx.filter_grad(loss)(model)
        rate = jnp.asarray(0.1, dtype=dtype)
        return eqx.apply_updates(model, jax.tree.map(lambda leaf: -rate * leaf, slope))

    models = [model]
    for _ in range(count):
        models.append(step(models[-1]))

    def double(model):
        return 0.5 * jnp.mean((jax.vmap(model)(X.astype(float)) - y.astype(float)) ** 2)

    return double, models


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_network_in_a_list_of_models(dtype):
    loss, models = model_and_points(jnp.dtype(dtype))
    found = table(loss, models, rate=0.1, minimum=0.0)
    for name in ("stationarity", "PL", "length", "length under PL"):
        assert found.rows[name].holds and not found.rows[name].reason, str(found)
    assert 0.0 < found["PL, half"] < found["smoothness"] < 10.0


@pytest.mark.slow
def test_a_stacked_tree_a_list_and_an_array_are_the_same():
    points = descended(stretched, [1.0, 1.0], 0.1, 20)

    def of_tree(tree):
        return stretched(jnp.stack([tree["a"][0], tree["b"]]))

    stacked = {"a": points[:, :1], "b": points[:, 1]}
    listed = [{"a": one[:1], "b": one[1]} for one in points]
    texts = [str(table(*case, rate=0.1)) for case in ((stretched, points), (of_tree, stacked), (of_tree, listed))]
    assert texts[0] == texts[1] == texts[2]
    assert str(table(stretched, points.tolist(), rate=0.1)) == texts[0]


def test_it_prints_as_a_table():
    text = str(table(stretched, descended(stretched, [1.0, 1.0], 0.1, 20), rate=0.1, reference=np.zeros(2)))
    assert text.startswith("gradient descent with rate 0.1, 21 points; F* = 0; z given")
    assert "stationarity" in text and "met: smooth" in text


def test_a_start_at_the_minimum_says_nothing():
    found = table(square, np.zeros((3, 2)), rate=0.1)
    assert found.length == 0.0
    assert not any(row.ratio > 0 for row in found.rows.values())
    assert "nan" not in str(found)


POINTS = np.linspace(1.0, 0.5, 6).reshape(3, 2)


def undefined(w):
    return jnp.log(jnp.sum(w) - 1.2)


def vectorial(w):
    return w


@pytest.mark.parametrize(
    ("loss", "points", "options", "message"),
    [
        (square, POINTS[:1], {}, "Record at least two points"),
        (square, [], {}, "Record at least two points"),
        (square, np.zeros((3, 2), dtype=int), {}, "with real numbers"),
        (square, np.where(POINTS == 0.5, np.nan, POINTS), {}, "the point is not finite at record 2"),
        (undefined, POINTS, {}, "the loss is not finite at record 2. .* Cut the record before it"),
        (vectorial, POINTS, {}, r"a loss of shape \(2,\)"),
        (square, POINTS, {"reference": np.zeros(3)}, r"a reference with arrays of shapes \[\(3,\)\]"),
        (square, POINTS, {"minimum": 1.0}, r"minimum=1\. The loss reaches 0\.305"),
        (square, POINTS, {"minimum": np.nan}, "minimum=nan"),
        (square, POINTS, {"rate": 0.0}, "rate=0.0"),
        (square, POINTS, {"rate": 0.1, "times": [0, 1, 2]}, "both times and a rate"),
        (square, POINTS, {"times": [0, 1]}, "It is 3 increasing times"),
        (square, POINTS, {"times": [0, 1, 1]}, "It is 3 increasing times"),
        (square, POINTS, {"rate": 0.1, "steps": [0, 1, 2.5]}, "steps, which are whole"),
        (square, POINTS, {"error": -1.0}, "error=-1"),
        (square, POINTS, {"times": [0, 1, 2], "steps": [0, 1, 2]}, "both times and steps"),
        (square, POINTS, {"convexity": 2.0}, r"convexity=2\. At .* allows at most 1"),
        (square, [POINTS[0], POINTS[0][:1]], {}, "point 1 with arrays of shapes"),
    ],
)
def test_bad_input(loss, points, options, message):
    with pytest.raises(ValueError, match=message):
        table(loss, points, **options)


def test_an_unknown_row_is_named():
    found = table(square, POINTS, rate=0.1)
    with pytest.raises(ValueError, match=r"'speed' is no row\. Rows are 'PL, squared', .*'length under PL'\."):
        found["speed"]
    with pytest.raises(ValueError, match=r"'strongly convex' is no row \(did you mean 'strongly convex, value'\?\)"):
        found.rows["strongly convex"]
    assert "speed" not in found.rows


def test_a_rate_above_one_over_beta_says_nothing_of_convexity():
    found = table(stretched, descended(stretched, [1.0, 1.0], 0.15, 20), rate=0.15, reference=np.zeros(2))
    assert found["strong convexity"] == pytest.approx(1.0, rel=1e-7)
    assert "the rate is above 1/beta = 0.1" in found.rows["convex"].reason


def test_it_is_short_in_a_shell_and_tells_infinite_ratios():
    found = table(square, POINTS, rate=0.1)
    assert repr(found) == "RateTable(gradient descent, 3 points, F* = 0.305)"
    assert _told(np.inf) == "inf" and _told(-np.inf) == "-inf" and _told(np.nan) == "-"


def test_what_is_no_number_is_refused():
    with pytest.raises(ValueError, match=r"rate='0\.1'\. The rate is one number"):
        _rate("0.1", None)
    with pytest.raises(ValueError, match=r"minimum='0'\. The minimum is one number"):
        _number("minimum", "0")
    assert _number("minimum", np.float32(2.0)) == 2.0
