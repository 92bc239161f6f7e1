"""The recorder follows models of every framework, brought as their training loops hold them."""

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from widthwise.measure.recorder import KernelRecorder
from widthwise.operators import entk, from_torch

X = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")


def doubled(tree):
    return jax.tree.map(lambda leaf: 2.0 * leaf if eqx.is_inexact_array(leaf) else leaf, tree)


def demand(recorder, forms, after):
    """Each form of the doubled model gives the kernel of it, and all weights have changed by their own size."""
    for step, form in enumerate(forms):
        assert recorder(step, form)
    found = recorder.records
    np.testing.assert_allclose(found["weight_change"], 1.0, rtol=1e-6)
    start, kernel = recorder.initial_kernel, np.asarray(entk(after, X, outputs="trace"), float)
    expected = np.linalg.norm(kernel - start) / np.linalg.norm(start)
    np.testing.assert_allclose(found["distance"], expected, rtol=1e-5)


def test_equinox():
    model = eqx.nn.MLP(3, 2, 4, 1, key=jax.random.key(0))
    moved = doubled(model)
    recorder = KernelRecorder(model, X, every=1)
    assert recorder.layers == ("layers.0", "layers.1")
    demand(recorder, [moved, eqx.filter(moved, eqx.is_inexact_array)], moved)


def _nnx(*more):
    rngs = nnx.Rngs(0)
    return nnx.Sequential(nnx.Linear(3, 4, bias_init=nnx.initializers.ones, rngs=rngs), nnx.tanh, *more)


def test_flax_nnx():
    model = _nnx()
    recorder = KernelRecorder(model, X, every=1)
    assert recorder.layers == ("layers.0",)
    nnx.update(model, doubled(nnx.state(model, nnx.Param)))  # in place, as optimisers do
    demand(recorder, [nnx.state(model, nnx.Param), model], model)


def test_flax_nnx_with_running_statistics_and_dropout_in_training():
    model = _nnx(nnx.BatchNorm(4, rngs=nnx.Rngs(1)), nnx.Dropout(0.5, rngs=nnx.Rngs(2)))
    with pytest.raises(ValueError, match=r"training mode.*model\.eval\(\)"):
        KernelRecorder(model, X)
    view = nnx.view(model, deterministic=True, use_running_average=True)
    recorder = KernelRecorder(view, X, every=1)
    model(jnp.asarray(X))  # moves the running statistics only
    recorder(0, nnx.state(model, nnx.Param))
    recorder(1, nnx.view(model, deterministic=True, use_running_average=True))
    assert recorder.records["distance"][0] == 0.0 < recorder.records["distance"][1]


class Linen(nn.Module):
    @nn.compact
    def __call__(self, X):
        return nn.Dense(2, bias_init=nn.initializers.ones)(nn.tanh(nn.Dense(4, bias_init=nn.initializers.ones)(X)))


def test_flax_linen():
    module = Linen()
    variables = module.init(jax.random.key(0), X)
    recorder, moved = KernelRecorder((module, variables), X, every=1), doubled(variables)
    assert recorder.layers == ("Dense_0", "Dense_1")
    demand(recorder, [moved["params"], moved, (module, moved)], (module, moved))


def test_haiku():
    ones = hk.initializers.Constant(1.0)
    transformed = hk.transform(lambda X: hk.Linear(2, b_init=ones)(X))
    params = transformed.init(jax.random.key(0), X)
    moved = doubled(params)
    recorder = KernelRecorder((transformed, params), X, every=1)
    assert recorder.layers == ("linear",)
    for step, form in enumerate([moved, (transformed, moved)]):
        recorder(step, form)
    # A linear model has the kernel with which it began.
    np.testing.assert_array_equal(recorder.records["distance"], 0.0)
    np.testing.assert_allclose(recorder.records["weight_change"], 1.0, rtol=1e-6)


@pytest.mark.slow
def test_pytorch():
    import torch

    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2)).eval()
    recorder = KernelRecorder(module, X, every=1)
    assert recorder.layers == ("0", "2")
    with torch.no_grad():
        for one in module.parameters():
            one.mul_(2.0)
    named = {name: one.detach().numpy() for name, one in module.named_parameters()}
    demand(recorder, [module, named], from_torch(module, X))
    with pytest.raises(ValueError, match=r"a module without 0\.bias, 0\.weight.*Give that module"):
        recorder(5, torch.nn.Sequential(torch.nn.Tanh()))
