"""Functions of a user: what is accepted, what is refused, and where their kinks are found."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kinds import one_of_each_kind
from widthwise.activations import ACTIVATIONS, Activation, activation
from widthwise.activations.detect import find_kinks
from widthwise.networks import MLP, Apply, kernel


@pytest.mark.parametrize("name", one_of_each_kind(default=("tanh", "elu", "hard_tanh", "step", "squared_relu", "exp")))
def test_the_kinks_of_the_catalogue_are_found(name):
    assert find_kinks(ACTIVATIONS[name].fn) == ACTIVATIONS[name].kinks


FUNCTIONS = {
    "far": (lambda z: jnp.maximum(z - 20.0, 0.0), (20.0,)),
    "third derivative": (lambda z: jnp.maximum(z - math.pi, 0.0) ** 3, (math.pi,)),
    "weak": (lambda z: jnp.tanh(z) + 1e-4 * jnp.abs(z - 1 / 3), (1 / 3,)),
    "jump": (lambda z: jnp.where(z > 0.7, z + 1.0, z), (0.7,)),
    "several": (lambda z: jnp.clip(z, -1.5, 2.0) + jnp.abs(z), (-1.5, 0.0, 2.0)),
    "steep": (lambda z: jnp.tanh(50 * z), ()),
    "fast": (lambda z: jnp.sin(30 * z), ()),
    "growing": (jnp.sinh, ()),
    "power": (lambda z: z**5, ()),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_kinks_and_jumps_are_found_to_rounding(name):
    fn, wanted = FUNCTIONS[name]
    found = find_kinks(fn)
    assert len(found) == len(wanted)
    np.testing.assert_allclose(found, wanted, rtol=4e-16, atol=1e-15)


def test_a_function_is_an_activation():
    ours = activation(lambda z: jnp.clip(z, -1.0, 1.0))
    assert (ours.name, ours.kinks) == ("lambda", (-1.0, 1.0))
    X = np.array([[1.0, 0.2], [-0.4, 2.0]])
    variances = {"depth": 1, "weight_variance": 1.0, "bias_variance": 0.1}
    wanted = kernel(MLP(activation="hard_tanh", **variances).network(), X)
    got = kernel(MLP(activation=ours.fn, **variances).network(), X)
    np.testing.assert_allclose(got.ntk, wanted.ntk, rtol=1e-13)
    assert Apply(ours.fn).activation is ours


def test_functions_of_the_catalogue_are_known():
    assert activation(jax.nn.relu) is ACTIVATIONS["relu"]
    assert activation(jnp.tanh) is ACTIVATIONS["tanh"]
    assert activation(ACTIVATIONS["tanh"]) is ACTIVATIONS["tanh"]


def test_one_function_is_wrapped_once():
    def own(z):
        return jnp.tanh(z) + z

    assert activation(own) is activation(own)
    assert repr(activation(own)) == "Activation(own)"
    assert str(MLP(activation=own)).startswith("mlp(width=256, depth=2, activation=own,")


def test_kinks_that_are_named_are_believed():
    named = activation(lambda z: jnp.abs(z), kinks=[0, 3], name="mine")
    assert (named.name, named.kinks) == ("mine", (0.0, 3.0))
    assert isinstance(named, Activation)


def fails_on_arrays(z):
    return z if z > 0 else 0.0


@pytest.mark.parametrize(
    ("fn", "message"),
    [
        (math.tanh, r"function tanh, which fails on an array .*jnp.where for if"),
        (np.tanh, r"function tanh, which fails on an array"),
        (fails_on_arrays, r"fails_on_arrays, which fails on an array .*with jax.numpy"),
        (lambda z, y: z, "fails on an array"),
        (lambda z: 1.0, r"makes a float of shape|makes shape \(\)"),
        (jnp.sum, r"makes shape \(\) of shape \(401,\)"),
        (lambda z: jnp.floor(z).astype(int), "makes int64 of float64"),
        (lambda z: z > 0, "makes bool of float64"),
        (lambda z: z.astype(jnp.float32), "makes float32 of float64"),
        (lambda z: jax.lax.complex(z, z), "makes complex128 of float64"),
        (lambda z: z / jnp.sum(jnp.abs(z)), "value at one number depends on the others"),
        (lambda z: z - jnp.mean(z), "value at one number depends on the others"),
        (jnp.sort, "fails on an array|depends on the others"),
        (lambda z: 1 / z, "with value inf at 0"),
        (jnp.log, "with value nan at -10"),
        (lambda z: jnp.where(z > 0, jnp.sqrt(z), 0.0), "with slope nan at -10"),
        (lambda z: jnp.floor(z), "64 kinks and no closed dual"),
    ],
)
def test_what_is_no_activation_is_refused(fn, message):
    with pytest.raises(ValueError, match=message) as refusal:
        activation(fn)
    assert str(refusal.value).count(". ") >= 2


def test_kinks_need_a_function():
    with pytest.raises(ValueError, match="belong to a function"):
        activation("tanh", kinks=(0.0,))
    with pytest.raises(ValueError, match="did you mean 'tanh'"):
        MLP(activation="thanh")


@pytest.mark.filterwarnings("error")
def test_a_function_that_overflows_far_out_is_searched_in_silence():
    assert find_kinks(lambda z: jnp.exp(z**2)) == ()
