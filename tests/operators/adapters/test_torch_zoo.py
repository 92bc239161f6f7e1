"""Every PyTorch module of the zoo gives PyTorch's own outputs and Jacobian, in both precisions."""

import copy
import warnings
from dataclasses import replace

import jax
import numpy as np
import pytest
import torch
from torch.func import functional_call, jacrev

from operators.adapters.zoo_torch import TORCH
from widthwise.operators.adapters.torch import from_torch


def batch(X, n):
    """Other inputs than those of the export, and another number of them."""
    rng = np.random.default_rng(3)
    integers = np.issubdtype(X.dtype, np.integer)
    return rng.integers(0, X.max() + 1, (n, *X.shape[1:])) if integers else rng.normal(size=(n, *X.shape[1:]))


def torchs_own(module, X, dtype):
    """Outputs (n, k) and Jacobian by name."""
    own = copy.deepcopy(module).to(dtype)
    X = torch.tensor(X) if np.issubdtype(X.dtype, np.integer) else torch.tensor(X, dtype=dtype)
    weights, buffers = dict(own.named_parameters()), dict(own.named_buffers())
    f = lambda weights: functional_call(own, (weights, buffers), (X,)).flatten(1)  # noqa: E731
    with warnings.catch_warnings(action="ignore"):
        return f(weights).detach().numpy(), {name: one.detach().numpy() for name, one in jacrev(f)(weights).items()}


def assert_same(model, module, X, dtype, tolerance):
    outputs, jacobian = torchs_own(module, X, dtype)
    f = jax.jit(lambda weights: jax.vmap(replace(model, parameters=weights))(X))
    # Each output relative to its largest value in the batch: the columns of some models differ in size.
    found = np.asarray(f(model.parameters))
    assert found.dtype == outputs.dtype
    scale = np.max(np.abs(outputs), axis=0) if dtype == torch.float64 else np.max(np.abs(outputs))
    assert np.all(np.abs(found - outputs) <= tolerance * scale)
    found = jax.jit(jax.jacrev(f))(model.parameters)
    assert sorted(found) == sorted(jacobian)
    largest = max(np.max(np.abs(one)) for one in jacobian.values())
    for name, one in jacobian.items():
        assert np.max(np.abs(found[name] - one)) <= tolerance * largest, name


@pytest.mark.slow
@pytest.mark.parametrize("name", TORCH)
def test_float64_equals_torch(name):
    case = TORCH[name]()
    model = from_torch(case.model, case.X, dtype="float64")
    assert_same(model, case.model, batch(case.X, 5), torch.float64, 1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["torch_cnn", "torch_encoder", "torch_recurrent", "torch_tied_language_model"])
def test_float32_equals_torch(name):
    case = TORCH[name]()
    model = from_torch(case.model, case.X, check=False)
    assert_same(model, case.model, batch(case.X, 2), torch.float32, 1e-6)


def test_a_small_network_equals_torch():
    case = TORCH["torch_mlp"]()
    model = from_torch(case.model, case.X)
    assert model(case.X[0]).shape == (2,)
    assert_same(model, case.model, batch(case.X, 4), torch.float32, 1e-6)
