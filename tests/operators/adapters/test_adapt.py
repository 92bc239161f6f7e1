"""Models of every framework: their own numbers, what is trained, and what is refused."""

import subprocess
import sys

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from operators.adapters.case import inputs, lenient
from operators.adapters.zoo import CASES, ZOO
from widthwise.operators import entk, jacobian_matrix, parameters
from widthwise.operators.adapters import Adapted, adapt
from widthwise.operators.parameters import Frozen

# Sums of at most some 100 terms of order 1, along different ways of the compiler.
ROUNDING = 1e-12


def linear(w, x):
    return w @ x


W, X = jnp.array([[1.0, 2.0, 3.0], [0.5, -1.0, 2.0]]), inputs(3)


@pytest.mark.parametrize("name", CASES)
def test_outputs_are_those_of_the_framework(name):
    case = CASES[name]()
    model, X = ZOO[name]()
    found = jax.jit(jax.vmap(model))(X)
    assert found.dtype == jnp.float64 and found.ndim == 2
    np.testing.assert_allclose(found, np.reshape(case.own(), (3, -1)), rtol=ROUNDING, atol=ROUNDING)


def test_the_zoo_is_large_enough():
    assert len(ZOO) >= 30


@pytest.mark.parametrize("name", ["gated_units", "eqx_dense", "linen_dense", "haiku_dense"])
def test_float32_by_request(name):
    case = CASES[name]()
    found = jax.jit(jax.vmap(adapt(case.model, case.X, dtype="float32", **case.options)))(case.X)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, np.reshape(case.own(), (3, -1)), rtol=1e-6, atol=1e-6)


def test_derivatives_are_those_of_the_framework():
    """The Jacobian of an NNX model against `jax.jacrev` of its own functional form."""
    case, (model, X) = CASES["nnx_norms"](), ZOO["nnx_norms"]()
    graph, params, rest = nnx.split(case.model, nnx.Param, ...)
    rows = jax.jit(jax.jacrev(lambda params: nnx.merge(graph, params, rest, copy=True)(X)))(params)
    wanted = np.concatenate([np.reshape(leaf, (3, 2, -1)) for leaf in jax.tree.leaves(rows)], axis=2)
    np.testing.assert_allclose(eqx.filter_jit(jacobian_matrix)(model, X), wanted, rtol=ROUNDING, atol=ROUNDING)


SIZES = {  # counted by hand from the layers
    "unused_parameters": 3 * 4 + 7 * 2 + 4 * 2,
    "scalar_parameters": 3,
    "tied_weights": 16,
    "eqx_batch_norm": (3 * 4 + 4) + 2 * 4 + (4 * 2 + 2),
    "eqx_shared_weights": 6 * 4 + 6,
    "nnx_norms": (3 * 8 + 8) + 3 * 16 + 8 + (8 * 2 + 2),
    "nnx_shared_layer": 4 * 4 + 4,
    "linen_convolutions_with_batch_norm": (9 * 2 * 4 + 4) + 8 + (9 * 4 + 4) + (16 * 2 + 2),
    "haiku_convolutions_with_batch_norm": (9 * 2 * 4 + 4) + 8 + (9 * 4 + 4) + (4 * 2 + 2),
}


@pytest.mark.parametrize("name", SIZES)
def test_exactly_the_parameters_are_trained(name):
    leaves, rebuild = parameters(ZOO[name]()[0])
    assert sum(leaf.size for leaf in leaves) == SIZES[name]
    assert rebuild(leaves)(CASES[name]().X[0]).ndim == 1


def test_frozen_arrays_are_not_trained_and_pass_no_derivative():
    model = jax.tree_util.Partial(lambda w, fixed, x: w * fixed.value * x, jnp.ones(3), Frozen(2 * jnp.ones(3)))
    leaves, rebuild = parameters(model)
    assert len(leaves) == 1 and rebuild((3 * leaves[0],))(jnp.ones(3)).tolist() == [6.0, 6.0, 6.0]
    gradient = eqx.filter_grad(lambda model: model(jnp.ones(3)).sum())(model)
    assert gradient.args[1].tree.tolist() == [0.0, 0.0, 0.0]


def test_the_model_of_the_user_stays_as_it_is():
    model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    before = model.kernel[...]
    adapt(model, X, dtype="float64")
    assert model.kernel[...] is before and before.dtype == jnp.float32


def test_outputs_of_any_shape_are_flattened():
    assert adapt(lambda w, x: w * x[0], X, params=2.0)(X[0]).shape == (1,)
    assert adapt(lambda w, X: jnp.sum(w * X, axis=1), X, params=jnp.array(2.0))(X[0]).shape == (1,)
    assert adapt(lambda w, x: jnp.outer(w, x), X, params=jnp.ones(2))(X[0]).shape == (6,)


def test_an_adapted_model_is_adapted_already():
    model = adapt((linear, W), X)
    assert isinstance(model, Adapted) and adapt(model, X) is model


