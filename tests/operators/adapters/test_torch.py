"""PyTorch modules: what is trained, what is refused and how, and that the module stays as it is."""

import copy
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from operators.adapters.zoo_torch import TORCH, Applied, parameter
from widthwise.operators import parameters
from widthwise.operators.adapters.aten import register_aten
from widthwise.operators.adapters.aten.registry import TABLE
from widthwise.operators.adapters.torch import from_torch

X = np.linspace(-1, 1, 12).reshape(4, 3)


def module(function):
    torch.manual_seed(0)
    return Applied(function, a=nn.Linear(3, 2)).eval()


def refused(made, pattern, X=X, **options):
    with pytest.raises(ValueError, match=pattern):
        from_torch(made, X, **options)


def test_trainable_are_the_parameters_that_require_a_gradient_and_a_tied_one_once():
    case = TORCH["torch_tied_language_model"]()
    case.model.places.requires_grad_(False)
    before = copy.deepcopy(case.model.state_dict())
    model = from_torch(case.model.train(), case.X)
    assert sorted(model.parameters) == ["head.bias", "table.weight"]
    assert [leaf.shape for leaf in parameters(model)[0]] == [(7,), (7, 4)]
    assert sorted(model.frozen.tree) == ["places.weight", "wave"]
    assert {leaf.dtype for leaf in parameters(model)[0]} == {np.dtype("float32")}
    # The module itself is as before: its mode, its precision, its numbers.
    assert case.model.training and case.model.head.weight.dtype == torch.float32
    assert all(torch.equal(one, before[name]) for name, one in case.model.state_dict().items())


@pytest.mark.slow
def test_parameters_in_another_precision_are_followed():
    case = TORCH["torch_mlp"]()
    model = from_torch(case.model, case.X, check=False)
    double = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), model)
    exact = np.asarray(case.own())
    assert np.max(np.abs(jax.vmap(double)(case.X) - exact)) <= 1e-12 * np.max(np.abs(exact))


def test_one_of_several_outputs():
    made = module(lambda self, x: {"logits": self.a(x), "parts": (x, self.a(x) ** 2)})
    refused(made, r"a dict with the keys 'logits', 'parts'.*output='logits'")
    refused(made, r"output='logit' \(did you mean 'logits'\?\)", output="logit")
    squares = from_torch(made, X, output=("parts", 1))
    assert np.allclose(squares(X[0]), made(torch.tensor(X, dtype=torch.float32))["parts"][1][0].detach(), rtol=1e-6)


def test_further_arguments_of_forward():
    made = module(lambda self, x, power=1: self.a(x) ** power)
    squares = from_torch(made, X, call={"power": 2})
    assert np.allclose(squares(X[0]), made(torch.tensor(X[:1], dtype=torch.float32))[0].detach() ** 2, rtol=1e-6)


@pytest.mark.slow
def test_a_module_that_fixes_the_size_of_its_batch():
    model = from_torch(module(lambda self, x: self.a(x).reshape(len(x), 2)), X)
    assert model.apply.alone
    assert np.allclose(jax.vmap(model)(X), model.on_batch(model.prepared(X)), rtol=1e-6)


@pytest.mark.parametrize("layer", [nn.Dropout(0.1), nn.BatchNorm1d(3), nn.GRU(3, 3, 2, dropout=0.5), nn.RReLU()])
def test_training_mode_is_refused_where_it_matters(layer):
    refused(nn.Sequential(layer), rf"training mode, with the layers 0 \({type(layer).__name__}\).*Call module.eval\(\)")


@pytest.mark.parametrize(
    ("made", "pattern"),
    [
        (lambda x: x, "takes a torch.nn.Module"),
        (nn.LazyLinear(3), "weight without a shape.*Call the module on a batch first"),
        (nn.Flatten(), "a model without parameters"),
        (module(lambda self, x: self.a(x).sum(0)[:1]), "one entry for each input"),
        (module(lambda self, x: self.a(x).argmax(1)), "output is of type int64"),
        (module(lambda self, x: self.a(x[:, :2])), "the module fails on inputs of shape"),
    ],
)
def test_what_is_no_function_of_one_example_is_refused(made, pattern):
    refused(made, pattern)


