"""The recorder in training loops: what it records, when, of models of every framework, and what it refuses."""

import time
from itertools import pairwise

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from widthwise.measure import alignment
from widthwise.measure.recorder import Cadence, KernelRecorder
from widthwise.operators import entk

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(6, 4)), np.array([0, 1, 2, 0, 1, 2])
PARAMS = {"w": jr.normal(jr.key(0), (4, 8)), "v": jr.normal(jr.key(1), (8, 3))}


def net(params, x):
    return jnp.tanh(x @ params["w"]) @ params["v"]


def later(step):
    """Parameters on a curve that starts at PARAMS."""
    return {name: one + 0.1 * step * jnp.cos(one) for name, one in PARAMS.items()}


def recorded(steps=(0, 2, 5), Y=Y, **options):
    recorder = KernelRecorder(net, X, Y, every=1, params=PARAMS, **options)
    for step in steps:
        assert recorder(step, later(step))
    return recorder


@pytest.fixture(scope="module")
def found():
    return recorded().records


@pytest.fixture(scope="module")
def kernels():
    return [_ntk(later(step)) for step in (0, 2, 5)]


def _ntk(params):
    return entk((net, params), X, outputs="trace")


def test_distance_cosine_and_velocity_are_those_of_the_kernels(found, kernels):
    first, norm = kernels[0], np.linalg.norm(kernels[0])
    np.testing.assert_allclose(found["distance"], [np.linalg.norm(K - first) / norm for K in kernels], atol=1e-13)
    cosines = [np.sum(K * first) / np.linalg.norm(K) / norm for K in kernels]
    np.testing.assert_allclose(found["cosine"], cosines, rtol=1e-13)
    steps = [np.nan, *(np.linalg.norm(b - a) / norm for a, b in pairwise(kernels))]
    np.testing.assert_allclose(found["velocity"], np.array(steps) / [1.0, 2.0, 3.0], rtol=1e-12)
    # The way is no shorter than the distance.
    assert found["distance"][-1] <= np.sum(found["velocity"][1:] * np.diff(found["step"])) * (1 + 1e-12)


def test_alignment_loss_and_spectrum_are_those_of_the_kernels(found, kernels):
    T = np.eye(3)[Y]
    np.testing.assert_allclose(found["alignment"], [alignment(K, T) for K in kernels], rtol=1e-12)
    np.testing.assert_allclose(found["top_eigenvalue"], [np.linalg.eigvalsh(K)[-1] for K in kernels], rtol=1e-12)
    f = np.asarray(jax.vmap(lambda x: net(later(5), x))(X))
    assert found["loss"][-1] == pytest.approx(np.mean(np.log(np.exp(f).sum(1)) - f[np.arange(6), Y]), rel=1e-13)
    assert found["step"].tolist() == [0, 2, 5]


def test_weights_and_outputs_move_as_they_were_moved(found):
    change = [np.linalg.norm(0.5 * np.cos(PARAMS[name])) / np.linalg.norm(PARAMS[name]) for name in ("v", "w")]
    np.testing.assert_allclose(found["weight_change"][-1], change, rtol=1e-13)
    outputs = [np.asarray(jax.vmap(lambda x, step=step: net(later(step), x))(X)) for step in (0, 5)]
    expected = np.linalg.norm(outputs[1] - outputs[0]) / np.linalg.norm(outputs[0])
    np.testing.assert_allclose(found["feature_change"][-1], [expected], rtol=1e-13)


def test_without_labels_there_is_no_loss():
    recorder = recorded(Y=None)
    assert not {"loss", "alignment"} & {*recorder.records}
    assert repr(recorder) == "KernelRecorder(3 records on 6 inputs)"


def test_the_probe_is_drawn_by_the_seed_with_its_labels():
    many = RNG.normal(size=(200, 4))
    labels = (many[:, 0] > 0).astype(int)
    first, again, other = (KernelRecorder(net, many, labels, params=PARAMS, seed=seed) for seed in (1, 1, 2))
    assert len(first.X) == 64 and np.array_equal(first.X, again.X) and not np.array_equal(first.X, other.X)
    assert first.Y is not None and np.array_equal(first.Y, (first.X[:, 0] > 0).astype(int))


def test_the_model_is_traced_when_the_recorder_is_made_and_never_again():
    traced = []

    def counted(params, x):
        traced.append(1)
        return net(params, x)

    recorder = KernelRecorder(counted, X, Y, every=1, params=PARAMS)
    made = len(traced)
    for step in range(3):
        recorder(step, later(step))
    assert made > 0 and len(traced) == made


