"""The signal report: against the theory of known networks, its words, its remedies and its refusals."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import widthwise as ww
from widthwise.measure import propagated, rescaled, trace
from widthwise.operators import adapt
from widthwise.theory.survival import signal_report

X = np.random.default_rng(0).normal(size=(6, 16))
DEPTH = 5


def plain(params, x):
    """A chain of layers without biases, tanh between them."""
    *hidden, last = params
    for w in hidden:
        x = jnp.tanh(w @ x)
    return last @ x


def skipped(p, x):
    return p["b"] @ (x + jnp.tanh(p["a"] @ x))


def linear(params, x):
    for w in params:
        x = w @ x
    return x


def drawn(scale, seed, depth=DEPTH, width=48):
    """Weights of variance scale^2 over the fan-in, for `plain`."""
    rng = np.random.default_rng(seed)
    sizes = [16] + [width] * depth + [2]
    return [scale * rng.normal(size=(m, n)) / n**0.5 for n, m in itertools.pairwise(sizes)]


@pytest.fixture(scope="module")
def chaotic():
    return signal_report(lambda seed: (plain, drawn(2.0, seed)), X, draws=8)


def test_a_chain_is_recognised_and_predicted_from_its_own_weights(chaotic):
    assert chaotic.unpredicted == ""
    # 1/width corrections of sums over 48 neurons are about 2 % a layer; 5 standard errors and these
    for name in ("variance", "gradient", "gap"):
        found, expected = chaotic.measured.mean(name), getattr(chaotic.predicted, name)
        hidden = chaotic.measured.hidden
        error = 5 * found.error[hidden] + 0.02 * DEPTH * expected[hidden]
        assert np.all(np.abs(found.value - expected)[hidden] < error), name


def test_the_gain_of_a_layer_is_chi_perp(chaotic):
    q, w = chaotic.predicted.variance, chaotic.measured.weight_variance.mean(axis=0)
    normal = np.random.default_rng(1).normal(size=200_000)
    chi = [w[at + 1] * np.mean((1 - np.tanh(q[at] ** 0.5 * normal) ** 2) ** 2) for at in range(DEPTH - 1)]
    gain = chaotic.measured.mean("gain")
    assert np.all(np.abs(gain.value[: DEPTH - 1] - chi) < 5 * gain.error[: DEPTH - 1] + 0.04 * np.array(chi))


def test_jacobians_are_those_of_the_layers():
    params = drawn(1.0, 3, depth=2, width=10)
    found = propagated([adapt((plain, params), X)], X)
    for at in range(2):
        z = params[0] @ X[at]
        J = params[1] * (1 - np.tanh(z) ** 2)
        assert np.isclose(found.stretch[at, 0], np.linalg.norm(J, 2), rtol=1e-6)
        # eight random directions: a relative standard error of at most sqrt(2/8)
        assert abs(found.gain[at, 0] / (np.sum(J**2) / 10) - 1) < 5 * (2 / 8) ** 0.5


def test_gradients_of_many_outputs_are_right_on_average():
    params = [np.random.default_rng(0).normal(size=(400, 16))]
    found = propagated([adapt((linear, params), X)] * 2, X)
    assert np.allclose(found.gradient[:, -1], 1.0, rtol=1e-12)  # random signs have mean square one


@pytest.mark.parametrize(("scale", "word"), [(0.7, "shrinking"), pytest.param(2.5, "growing", marks=pytest.mark.slow)])
def test_words_for_gradients(scale, word):
    found = signal_report(lambda seed: (plain, drawn(scale, seed)), X, draws=4, jacobians=False)
    assert found.backward.word == word
    assert not found.survives
    assert "rescale it" in found.sentence
    if word == "shrinking":
        assert found.forward.word == "shrinking"
    assert found.critical == (("tanh", 1.0, 0.0),)


@pytest.mark.slow
def test_a_critical_network_of_the_library_survives():
    network = ww.MLP(width=128, depth=8, activation="relu")
    found = ww.signal_report(network, X, draws=6, jacobians=False)
    assert (found.forward.word, found.backward.word, found.survives) == ("preserved", "preserved", True)
    np.testing.assert_allclose(found.predicted.variance[:-1], 2 * np.mean(X**2), rtol=1e-10)
    assert str(found).count("\n") == 10


@pytest.mark.slow
def test_two_inputs_become_alike_in_the_ordered_phase():
    network = ww.MLP(width=128, depth=10, activation="relu", weight_variance=0.8, bias_variance=0.5)
    found = ww.signal_report(network, X, draws=3, jacobians=False)
    assert found.inputs_told_apart == "merging"
    assert "become alike" in found.sentence
    assert found.correlation.value[-2] > 0.99


def test_rescaling_reaches_its_target_exactly():
    model = eqx.nn.MLP(16, 2, 24, 3, activation=jnp.tanh, key=jr.key(0))
    found = signal_report(model, X, jacobians=False)
    better = found.rescale(model, target=1.5)
    assert isinstance(better, eqx.nn.MLP)
    again = signal_report(better, X, jacobians=False)
    np.testing.assert_allclose(again.measured.mean("variance").value[:-1], 1.5, rtol=1e-10)
    np.testing.assert_array_equal(better.layers[-1].weight, model.layers[-1].weight)
    np.testing.assert_allclose(
        np.array([new for _, _, new in found.proposed]),
        found.measured.weight_variance[0] * rescaled(adapt(model), jnp.asarray(X)).factors ** 2,
    )


def test_rescaling_gives_back_what_came():
    params = drawn(0.5, 0)
    found = signal_report((plain, params), X, jacobians=False)
    function, new = found.rescale((plain, params))
    bare = found.rescale(params)
    assert function is plain
    assert isinstance(bare, list)
    for one, two, old in zip(new, bare, params, strict=True):
        np.testing.assert_array_equal(one, two)
        ratio = np.asarray(one) / old
        np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-12)
    np.testing.assert_array_equal(new[0], found.rescale().parameters[0])
    with pytest.raises(ValueError, match="without parameters"):
        found.rescale(plain)


def test_rescaling_goes_round_by_round_through_a_loop_and_keeps_tied_weights_tied():
    def looped(p, x):
        h, _ = jax.lax.scan(lambda h, w: (jnp.tanh(w @ h), None), x, p["w"])
        return p["o"] @ h

    p = {"w": 0.3 * np.random.default_rng(0).normal(size=(4, 16, 16)), "o": np.ones((1, 16))}
    done = rescaled(adapt((looped, p)), jnp.asarray(X))
    np.testing.assert_allclose(done.after[:4], 1.0, rtol=1e-10)
    tied = adapt((lambda p, x: p["e"].T @ jnp.tanh(p["e"] @ x), {"e": np.ones((3, 16))}))
    assert len(set(rescaled(tied, jnp.asarray(X), readout=True).factors)) == 1


def test_a_silent_layer_is_called_dead():
    params = drawn(1.0, 0)
    params[2] = 0.0 * params[2]
    found = signal_report((plain, params), X, jacobians=False)
    assert found.forward.word == "dead"
    assert found.rescaling.dead == ("2", "3", "4", "5")
    assert "zero in some layer" in found.sentence


@pytest.mark.slow
def test_other_frameworks_get_their_own_kind_back():
    torch = pytest.importorskip("torch")
    net = torch.nn.Sequential(torch.nn.Linear(16, 8), torch.nn.Tanh(), torch.nn.Linear(8, 8), torch.nn.Linear(8, 1))
    before = net[0].weight.detach().numpy().copy()
    found = signal_report(net.eval(), X.astype("float32"), jacobians=False)
    better = found.rescale(net)
    assert type(better) is torch.nn.Sequential
    np.testing.assert_array_equal(net[0].weight.detach().numpy(), before)
    z = better[0](torch.as_tensor(X.astype("float32"))).detach().numpy()
    assert np.isclose(np.mean(z**2), 1.0, rtol=1e-5)


@pytest.mark.slow
def test_flax_modules_come_back_as_such():
    nnx, linen = pytest.importorskip("flax.nnx"), pytest.importorskip("flax.linen")

    class Net(nnx.Module):
        def __init__(self, rngs):
            self.a, self.b = nnx.Linear(16, 8, rngs=rngs), nnx.Linear(8, 1, rngs=rngs)

        def __call__(self, x):
            return self.b(nnx.tanh(self.a(x)))

    net, inputs = Net(nnx.Rngs(0)), X.astype("float32")
    better = signal_report(net, inputs, jacobians=False).rescale(net)
    assert isinstance(better, Net)
    assert np.isclose(np.mean(better.a(inputs) ** 2), 1.0, rtol=1e-5)
    module = linen.Sequential([linen.Dense(8), jnp.tanh, linen.Dense(1)])
    variables = module.init(jr.key(0), inputs)
    same, new = signal_report((module, variables), inputs, jacobians=False).rescale((module, variables))
    assert same is module
    assert jax.tree.structure(new) == jax.tree.structure(variables)


def test_a_model_that_is_no_chain_says_why_it_is_not_predicted():
    found = signal_report((skipped, {"a": np.eye(16), "b": np.ones((1, 16))}), X, jacobians=False)
    assert found.predicted is None
    assert "stands no activation of the catalogue alone" in found.unpredicted
    assert "fewer than two hidden layers" in found.sentence


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"draws": 1}, "at least two of them"),
        ({"draws": True}, "at least two of them"),
        ({"tolerance": 0.0}, "positive share"),
        ({"model": (plain, drawn(1.0, 0)), "draws": None, "X": X[:1]}, "one input of one model"),
        ({"X": np.full((3, 16), np.nan)}, "NaN|finite"),
        ({"draws": 2, "model": (plain, drawn(1.0, 0))}, "make_model"),
        ({"draws": 2, "model": eqx.nn.MLP(16, 1, 8, 1, key=jax.random.key(0))}, "instead of a function"),
        ({"network": ww.MLP(depth=2)}, "a network of 3 layers for a model of 6"),
        ({"network": 3}, "an MLP or a Chain"),
    ],
)
def test_bad_input_is_refused(change, said):
    given = {"model": lambda seed: (plain, drawn(1.0, seed)), "X": X, "draws": 2, "jacobians": False} | change
    with pytest.raises(ValueError, match=said):
        signal_report(**given)


def test_what_overflows_is_named():
    params = drawn(1.0, 0)
    params[2] = params[2] * 1e308
    params[1] = params[1] * 1e10
    with pytest.raises(ValueError, match="first at the layer 2"):
        signal_report((linear, params), X, jacobians=False)


def test_draws_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match="draw 1 with other layers"):
        signal_report(lambda seed: (plain, drawn(1.0, seed, depth=2 + seed)), X, draws=2, jacobians=False)


def test_targets_can_name_layers():
    adapted = adapt((plain, drawn(1.0, 0)))
    done = rescaled(adapted, jnp.asarray(X), {"3": 2.0})
    assert [at for at, factor in enumerate(done.factors) if factor != 1.0] == [3]
    assert np.isclose(done.after[3], 2.0)
    with pytest.raises(ValueError, match="a target for 'first'"):
        rescaled(adapted, jnp.asarray(X), {"first": 1.0})
    with pytest.raises(ValueError, match="positive number"):
        rescaled(adapted, jnp.asarray(X), -1.0)
    assert trace(adapted, jnp.asarray(X[0])).names == tuple("012345")


def test_the_report_is_drawn():
    found = signal_report((plain, drawn(1.0, 0)), X, jacobians=False)
    assert [len(ww.plot(found, which).data) for which in range(3)] == [2, 2, 2]
