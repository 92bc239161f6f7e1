"""Checks of the width and muP for models of Haiku and PyTorch."""

import haiku as hk
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

import widthwise as ww
from widthwise.measure import adapted_models

X = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
DATA = (X, X[:, :1])
SMALL = {"widths": (4, 8, 16, 32), "seeds": 2, "steps": 1}


@pytest.fixture(autouse=True)
def libraries_promote():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def haiku_mlp(width, seed):
    net = hk.transform(lambda x: hk.nets.MLP([width, 1])(x))
    return net, net.init(jr.key(seed), X)


def haiku_with_state(width, seed):
    @hk.transform_with_state
    def net(x, is_training=False):
        return hk.Linear(1)(hk.BatchNorm(True, True, 0.9)(hk.Linear(width)(x), is_training))

    return (net, *net.init(jr.key(seed), X, is_training=True))


def torch_mlp(width, seed):
    torch = pytest.importorskip("torch")
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(3, width), torch.nn.Tanh(), torch.nn.Linear(width, 1))


NAMED = {
    "haiku": (haiku_mlp, "mlp/~/linear_0.w", "mlp/~/linear_1.w"),
    "torch": (torch_mlp, "0.weight", "2.weight"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMED)
def test_one_rate_for_all_blames_the_first_and_the_last_layer_by_name(name):
    make_model, first, last = NAMED[name]
    found = ww.width_check(make_model, optax.sgd(0.01), DATA, **SMALL)
    rates = {one.name: one.rate.value for one in found.readings}
    assert (rates[first], rates[last]) == pytest.approx((-1.0, 1.0), abs=0.05)
    assert {first, last} <= {fault.tensor for fault in found.faults}
    assert f"{last} (output)" in str(found)


@pytest.mark.parametrize("name", NAMED)
def test_roles_and_factors(name):
    make_model, first, last = NAMED[name]
    found = ww.mup(make_model, X, width=16, base_width=4)
    factors = {one.name: (one.role, one.initial, one.rate) for one in found.tensors}
    assert factors[first] == ("input", 1.0, 1.0)
    # Both libraries draw a readout on the scale of 1/sqrt(fan-in).
    assert factors[last] == ("output", 0.5, 0.25)


def test_models_that_are_adapted_stay_as_they_are():
    given = [ww.adapt(haiku_mlp(4, seed), X) for seed in range(2)]
    found = adapted_models(lambda width, seed: given[seed], 4, 2, jnp.asarray(X))
    assert all(one is other for one, other in zip(found, given, strict=True))


def test_models_are_rescaled_in_their_own_structure():
    scaled = ww.mup(haiku_mlp, X, width=16, base_width=4)
    net, params = haiku_mlp(16, 0)
    for new in (scaled.rescale((net, params))[1], scaled.rescale(params)):
        np.testing.assert_array_equal(new["mlp/~/linear_1"]["w"], 0.5 * params["mlp/~/linear_1"]["w"])
    new = scaled.rescale(ww.adapt((net, params), X))
    np.testing.assert_allclose(new(X[0]), net.apply(scaled.rescale(params), None, X[:1])[0], rtol=1e-6)


def test_a_pytorch_module_is_rescaled_as_a_copy():
    scaled, module = ww.mup(torch_mlp, X, width=16, base_width=4), torch_mlp(16, 0)
    before = module[2].weight.detach().numpy().copy()
    new = scaled.rescale(module)
    np.testing.assert_array_equal(new[2].weight.detach().numpy(), 0.5 * before)
    np.testing.assert_array_equal(module[2].weight.detach().numpy(), before)
    with pytest.raises(ValueError, match="This scaling is for width 16"):
        scaled.rescale(torch_mlp(4, 0))


def test_running_statistics_are_no_parameters():
    scaled, model = ww.mup(haiku_with_state, X, width=16, base_width=4), haiku_with_state(16, 0)
    with pytest.raises(ValueError, match=r"for the 6 trained ones: .* of .f, params, state. give params"):
        scaled.rescale(model)
    assert scaled.rescale(model[1])["batch_norm"]["scale"].shape == (1, 16)


@pytest.mark.parametrize(
    ("make_model", "message"),
    [
        (lambda width, seed: haiku_mlp(width, seed)[0], "It comes with what init returned"),
        (lambda width, seed: torch_mlp(width, seed).append(pytest.importorskip("torch").nn.Dropout()), "module.eval"),
    ],
)
def test_what_cannot_be_taken_is_refused(make_model, message):
    with pytest.raises(ValueError, match=message):
        ww.width_check(make_model, optax.sgd(0.1), DATA, **SMALL)
    with pytest.raises(ValueError, match=message):
        ww.mup(make_model, X, width=16, base_width=4)


def test_an_optimizer_of_pytorch_is_refused():
    torch = pytest.importorskip("torch")
    with pytest.raises(ValueError, match=r"takes parameters first, as those of PyTorch do. An"):
        ww.width_check(torch_mlp, torch.optim.SGD, DATA, **SMALL)