def test_the_start_survives_training_that_gives_its_arrays_away():
    given = jax.tree.map(jnp.array, PARAMS)
    recorder = KernelRecorder(net, X, every=1, params=given)
    step = jax.jit(lambda params: jax.tree.map(lambda leaf: 2.0 * leaf, params), donate_argnums=0)
    moved = step(given)
    jax.tree.map(lambda leaf: leaf.delete() if not leaf.is_deleted() else None, given)
    recorder(1, moved)
    np.testing.assert_allclose(recorder.records["weight_change"], [[1.0, 1.0]], rtol=1e-14)


def test_a_training_that_diverges_is_recorded_as_nan():
    recorder = recorded(steps=(0,))
    recorder(1, {**PARAMS, "w": PARAMS["w"] * jnp.nan})
    assert np.isnan(recorder.records["distance"][1]) and np.isnan(recorder.records["top_eigenvalue"][1])


class Clock:
    """A clock that stands still unless it is set forward: each reading costs what a look costs."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.mark.parametrize("budget", [0.05, 0.1, 0.5])
def test_the_recorder_keeps_within_its_budget(budget):
    """Looks of 3 to 7 s between steps of 1 s: never more than the budget, and not much less."""
    cadence, now, looks, spent = Cadence(None, budget), 0.0, 0, []
    for step in range(5000):
        if cadence.due(step, now):
            cost = 3.0 + looks % 5
            cadence.paid(now, now + cost)
            now, looks = now + cost, looks + 1
            spent.append((cadence.spent, now))
        now += 1.0
    # What a look will cost is known from the one before: it may take 4 s more.
    assert all(paid <= budget * passed + 4.0 for paid, passed in spent[1:])
    assert cadence.spent > budget * now - 15.0


def test_with_every_no_clock_matters():
    recorder = KernelRecorder(net, X, every=3, params=PARAMS, clock=Clock())
    assert [step for step in range(8) if recorder(step, PARAMS)] == [0, 3, 6]
    assert recorder.record(7, PARAMS) and not recorder.record(7, PARAMS)
    assert recorder.records["step"].tolist() == [0, 3, 6, 7]


@pytest.mark.slow
def test_the_share_of_the_time_is_below_the_budget():
    """Clocked from outside, in a loop that does nothing but sleep."""
    recorder, inside, begun = KernelRecorder(net, X, Y, params=PARAMS), 0.0, time.perf_counter()
    for step in range(1500):
        called = time.perf_counter()
        recorder(step, PARAMS)
        inside += time.perf_counter() - called
        time.sleep(0.002)
    passed = time.perf_counter() - begun
    # What the recorder cannot see of itself: the calls, whose types the tests check, and waiting for what is ready.
    assert inside < 0.12 * passed
    assert len(recorder.records["step"]) >= 3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"every": 0}, "every=0.*at least 1.*every=100"),
        ({"size": 0}, "size=0"),
        ({"budget": 1.0}, "budget=1.0.*between 0 and 1.*budget=0.1"),
        ({"X": X[:0]}, r"X of shape \(0, 4\).*n >= 1.*training data"),
        ({"X": X * np.inf}, "NaN or infinity"),
        ({"Y": Y[:3]}, r"Y of shape \(3,\).*one label.*Check the rows"),
        ({"Y": np.full((6, 3), np.nan)}, "Targets are finite"),
        ({"Y": Y + 1}, "the label 3 "),
        ({"params": None}, "without parameters"),
    ],
)
def test_bad_arguments_are_refused(options, said):
    given = {"X": X, "Y": Y, "params": PARAMS, **options}
    with pytest.raises(ValueError, match=said):
        KernelRecorder(net, given.pop("X"), given.pop("Y"), **given)


@pytest.mark.parametrize(
    ("step", "params", "said"),
    [
        (1, PARAMS, "step=1 after step 5.*rise.*resume"),
        (-1, PARAMS, "step=-1.*0 or more.*Count"),
        (6.5, PARAMS, "step=6.5"),
        (True, PARAMS, "step=True"),
        (6, {"w": PARAMS["w"]}, r"another structure: w \(4, 8\).*v \(8, 3\), w \(4, 8\).*as they were given"),
        (6, {**PARAMS, "v": jnp.ones((8, 2))}, r"v \(8, 2\)"),
        (6, 3.0, "a float without arrays"),
        (6, (net, {"w": PARAMS["w"]}), "another structure"),
    ],
)
def test_bad_calls_are_refused(step, params, said):
    recorder = recorded()
    with pytest.raises(ValueError, match=said):
        recorder(step, params)
    assert recorder.records["step"].tolist() == [0, 2, 5]


def test_a_model_may_come_as_parameters_or_as_itself():
    recorder = recorded(steps=())
    numpy = {name: np.asarray(one) for name, one in later(1).items()}
    for step, given in enumerate([later(1), numpy, {"params": numpy}, (net, later(1))]):
        recorder(step, given)
    assert np.ptp(recorder.records["distance"]) == 0.0 < recorder.records["distance"][0]