def test_equal_models_are_compiled_once():
    count = []

    def counted(w, x):
        count.append(1)
        return w @ x

    compiled = eqx.filter_jit(lambda model, x: model(x))
    for _ in range(2):
        compiled(adapt(counted, params=W), X[0])
    assert len(count) == 1


def test_ways_to_enter_a_model():
    partials = [adapt(jax.tree_util.Partial(linear, w), X) for w in (W, np.asarray(W))]
    for model in (adapt((linear, W)), adapt(linear, X, params=W), *partials):
        np.testing.assert_array_equal(model(X[0]), W @ X[0])
    module, variables = CASES["linen_dense"]().model
    for way in (module.bind(variables), module.apply):
        params = variables if way == module.apply else None
        model = adapt(way, X, params=params, dtype="float64")
        assert model(X[0]).shape == (2,)
    transformed, params = CASES["haiku_dense"]().model
    assert adapt(transformed, X, params=params)(X[0]).shape == (2,)


def test_numbers_and_numpy_arrays_are_parameters():
    model = adapt(lambda p, x: p["scale"] * (p["w"] @ x), X, params={"scale": 2.0, "w": np.asarray(W), "name": "f"})
    assert sorted(leaf.shape for leaf in parameters(model)[0]) == [(), (2, 3)]


def test_outputs_are_selected():
    def f(w, x):
        return {"logits": w @ x, "more": (x, {"sum": x.sum() * w[0, 0]})}

    np.testing.assert_array_equal(adapt(f, X, params=W, output="logits")(X[0]), W @ X[0])
    assert adapt(f, X, params=W, output=("more", 1, "sum"))(X[0]).shape == (1,)


def test_one_example_or_a_batch_is_found_out():
    assert not adapt((linear, W), X).batched
    assert adapt((lambda w, X: X @ w.T + jnp.zeros((len(X), 2)), W), X).batched
    assert adapt((linear, W), batched=True).batched
    assert adapt((linear, W), X[:1], batched=False).batched is False


def test_a_half_precise_model_is_computed_in_float32():
    with pytest.warns(UserWarning, match="bfloat16 are computed in float32"):
        model = adapt((linear, W.astype(jnp.bfloat16)), X)
    assert model(X[0]).dtype == jnp.float32 and parameters(model)[0][0].dtype == jnp.float32
    with pytest.warns(UserWarning, match="converts float64 to bfloat16 on its way"):
        model = adapt((lambda w, x: (w @ x).astype(jnp.bfloat16), W), X)
    assert model(X[0]).dtype == jnp.float32


def test_a_softmax_in_float32_inside_a_float64_model_is_told():
    """Flax's default attention, also inside another function."""
    layer = nnx.MultiHeadAttention(1, 4, decode=False, rngs=nnx.Rngs(0), param_dtype=jnp.float64)

    def f(w, X):
        with lenient():
            return jax.checkpoint(layer)(w * X)

    layer.eval()
    with pytest.warns(UserWarning, match="float64 to float32 on its way, so its numbers have about 6 digits"):
        adapt((f, 1.0), inputs(3, 4), batched=True)


def test_inputs_are_held_in_the_precision_of_the_parameters():
    assert adapt((linear, W.astype(jnp.float32)), X)(np.asarray(X[0])).dtype == jnp.float32


def test_the_empirical_ntk_of_a_model_on_batches():
    model = adapt((lambda w, X: X @ w, W.T), X)
    np.testing.assert_allclose(entk(model, X, outputs="trace"), X @ X.T, rtol=ROUNDING)


class Live(nnx.Module):
    def __init__(self):
        self.linear, self.dropout = nnx.Linear(3, 2, rngs=nnx.Rngs(0)), nnx.Dropout(0.5, rngs=nnx.Rngs(0))

    def __call__(self, X):
        return self.dropout(self.linear(X))


def sampled(rate):
    def f(X, live=True):
        X = hk.Linear(2)(X)
        with lenient():
            return hk.dropout(hk.next_rng_key(), rate, X) if live else X

    return f


def haiku_dropout():
    transformed = hk.transform(sampled(0.5))
    return transformed, transformed.init(jax.random.key(0), X)


def images():
    return CASES["linen_convolutions_with_batch_norm"]().model


