"""The inside of models: what is read off must be what the model computes, by hand and by differentiation."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from widthwise.measure import parameter_names, trace
from widthwise.networks import MLP, sample
from widthwise.operators import adapt, parameters

X = np.random.default_rng(0).normal(size=(4, 5))


def looped(p, x):
    """A loop over stacked layers, then a readout."""
    h, _ = jax.lax.scan(lambda h, wb: (jnp.tanh(wb[0] @ h + wb[1]), None), x, (p["w"], p["b"]))
    return p["o"] @ h


def recurrent(p, x):
    """One weight in every round, a bias that is added last."""
    h, _ = jax.lax.scan(lambda h, t: (jnp.tanh(p["w"] @ h + p["u"] * t), None), jnp.ones(3), x)
    return p["o"] @ h


STACKED = {"w": jr.normal(jr.key(0), (3, 5, 5)), "b": jnp.ones((3, 5)), "o": jnp.ones((2, 5))}
TIED = {"e": jr.normal(jr.key(1), (4, 5))}


def test_an_equinox_model_has_its_pre_activations_with_biases():
    model = eqx.nn.MLP(5, 2, 7, 2, activation=jnp.tanh, key=jr.key(0))
    adapted = adapt(model, X)
    found = trace(adapted, jnp.asarray(X[0]))
    inside = eqx.filter_jit(found.inside)(adapted, jnp.asarray(X))
    a = jnp.asarray(X)
    for layer, read, made in zip(model.layers, inside.inputs, inside.outputs, strict=True):
        np.testing.assert_allclose(read, a, rtol=1e-13, atol=1e-14)
        np.testing.assert_allclose(made, a @ layer.weight.T + layer.bias[None], rtol=1e-13, atol=1e-14)
        a = jnp.tanh(made)
    assert found.names == ("layers.0.weight", "layers.1.weight", "layers.2.weight")
    assert [parameter_names(adapted)[layer.bias] for layer in found.layers] == [f"layers.{i}.bias" for i in range(3)]
    assert found.skipped == ()


def test_sensitivities_are_the_gradients_of_the_biases():
    adapted = adapt(eqx.nn.MLP(5, 2, 7, 2, activation=jnp.tanh, key=jr.key(0)), X)
    found, leaves_of = trace(adapted, jnp.asarray(X[0])), parameters(adapted)
    sensitivities = found.sensitivities(adapted, jnp.asarray(X))
    jacobian = jax.jacrev(lambda leaves: jax.vmap(leaves_of[1](leaves))(jnp.asarray(X)))(leaves_of[0])
    for layer, one in zip(found.layers, sensitivities, strict=True):
        np.testing.assert_allclose(one, jacobian[layer.bias], rtol=1e-12, atol=1e-13)
    row = found.sensitivities(adapted, jnp.asarray(X), jnp.array([[2.0, -1.0]]))
    np.testing.assert_allclose(row[0][:, 0], 2 * sensitivities[0][:, 0] - sensitivities[0][:, 1], rtol=1e-12)


def test_a_loop_over_stacked_layers_is_a_layer_for_each_round():
    adapted = adapt(looped, X, params=STACKED)
    found = trace(adapted, jnp.asarray(X[0]))
    assert found.names == ("w[0]", "w[1]", "w[2]", "o")
    inside, h = found.inside(adapted, jnp.asarray(X)), jnp.asarray(X)
    for i in range(3):
        z = h @ STACKED["w"][i].T + STACKED["b"][i][None]
        np.testing.assert_allclose(inside.outputs[i], z, rtol=1e-12, atol=1e-13)
        h = jnp.tanh(z)
    gradient = jax.vmap(jax.jacrev(lambda b, x: looped(STACKED | {"b": b}, x)), in_axes=(None, 0))(
        STACKED["b"], jnp.asarray(X)
    )
    for i, one in enumerate(found.sensitivities(adapted, jnp.asarray(X))[:3]):
        np.testing.assert_allclose(one, gradient[:, :, i], rtol=1e-12, atol=1e-13)


def test_a_weight_of_every_round_is_one_layer_with_a_place_for_each_round():
    params = {"w": jnp.eye(3), "u": jnp.ones(3), "o": jnp.ones((1, 3))}
    adapted = adapt(recurrent, X, params=params)
    found = trace(adapted, jnp.asarray(X[0]))
    assert [(layer.name, layer.shape) for layer in found.layers] == [("w", (5, 3)), ("o", (1,))]
    assert found.skipped == ("u",)


def test_uses_of_a_tied_weight_are_told_apart():
    adapted = adapt(lambda p, x: p["e"].T @ jnp.tanh(p["e"] @ x), X, params=TIED)
    found = trace(adapted, jnp.asarray(X[0]))
    assert found.names == ("e", "e (2)")
    assert all(layer.shared for layer in found.layers)


def test_own_networks_are_read_with_their_scales():
    model = sample(MLP(width=6, depth=1, bias_variance=0.5).network(), jr.key(0), in_size=5)
    found, inputs = trace(model, jnp.asarray(X[0])), jnp.asarray(X)
    outputs, bias = found.inside(model, inputs).outputs, model.pieces[0].bias
    np.testing.assert_allclose(outputs[0], jax.vmap(model.pieces[0])(jnp.asarray(X)), rtol=1e-12)
    np.testing.assert_allclose(outputs[-1], jax.vmap(model)(inputs), rtol=1e-12)
    by_bias = jax.vmap(jax.grad(lambda bias, x: eqx.tree_at(lambda m: m.pieces[0].bias, model, bias)(x)[0]), (None, 0))
    expected = by_bias(bias, inputs) / 0.5**0.5
    np.testing.assert_allclose(found.sensitivities(model, inputs)[0][:, 0], expected, rtol=1e-12)


def test_whole_numbers_are_looked_up():
    params = {"table": jr.normal(jr.key(2), (9, 3)), "o": jnp.ones((1, 3))}
    adapted = adapt(lambda p, t: p["o"] @ jnp.mean(p["table"][t], axis=0), params=params)
    found = trace(adapted, jnp.array([1, 2, 2]))
    assert [layer.kind for layer in found.layers] == ["lookup", "product"]
    tokens = jnp.array([[1, 2, 2], [8, 0, 3]])
    np.testing.assert_allclose(found.inside(adapted, tokens).outputs[0], params["table"][tokens])


def test_a_flax_network_of_convolutions_has_its_biases():
    nnx = pytest.importorskip("flax.nnx")

    class Net(nnx.Module):
        def __init__(self, rngs):
            self.first = nnx.Conv(1, 4, (3, 3), rngs=rngs, bias_init=nnx.initializers.ones)
            self.last = nnx.Linear(4, 2, rngs=rngs)

        def __call__(self, x):
            return self.last(nnx.relu(self.first(x)).mean((1, 2)))

    net, images = Net(nnx.Rngs(0)), np.random.default_rng(1).normal(size=(3, 6, 6, 1)).astype("float32")
    adapted = adapt(net, images)
    found = trace(adapted, jnp.asarray(images[0]))
    assert found.names == ("first.kernel", "last.kernel")
    outputs = found.inside(adapted, jnp.asarray(images)).outputs
    np.testing.assert_allclose(outputs[0][:, 0], net.first(images), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(outputs[1][:, 0], net(images), rtol=1e-5, atol=1e-6)


def test_a_model_without_a_known_step_is_refused():
    adapted = adapt(lambda p, x: jnp.sum(p["scale"] * x), params={"scale": jnp.ones(5)})
    with pytest.raises(ValueError, match="scale, none of which is used in a known step"):
        trace(adapted, jnp.asarray(X[0]))
