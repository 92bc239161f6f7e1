"""Single operations against PyTorch's own: values, and derivatives at kinks, ties and edges too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from widthwise.operators.adapters.aten import known

ULP = np.finfo(np.float64).eps


def first(result):
    return result[0] if isinstance(result, tuple) else result


def both(name, x, args):
    """Value and gradient of a weighted sum, by PyTorch and by the table."""
    operation = torch.ops.aten
    for part in name.split("."):
        operation = getattr(operation, part)
    t = torch.tensor(x, requires_grad=True)
    given = first(operation(t, *args))
    weights = np.random.default_rng(1).normal(size=given.shape)
    (slope,) = torch.autograd.grad((given * torch.tensor(weights)).sum(), t)
    operation = known(f"aten.{name}" if "." in name else f"aten.{name}.default")
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        f = lambda x: first(operation(x, *args))  # noqa: E731
        translated = jax.jit(lambda x: (f(x), jax.grad(lambda x: jnp.sum(f(x) * weights))(x)))
        found, found_slope = translated(jnp.asarray(x))
    return (given.detach().numpy(), np.asarray(found)), (slope.numpy(), np.asarray(found_slope))


def assert_equal(name, x, args=()):
    for given, found in both(name, x, args):
        assert found.shape == given.shape
        # A few operations in sequence, each rounded once or by a function good to a few units.
        assert np.max(np.abs(found - given)) <= 64 * ULP * np.max(np.abs(given), initial=1.0)


ACTIVATIONS = (
    "relu gelu silu mish elu selu celu softplus hardtanh hardswish leaky_relu relu6 log_sigmoid sigmoid tanh abs"
)
UNARY = "neg erf sign reciprocal square exp exp2 expm1 sin cos tan atan sinh cosh asinh erfc floor ceil trunc round"
POSITIVE = "sqrt rsqrt log log2 log10 log1p lgamma"


@pytest.mark.parametrize("name", [*ACTIVATIONS.split(), *UNARY.split()])
def test_functions_of_a_number(name):
    x = np.concatenate([np.linspace(-4.1, 4.3, 41), [-3, 3, 1, -1, 6, 25.0]])
    # At 0, too, for the activations: the kinks are there.
    assert_equal(name, np.append(x, 0.0) if name in ACTIVATIONS.split() else x)


@pytest.mark.parametrize("name", POSITIVE.split())
def test_functions_of_a_positive_number(name):
    assert_equal(name, np.geomspace(0.1, 20, 17))


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("softplus", (3.0, 1.0)),
        ("gelu.default", ()),
        ("clamp", (-0.5, 0.5)),
        ("clamp_min", (0.5,)),
        ("clamp_max", (0.5,)),
        ("pow.Tensor_Scalar", (2.0,)),
        ("pow.Tensor_Scalar", (3,)),
        ("sum.dim_IntList", ([1],)),
        ("mean.dim", ([0, 2], True)),
        ("amax", ([1],)),
        ("max.dim", (1,)),
        ("min.dim", (2, True)),
        ("max.default", ()),
        ("std.correction", ([1],)),
        ("var.correction", ([0, 1],)),
        ("linalg_vector_norm", (2, [1])),
        ("linalg_vector_norm", (3, [1])),
        ("linalg_vector_norm", (1, [1])),
        ("linalg_vector_norm", (float("inf"), None)),
        ("logsumexp", ([1],)),
        ("cumsum", (1,)),
        ("unfold", (2, 2, 1)),
        ("roll", ([1, 2], [0, 2])),
        ("sort", (1, True)),
        ("squeeze.dims", ([],)),
        ("slice.Tensor", (1, -2, 100, 1)),
        ("diagonal", (1, 0, 2)),
        ("constant_pad_nd", ([1, -1, 0, 2], 0.5)),
        ("expand", ([2, -1, -1, 4],)),
    ],
)
def test_operations_on_arrays_with_ties_zeros_and_bounds(name, args):
    x = np.random.default_rng(0).integers(-2, 3, size=(3, 4, 4)) / 2
    x[0] = 0.0
    assert_equal(name, x, args)


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("max_pool2d_with_indices", ([3, 3], [2, 2], [1, 1], [1, 1], True)),
        ("max_pool2d_with_indices", ([2], [2], [0], [2], True)),
        ("max_pool2d_with_indices", ([2, 3],)),
        ("avg_pool2d", ([3], [2], [1], True)),
        ("avg_pool2d", ([3, 2], [2, 2], [1, 0], True, False)),
        ("avg_pool2d", ([2], [], [0], False, True, 3)),
        ("_adaptive_avg_pool2d", ([2, 3],)),
        ("adaptive_max_pool2d", ([3, 2],)),
        ("upsample_nearest2d.vec", (None, [2.0, 1.5])),
        ("upsample_nearest2d.vec", ([5, 3], None)),
        ("upsample_bilinear2d.vec", ([3, 9], False, None)),
        ("upsample_bilinear2d.vec", ([3, 9], True, None)),
        ("upsample_bilinear2d.vec", (None, False, [1.7, 2.0])),
    ],
)
def test_pooling_and_interpolation(name, args):
    x = np.random.default_rng(0).normal(size=(2, 3, 7, 6))
    assert_equal(name, np.maximum(x, 0) if "max" in name else x, args)


def test_attention_where_everything_is_masked_is_zero():
    q = np.random.default_rng(0).normal(size=(1, 2, 3, 4))
    mask = torch.tensor([[True, False, True], [False, False, False], [True, True, True]])
    given = torch.nn.functional.scaled_dot_product_attention(*3 * [torch.tensor(q)], attn_mask=mask)
    attention = known("aten.scaled_dot_product_attention.default")
    f = jax.jit(jax.value_and_grad(lambda q: jnp.sum(attention(q, q, q, mask=jnp.asarray(mask.numpy())))))
    found, slope = f(jnp.asarray(q))
    assert abs(found - given.sum().item()) <= 64 * ULP * given.abs().sum().item()
    assert np.all(np.isfinite(slope))
