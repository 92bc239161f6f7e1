"""Operations on each number by itself: arithmetic, comparisons, activations.

Where a function has a kink, the derivative there is PyTorch's: 1 for ``clamp`` and 0 for ``hardtanh`` at their bounds,
the negative slope for ``leaky_relu`` and 0 for ``abs`` at 0.
"""

import operator

import jax
import jax.numpy as jnp
from jax.scipy import special

from widthwise.numerics import reject

from .registry import aten, enter, same

_SELU = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946


@aten()
def add(x, y, alpha=1):
    return x + (y if alpha == 1 else alpha * y)


@aten()
def sub(x, y, alpha=1):
    return x - (y if alpha == 1 else alpha * y)


@aten()
def div(x, y, rounding_mode=None):
    if rounding_mode == "floor":
        return jnp.floor_divide(x, y)
    return x / y if rounding_mode is None else jnp.trunc(x / y)


@aten("abs")
def magnitude(x):
    """|x| with the derivative 0 at 0."""
    return x * jnp.sign(x)


@aten("pow")
def power(x, y):
    """x^y; a whole exponent is taken as a repeated product, whose derivative exists at 0."""
    return jnp.power(x, int(y) if isinstance(y, float) and y.is_integer() else y)


@aten("clamp", "clamp_min")
def clamp(x, low=None, high=None):
    x = x if low is None else jnp.where(x < low, low, x)
    return x if high is None else jnp.where(x > high, high, x)


@aten()
def hardtanh(x, low=-1.0, high=1.0):
    return jnp.where(x <= low, low, jnp.where(x >= high, high, x))


@aten()
def hardswish(x):
    return jnp.where(x <= -3, 0.0, jnp.where(x < 3, x * ((x + 3) / 6), x))


@aten()
def elu(x, alpha=1.0, scale=1.0, input_scale=1.0):
    negative = alpha * jnp.expm1(jnp.where(x > 0, 0.0, x) * input_scale)
    return jnp.where(x > 0, x, negative) * scale


@aten()
def leaky_relu(x, slope=0.01):
    return jnp.where(x > 0, x, slope * x)


@aten()
def prelu(x, slope):
    """Leaky ReLU with a slope for all or for each channel, the axis after the batch."""
    return leaky_relu(x, slope.reshape((1, -1) + (1,) * (x.ndim - 2)) if x.ndim > 1 else slope)


@aten()
def rrelu(x, low=1 / 8, high=1 / 3, training=False, generator=None):
    return leaky_relu(x, (low + high) / 2) if not training else dropout(x, 1.0, train=True)


@aten()
def softplus(x, beta=1.0, threshold=20.0):
    """log(1 + exp(beta x)) / beta, and x where beta x is beyond the threshold."""
    return jnp.where(beta * x > threshold, x, jnp.logaddexp(jnp.where(beta * x > threshold, 0.0, beta * x), 0.0) / beta)


@aten()
def gelu(x, approximate="none"):
    return jax.nn.gelu(x, approximate=approximate == "tanh")


@aten()
def glu(x, dim=-1):
    left, right = jnp.split(x, 2, dim)
    return left * jax.nn.sigmoid(right)


@aten("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout")
def dropout(x, p, train):
    """Nothing, outside training."""
    if train and p:
        reject(
            "the module draws random numbers although it is in eval mode, for instance by F.dropout(x)",
            "The output must be a function of the input and the parameters",
            "Let the module pass on its mode: F.dropout(x, p, training=self.training)",
        )
    return x


@aten()
def native_dropout(x, p, train):
    return dropout(x, p, train), None


@aten(
    "rand",
    "rand_like",
    "randn",
    "randn_like",
    "randint",
    "randperm",
    "bernoulli",
    "normal_functional",
    "uniform",
    "exponential",
)
def random(*_, **__):
    return dropout(0.0, 1.0, train=True)


same(operator, "neg mul eq ne lt le gt ge")
same(jnp, "square sqrt exp exp2 expm1 log log2 log10 log1p sin cos tan sinh cosh tanh sign floor ceil trunc")
same(jnp, "maximum minimum fmod remainder hypot isnan isinf isfinite logical_not logical_and logical_or logical_xor")
same(jnp, "where bitwise_not bitwise_and bitwise_or bitwise_xor")
same(special, "erf erfc erfinv")
same(jax.nn, "relu sigmoid silu")
enter({"asin": jnp.arcsin, "acos": jnp.arccos, "atan": jnp.arctan, "atan2": jnp.arctan2, "lgamma": special.gammaln})
enter({"asinh": jnp.arcsinh, "acosh": jnp.arccosh, "atanh": jnp.arctanh, "rsqrt": jax.lax.rsqrt})
enter({"reciprocal": lambda x: 1 / x, "round": lambda x, decimals=0: jnp.round(x, decimals)})
enter({"rsub": lambda x, y, alpha=1: sub(y, x, alpha), "clamp_max": lambda x, high: clamp(x, None, high)})
enter({"masked_fill": lambda x, mask, value: jnp.where(mask, value, x), "lerp": lambda x, y, t: x + t * (y - x)})
enter({"addcmul": lambda x, y, z, value=1: x + value * y * z, "addcdiv": lambda x, y, z, value=1: x + value * y / z})
enter({"mish": lambda x: x * jnp.tanh(softplus(x)), "log_sigmoid": lambda x: -jnp.logaddexp(-x, 0.0)})
enter({"selu": lambda x: elu(x, *_SELU), "celu": lambda x, alpha=1.0: elu(x, alpha, 1.0, 1 / alpha)})
enter({"relu6": lambda x: hardtanh(x, 0.0, 6.0), "hardsigmoid": lambda x: hardtanh(x, -3.0, 3.0) / 6 + 0.5})
enter({"detach": jax.lax.stop_gradient})
# A copy, or one in another type, which the program gives to every result by itself.
enter(dict.fromkeys(("clone", "alias", "_to_copy", "lift", "lift_fresh_copy", "contiguous"), lambda x: x))