@pytest.mark.parametrize(
    ("function", "pattern"),
    [
        (lambda self, x: self.a(x - x.mean(0)), "differ from those for each input by itself"),
        (lambda self, x: self.a(x if x.sum() > 0 else -x), "torch.export cannot trace.*torch.where"),
        (lambda self, x: F.dropout(self.a(x), 0.5), "training=self.training"),
        (lambda self, x: F.batch_norm(self.a(x), None, None, training=True), "mixes the examples"),
        (lambda self, x: torch.special.i1(self.a(x)), r'aten.special_i1.default.*@register_aten\("aten.special_i1"\)'),
        (lambda self, x: self.a(x) + _without_gradient(self, x), "gradient.*detach"),
    ],
)
def test_what_cannot_be_translated_is_refused(function, pattern):
    refused(module(function), pattern)


def _without_gradient(self, x):
    with torch.no_grad():
        return self.a(x) ** 2


def test_numbers_that_are_not_finite_are_refused():
    made = module(lambda self, x: self.a(x))
    made.a.weight.data[0, 0] = torch.nan
    refused(made, r"a\.weight.*NaN")


def test_examples_without_a_batch_axis_are_refused():
    refused(nn.Linear(3, 2), "n >= 1 inputs along its first axis", X=np.zeros((0, 3)))
    refused(nn.Linear(3, 2), "n >= 1 inputs along its first axis", X=np.float64(1.0))


def test_other_inputs_than_the_examples_are_refused():
    model = from_torch(nn.Linear(3, 2), X[:1])
    with pytest.raises(ValueError, match=r"of shape \(4, 3\) and.*jax.vmap"):
        model(X)
    tokens = from_torch(nn.Sequential(nn.Embedding(4, 2), nn.Flatten()), np.array([[1, 2]]))
    with pytest.raises(ValueError, match="type int64"):
        tokens(np.array([0.5, 1.0]))
    assert np.isnan(tokens(np.array([1, 9]))).tolist() == [False, False, True, True]


def test_half_precision_is_computed_in_float32_and_said():
    with pytest.warns(UserWarning, match="bfloat16 are computed in float32"):
        model = from_torch(nn.Linear(3, 2).bfloat16(), X)
    assert model(X[0]).dtype == np.float32


def test_float64_needs_the_64_bit_mode():
    with jax.enable_x64(False):
        refused(nn.Linear(3, 2), "jax_enable_x64", dtype="float64")
        refused(nn.Linear(3, 2).double(), "jax_enable_x64")
        assert from_torch(nn.Linear(3, 2), X)(X[0]).dtype == np.float32


def test_an_operation_is_registered():
    register_aten("aten.special_bessel_j0")(lambda x: jnp.cos(x))
    made = module(lambda self, x: self.a(x) * 1.0 + torch.special.bessel_j0(x[:, :2]))
    model = from_torch(made, np.zeros((2, 3)))
    assert np.all(np.isfinite(model(X[0])))
    del TABLE["aten.special_bessel_j0"]
    with pytest.raises(ValueError, match=r'Name it "aten\.logit"'):
        register_aten("logit")


def test_without_torch_the_extra_is_named(monkeypatch):
    made = nn.Linear(3, 2)
    monkeypatch.setitem(sys.modules, "torch", None)
    refused(made, r"pip install 'widthwise\[torch\]'")


@pytest.mark.slow
def test_warnings_of_the_export_stay_inside():
    made = Applied(
        lambda self, x: self.cell(x[:, None])[0][:, 0] * self.w, cell=nn.GRU(3, 2, batch_first=True), w=parameter(2)
    )
    assert from_torch(made, X)(X[0]).shape == (2,)