REFUSED = {
    "dropout, Equinox": (lambda: (eqx.nn.Sequential([eqx.nn.Dropout(0.3)]), X, {}), "Dropout with p=0.3 at .layers"),
    "dropout, NNX": (lambda: (Live(), X, {}), "dropout layer dropout is in training mode .* model.eval"),
    "batch norm, NNX": (lambda: (nnx.BatchNorm(3, rngs=nnx.Rngs(0)), X, {}), "BatchNorm.* is in training mode"),
    "dropout, linen": (lambda: (images(), inputs(6, 6, 2), {"call": {"train": True}}), r"call=dict\(train=False\)"),
    "keys, linen": (lambda: (images(), X, {"call": {"rngs": {}}}), "no dropout"),
    "dropout, Haiku": (lambda: (haiku_dropout(), X, {}), r"call=dict\(is_training=False\)"),
    "batch norm, function": (lambda: ((lambda w, X: w * (X - X.mean(0, keepdims=True)), 1.0), X, {"batched": True}),
        "depends on the other examples"),
    "one or a batch": (lambda: ((lambda w, x: w * jax.nn.softmax(x, axis=0), 1.0), X, {}), "say what it acts on"),
    "integers": (lambda: ((linear, jnp.ones((2, 3), jnp.int32)), X, {}), "only int32"),
    "no parameters": (lambda: ((lambda w, x: x, {}), X, {}), "without parameters"),
    "no parameters, Equinox": (lambda: (eqx.nn.Lambda(jnp.tanh), X, {}), "without parameters"),
    "bare function": (lambda: (jnp.tanh, X, {}), "a function without parameters.*adapt.f, params=params"),
    "unknown": (lambda: ({"w": W}, X, {}), "a dict .*eqx.Module.*Flax.*Haiku.*PyTorch"),
    "dict": (lambda: ((lambda w, x: {"logits": w @ x, "hidden": x}, W), X, {}), "'logits', 'hidden'.*output='logits'"),
    "tuple": (lambda: ((lambda w, x: (w @ x, x), W), X, {}), "a tuple with the keys 0, 1.*output=0"),
    "wrong output": (lambda: ((lambda w, x: {"logits": w @ x}, W), X, {"output": "logit"}), "did you mean 'logits'"),
    "classes": (lambda: ((lambda w, x: jnp.argmax(w @ x), W), X, {}), "output is of type int"),
    "no batch axis": (lambda: ((linear, W), X[0], {}), r"one example of shape \(\).* on a batch of shape \(n,\)"),
    "wrong shape": (lambda: ((linear, W), inputs(5), {}), r"one example of shape \(5,\) it said.*dot_general"),
    "wrong shape, NNX": (lambda: (nnx.Linear(3, 2, rngs=nnx.Rngs(0)), inputs(5), {"dtype": "float64"}), "it said"),
    "pooled batch": (lambda: ((lambda w, X: w * X.sum(), 1.0), X, {"batched": True}), "one entry for each"),
    "empty": (lambda: ((linear, W), X[:0], {}), "n >= 1 examples"),
    "NaN": (lambda: ((linear, {"w": W.at[0, 0].set(jnp.nan)}), X, {}), r"parameter \['w'\] holds NaN"),
    "infinite": (lambda: (jax.tree_util.Partial(linear, W / 0), X, {}), "holds NaN or inf"),
    "dtype": (lambda: ((linear, W), X, {"dtype": "float16"}), "dtype=float16.*float32 or float64"),
    "own dtype": (lambda: (nnx.Linear(3, 2, dtype=jnp.float32, rngs=nnx.Rngs(0)), X, {"dtype": "float64"}),
        "model returns float32"),
    "params of linen": (lambda: ((nn.Dense(2), {"kernel": W.T}), X, {}), "'kernel'.*key 'params'"),
    "state of Haiku": (lambda: (CASES["haiku_convolutions_with_batch_norm"]().model[:2], X, {}), "params, state"),
}  # fmt: off


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    """What came, what is allowed and what to do, in three sentences."""
    make, said = REFUSED[name]
    model, X, options = make()
    with pytest.raises(ValueError, match=f"(?s){said}") as error:
        adapt(model, X, **options)
    assert str(error.value).count(". ") >= 2


def test_dropout_that_is_off_is_taken():
    model = Live()
    model.eval()
    assert adapt(model, X, dtype="float64")(X[0]).shape == (2,)
    transformed, params = haiku_dropout()
    assert adapt((transformed, params), X, call={"live": False})(X[0]).shape == (2,)


def test_a_single_example_shows_live_statistics():
    with pytest.raises(ValueError, match="depends on the other examples"):
        adapt((lambda w, X: w * (X - X.mean(0, keepdims=True)), 1.0), X[:1], batched=True)


def test_the_model_may_be_adapted_under_jit():
    found = jax.jit(lambda w: adapt((linear, w), X)(X[0]))(W)
    np.testing.assert_allclose(found, W @ X[0], rtol=ROUNDING)


def test_flax_that_is_missing_is_named(monkeypatch):
    model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    monkeypatch.setitem(sys.modules, "flax", None)
    with pytest.raises(ValueError, match=r"pip install 'widthwise\[flax\]'"):
        adapt(model, X)


def test_nothing_optional_is_imported_and_64_bits_are_asked_for():
    code = """if True:
        import sys, widthwise, jax.numpy as jnp
        from widthwise.operators.adapters import adapt
        model = (lambda w, x: w @ x, jnp.ones((2, 3)))
        adapt(model, jnp.ones((3, 3)))
        assert not {"torch", "flax", "haiku"} & {*sys.modules}
        adapt(model, dtype="float64")"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ValueError: dtype='float64'" in done.stderr
    assert "Call jax.config.update('jax_enable_x64', True)" in done.stderr
