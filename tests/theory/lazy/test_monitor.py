"""Certificates in a training loop: what they say, what they are worth, and that training bears them out."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from widthwise.measure import gradient_flow
from widthwise.networks import MLP, sample
from widthwise.operators import flatten
from widthwise.theory.lazy import (
    CertificateMonitor,
    Smoothness,
    certify,
    certify_descent,
    certify_from,
    laziness_along,
    model_problem,
    reference_problem,
)
from widthwise.theory.lazy.monitor import ESTIMATED

X = np.random.default_rng(0).normal(size=(5, 3))
Y = np.sign(np.random.default_rng(1).normal(size=(5, 1)))


def train(model, monitor, steps, rate=0.05):
    """Stochastic gradient descent on pairs of examples, watched."""
    optimiser = optax.sgd(rate)

    @eqx.filter_jit
    def advance(model, state, key):
        rows = jr.randint(key, (2,), 0, len(X))

        def loss(model):
            return 0.5 * jnp.mean((jax.vmap(model)(jnp.asarray(X)[rows]) - jnp.asarray(Y)[rows]) ** 2)

        updates, state = optimiser.update(eqx.filter_grad(loss)(model), state)
        return eqx.apply_updates(model, updates), state

    state = optimiser.init(eqx.filter(model, eqx.is_inexact_array))
    for step in range(steps + 1):
        monitor(step, model)
        if step < steps:
            model, state = advance(model, state, jr.key(step))
    return model


@pytest.mark.slow
def test_a_model_of_the_engineer_is_estimated():
    """An Equinox network, SGD by optax: the certificate comes in time, and the flow from there does as it says."""
    model = eqx.nn.MLP(3, 1, 64, 1, activation=jnp.tanh, key=jr.key(0))
    monitor = CertificateMonitor(model, X, Y, every=100)
    model = train(model, monitor, 800)
    found = monitor.records
    assert found["step"].tolist() == list(range(0, 801, 100))
    assert found["h"][0] > 1
    first = monitor.certificate_step
    assert first is not None
    assert found["h"][found["step"] == first] <= 1
    assert not found["certified"].any()
    assert set(found["worth"]) == {ESTIMATED}
    last = monitor.last
    assert 0 < last.nearest <= last.farthest <= last.remaining
    w, rebuild = flatten(model)
    flow = gradient_flow(
        lambda w: jnp.ravel(jax.vmap(rebuild(w))(jnp.asarray(X))),
        w,
        Y[:, 0],
        times=np.array([40.0]),
        rate=last.sigma_min**2,
    )
    assert flow.residual_norms[-1] < 1e-6 * last.residual
    assert last.nearest <= flow.distances[-1] <= flow.lengths[-1] <= last.remaining


def test_an_estimate_is_called_one_wherever_it_is_printed():
    model = eqx.nn.MLP(3, 1, 64, 1, activation=jnp.tanh, key=jr.key(0))
    monitor = CertificateMonitor(model, X, 1e-9 * Y + np.asarray(jax.vmap(model)(jnp.asarray(X))), every=1)
    assert repr(monitor) == "CertificateMonitor(0 records)"
    monitor(0, model)
    for text in (str(monitor.last), repr(monitor)):
        assert text.count("certified") == text.count(ESTIMATED) == 1
        assert "would fit" in text
    assert monitor.last.lazy


def test_certified_for_networks_of_the_package():
    model = sample(MLP(128, 1, "tanh").network(), jr.key(0), 3)
    y = np.asarray(jax.vmap(model)(jnp.asarray(X))) + 1e-4
    monitor = CertificateMonitor(model, X, y, smoothness="certified", every=1, loss="half-sum")
    monitor(0, model)
    problem = model_problem(model, X, y[:, 0])
    expected = certify(problem)
    last = monitor.last
    assert last.certified
    assert last.worth == "certified"
    assert "would" not in str(last)
    assert last.h == pytest.approx(expected.h, rel=1e-12)
    assert last.remaining == pytest.approx(float(expected.demand().path(math.inf)), rel=1e-12)
    assert last.nearest == pytest.approx(expected.demand().least_final_distance, rel=1e-2)
    assert last.largest_rate == pytest.approx(certify_descent(problem).largest_step, rel=1e-6)


def test_a_given_constant_is_taken_around_the_start():
    """f(w) = w - 0.15 w^2 with beta known: as certify says, from wherever the loop has come to."""
    monitor = CertificateMonitor(
        lambda w, x: w * x - 0.15 * w**2,
        np.ones((1, 1)),
        [1.0],
        smoothness=Smoothness(0.3, certified=True, radius=4.0),
        params=jnp.zeros(1),
    )
    monitor(0, jnp.zeros(1))
    assert monitor.last.h == pytest.approx(0.6, rel=1e-12)
    assert monitor.last.remaining == pytest.approx(1.2251482266, abs=1e-10)
    assert monitor.last.farthest == pytest.approx(1.2251482266, abs=1e-10)  # one parameter, so the only interpolator
    monitor(10, jnp.array([0.5]))
    assert monitor.last.remaining == pytest.approx(1.2251482266 - 0.5, abs=1e-9)
    monitor(20, jnp.array([-3.0]))
    assert "known within" in monitor.last.reason
    assert str(monitor.last).startswith("step 20: nothing is certified, because")


def test_descent_may_move_further_than_the_flow():
    """One large step overshoots what the flow moves by; the printed line does not deny it, and names the loss."""
    start, target = jnp.zeros(2), np.array([1.0, -1.0])
    monitor = CertificateMonitor(
        lambda w, x: w @ x, np.eye(2), target, params=start, smoothness=Smoothness(0.0, certified=True)
    )
    monitor(0, start)
    first = 0.975 * monitor.last.largest_rate * 0.5 * np.linalg.norm(target)
    assert first > 1.9 * monitor.last.remaining
    text = str(monitor.last)
    assert "gradient descent with rates below 4 fits them too, but may move further" in text
    assert text.endswith(r". Loss: \frac1{2n}\sum_{ij}r_{ij}^2")


def watched(model, X, y, **options):
    """What a monitor says of a model at its start."""
    monitor = CertificateMonitor(model, X, y, every=1, **options)
    monitor(0, model if options.get("params") is None else options["params"])
    return monitor.last


def test_models_with_kinks_are_told():
    net = sample(MLP(width=8, depth=1, activation="relu").network(), jr.key(0), 3)
    for model in (eqx.nn.MLP(3, 1, 16, 1, key=jr.key(0)), net):
        found = watched(model, X, Y)
        assert "relu has a kink" in found.reason
        assert not found.lazy
        assert found.residual > 0
    a, W = jnp.repeat(jnp.array([1.0, -1.0]), 4) / 8**0.5, jr.normal(jr.key(0), (8, 3))
    found = watched(lambda w, x: a @ jnp.maximum(w @ x, 0.0), X, Y[:, 0], params=W)
    assert "the Jacobian jumps within the ball" in found.reason


def test_a_search_that_leaves_the_finite_numbers_says_so():
    found = watched(lambda w, x: jnp.exp(w @ x), np.eye(2), [1.0, 1.0], params=-20 * jnp.ones(2))
    assert found.reason == "the search left the finite numbers"


@pytest.mark.slow
def test_reference_numbers():
    """Digits at alpha = 1: h crosses 1 at tau = 0.4, the rest moves by 2.0154 where at most 4.2474 is certified."""
    problem = reference_problem(1.0)
    at = laziness_along(problem)
    assert at.time == pytest.approx(0.4, abs=1e-9)
    assert at.first is not None
    assert at.h[at.first] == pytest.approx(0.92422, abs=5e-6)
    found = certify_from(problem, at.first)
    assert found.problem.tangency.residual == pytest.approx(0.81570, abs=5e-6)
    assert float(found.demand().path(math.inf)) == pytest.approx(4.2474, abs=5e-5)


def test_losses_differ_in_the_unit_of_the_rate():
    params, data = jnp.array([[1.0, 0.0], [0.5, 1.0]]), (np.eye(2), np.array([[1.0, 2.0], [0.0, 1.0]]))
    rates = {}
    for loss in ("half-sum", "half-mean", "mean-entries"):
        monitor = CertificateMonitor(lambda w, x: w @ x, *data, loss=loss, params=params)
        monitor(0, params)
        rates[loss] = monitor.last.largest_rate
    assert rates["half-sum"] == pytest.approx(2.0, rel=1e-9)
    assert rates["half-mean"] == pytest.approx(4.0, rel=1e-9)
    assert rates["mean-entries"] == pytest.approx(4.0, rel=1e-9)


def test_what_cannot_be_fitted_is_said():
    """More targets than parameters, equal inputs, and parameters that are gone."""
    many = CertificateMonitor(lambda w, x: w * x[0], X, Y[:, 0], params=jnp.ones(1))
    many(0, jnp.ones(1))
    assert "cannot all be moved by 1 parameters" in many.last.reason
    twice = CertificateMonitor(lambda w, x: w @ x, np.ones((2, 3)), [1.0, 2.0], params=jnp.ones(3))
    twice(0, jnp.ones(3))
    assert "linearly dependent" in twice.last.reason
    twice(10, jnp.array([1.0, math.nan, 1.0]))
    assert "not finite" in twice.last.reason
    assert twice.certificate_step is None
    assert math.isinf(twice.last.h)


def test_steps_rise():
    monitor = CertificateMonitor(lambda w, x: w @ x, np.eye(2), [1.0, -1.0], every=2, params=jnp.zeros(2))
    with pytest.raises(ValueError, match="without records"):
        _ = monitor.last
    assert [monitor(step, jnp.zeros(2)) for step in range(5)] == [True, False, True, False, True]
    assert not monitor.record(4, jnp.zeros(2))
    with pytest.raises(ValueError, match="after step 4"):
        monitor.record(2, jnp.zeros(2))
    with pytest.raises(ValueError, match="step"):
        monitor(-1, jnp.zeros(2))
    with pytest.raises(ValueError, match="cannot be applied"):
        monitor.record(6, jnp.zeros(3))
    assert 0 <= monitor.share <= 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"X": np.full((2, 2), np.nan)}, "NaN"),
        ({"y": [1.0, math.inf]}, "infinity"),
        ({"y": [1.0, 1.0, 1.0]}, "shape"),
        ({"y": np.ones((2, 3))}, r"labels of shape \(2, 3\) for a model with 1 outputs"),
        ({"params": jnp.zeros((3, 2))}, r"labels of shape \(2,\) for a model with 3 outputs"),
        ({"evry": 5}, r"evry=\.\.\.\) \(did you mean 'every'\?\)"),
        ({"X": np.ones((0, 2)), "y": []}, "shape"),
        ({"smoothness": "certifed"}, "did you mean|certified"),
        ({"smoothness": "certified"}, "estimated"),
        ({"loss": "half"}, "loss"),
        ({"every": 0}, "every"),
        ({"alpha": 0.0}, "alpha"),
    ],
)
def test_bad_input(changes, message):
    given = {"X": np.eye(2), "y": [1.0, -1.0], "params": jnp.zeros(2), **changes}
    X, y = given.pop("X"), given.pop("y")
    with pytest.raises(ValueError, match=message):
        CertificateMonitor(lambda w, x: w @ x, X, y, **given)
