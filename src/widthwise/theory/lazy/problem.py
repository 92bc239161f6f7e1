r"""The lazy-training problem: a map, its start, its targets and the factor on its output.

Legend: $f: \mathbb R^p \to \mathbb R^n$ network outputs on the training set, $J = Df(w_0)$ with singular
values between $\sigma = \sigma_{min}$ and $\sigma_{max}$, $r_0 = \alpha f(w_0) - y$, $\beta$ the Lipschitz
constant of the Jacobian, $h = 2\beta\|r_0\|/(\alpha\sigma^2)$. The loss is $\tfrac12\|\alpha f(w) - y\|^2$.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from widthwise.activations import Activation
from widthwise.measure import Flow, gradient_flow
from widthwise.numerics import reject
from widthwise.operators import flatten

from .deep import certified_smoothness, input_smoothness
from .linearised import tangent
from .lipschitz import Profile, Smoothness, demand_profile, shallow, unknown
from .maps import Centred, Mirrored, ModelMap, ShallowMap
from .shallow import Shallow
from .tangency import Tangency

# Twenty times in the first unit 1/(alpha sigma)^2 and then to the fourteenth, where exp(-14) = 1e-6 is left.
TIMES = tuple(np.concatenate([np.linspace(0.0, 1.0, 21)[1:], np.linspace(1.0, 14.0, 40)[1:]]).tolist())
# Beyond this condition number the clock follows sigma_max/20: an explicit method's cost grows with its square.
_CONDITION = 20.0


def kept(compute: Callable) -> Callable:
    """Remember what was computed for a problem, together with the problem itself."""

    @functools.wraps(compute)
    def recall(problem, *arguments, **options):
        if not isinstance(problem, LazyProblem):
            reject(
                f"{compute.__name__} of a {type(problem).__name__}",
                "It is about a LazyProblem",
                "Give a LazyProblem (model_problem(model, X, y)); for a training loop use "
                "ww.CertificateMonitor(model, X, y)",
            )
        store = problem.__dict__.setdefault("_kept", {})
        key = (compute.__name__, arguments, tuple(sorted(options.items())))
        if key not in store:
            store[key] = compute(problem, *arguments, **options)
        return store[key]

    return recall


NOT_GIVEN = unknown("no Lipschitz constant of the Jacobian was given")


@dataclass(frozen=True)
class Probe:
    r"""Outputs $g: w \mapsto (q,)$ on other inputs, and Lipschitz constants (q,) of their gradients on a ball.

    ``smoothness(radius)`` is the array of constants; infinite where no bound is known.
    """

    g: Callable
    smoothness: Callable[[float], Float[np.ndarray, " q"]]

    def changed(self, change: Callable[[Callable], Callable]) -> "Probe":
        """The same outputs with other constants."""
        return replace(self, smoothness=change(self.smoothness))


@dataclass(frozen=True, eq=False)
class LazyProblem:
    r"""Train $\alpha f$ from $w_0$ towards y by the gradient flow of $\tfrac12\|\alpha f(w) - y\|^2$.

    Args:
        f: the map (p,) -> (n,), as a PyTree where it holds arrays.
        w0: the initial parameters (p,).
        y: the targets (n,).
        alpha: the factor on the output, above 0.
        smoothness: from a radius to the Lipschitz constant of the Jacobian on that ball; a ``Smoothness`` will do.
        test: outputs on other inputs, for bounds on predictions.
        times: when the flow is observed, in units of 1/``rate``.
        name: what messages call it.
        smooth: ``False`` for maps with kinks, whose flow is followed with steps that do not shrink at each of them.

    ``tangency`` and ``flow`` are computed when first asked for and kept. Raises ``ValueError`` for
    shapes that do not fit, numbers that are not finite, and alpha <= 0.

    >>> constant = Smoothness(0.3, certified=True)
    >>> problem = LazyProblem(lambda w: w - 0.15 * w**2, np.zeros(1), np.ones(1), smoothness=constant)
    >>> round(problem.h, 12)
    0.6
    """

    f: Callable[[Float[Array, " p"]], Float[Array, " n"]]
    w0: np.ndarray
    y: np.ndarray
    alpha: float = 1.0
    smoothness: Profile = NOT_GIVEN
    test: Probe | None = None
    times: tuple[float, ...] = TIMES
    name: str = "problem"
    smooth: bool = True

    def __post_init__(self):
        for name in ("w0", "y"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=float))
        if isinstance(self.alpha, str):
            reject(
                f"alpha={self.alpha!r}", "The factor on the output is a positive number", "Give for example alpha=1.0"
            )
        demand_profile(self.smoothness)
        object.__setattr__(self, "alpha", float(self.alpha))
        _check(self)

    def __repr__(self) -> str:
        return f"LazyProblem({self.name}: n={self.y.size}, p={self.w0.size}, alpha={self.alpha:g})"

    @functools.cached_property
    def tangency(self) -> Tangency:
        """The Jacobian at the start, taken apart."""
        with jax.enable_x64(True):
            w0 = jnp.asarray(self.w0)
            J, f0 = _linearise(self.f, w0)
            model = tangent(np.asarray(J), np.asarray(f0), self.y, self.alpha)
        return Tangency(model)

    @functools.cached_property
    def flow(self) -> Flow:
        """The flow of the nonlinear problem, observed at ``times``; one that fails says so in its code."""
        # Where there are kinks, steps stay at half of what the fastest direction takes to decay.
        least = 0.0 if self.smooth else 0.5 * self.rate / (self.alpha * self.tangency.sigma_max) ** 2
        return gradient_flow(
            self.f,
            self.w0,
            self.y,
            self.alpha,
            times=np.asarray(self.times),
            rate=self.rate,
            rtol=1e-10,
            least_step=least,
            max_steps=20_000,
            throw=False,
        )

    @property
    def rate(self) -> float:
        r"""The inverse unit of time, $(\alpha\sigma_{min})^2$, or $(\alpha\sigma_{max}/20)^2$ where that is more."""
        seen = self.tangency
        return (self.alpha * max(seen.sigma_min, seen.sigma_max / _CONDITION)) ** 2

    @property
    def seconds(self) -> Float[np.ndarray, " k"]:
        """The times of observation in the flow's own unit."""
        return np.asarray(self.times) / self.rate

    @property
    def h(self) -> float:
        r"""$h = 2\beta\|r_0\|/(\alpha\sigma^2)$, $\beta$ on the smallest ball that could do; lazy is $h \le 1$."""
        seen = self.tangency
        radius = seen.residual_bound / (self.alpha * seen.sigma) if seen.sigma > 0 else 0.0
        return seen.laziness(self.smoothness(radius).value)

    @property
    def probe(self) -> Probe:
        """The test outputs; raises ``ValueError`` where the problem has none."""
        if self.test is None:
            reject(
                "a problem without test outputs", "Bounds on predictions need some", "Give X_test or test=Probe(...)"
            )
        return self.test

    def at(self, alpha: float) -> "LazyProblem":
        """The same problem with another factor on the output; the Jacobian is not computed again."""
        other = replace(self, alpha=alpha)
        if "tangency" in self.__dict__:
            other.__dict__["tangency"] = Tangency(replace(self.tangency.tangent, alpha=other.alpha))
        return other

    def moved(self, w: ArrayLike) -> "LazyProblem":
        """The problem that remains from other parameters (p,) on; a ball there lies in a larger one at the start."""
        w, profile = np.asarray(w, dtype=float), self.smoothness
        away = float(np.linalg.norm(w - self.w0))
        test = self.test and self.test.changed(lambda beta: lambda radius: beta(radius + away))
        return replace(self, w0=w, smoothness=lambda radius: profile(radius + away), test=test)

    def centred(self) -> "LazyProblem":
        """The same problem with the output at the start subtracted: large alpha then is lazy."""
        with jax.enable_x64(True):
            f = Centred(self.f, self.f(jnp.asarray(self.w0)))
            test = self.test and replace(self.test, g=Centred(self.test.g, self.test.g(jnp.asarray(self.w0))))
        return replace(self, f=f, test=test)

    def mirrored(self) -> "LazyProblem":
        r"""Two copies, $(f(w) - f(w'))/\sqrt2$ from $w = w' = w_0$: outputs start at zero, the tangent kernel stays."""
        profile, test = self.smoothness, self.test
        if test is not None:
            test = replace(test.changed(lambda beta: lambda radius: beta(radius) / math.sqrt(2.0)), g=Mirrored(test.g))
        halves = np.concatenate([self.w0, self.w0])
        return replace(
            self, f=Mirrored(self.f), w0=halves, smoothness=lambda radius: profile(radius).scaled(2.0**-0.5), test=test
        )


@eqx.filter_jit
def _linearise(f: Callable, w: Float[Array, " p"]) -> tuple[Float[Array, "n p"], Float[Array, " n"]]:
    """The Jacobian, by reverse mode, and the outputs."""
    return jax.jacrev(f)(w), f(w)


def model_problem(
    model: Callable,
    X: ArrayLike,
    y: ArrayLike,
    alpha: float = 1.0,
    *,
    output: int = 0,
    X_test: ArrayLike | None = None,
    smoothness: Profile | None = None,
) -> LazyProblem:
    r"""Make the problem of one output of a model, a callable PyTree x (d,) -> (outputs,), on inputs X (n, d).

    Without ``smoothness`` the Lipschitz constant is certified where that is possible (see
    ``certified_smoothness``). Training is in float64. Raises ``ValueError`` for shapes that do not fit.

    >>> from widthwise.networks import MLP, sample
    >>> net = sample(MLP(width=32, depth=1).network(), jax.random.key(0), in_size=2)
    >>> model_problem(net, np.eye(2), [1.0, -1.0]).smoothness(1.0).certified
    True
    """
    X, y = np.asarray(X, dtype=float), np.asarray(y, dtype=float)
    if X.ndim != 2 or y.shape != X.shape[:1]:
        reject(
            f"X of shape {X.shape}, y of shape {y.shape}", "They are (n, d) and (n,)", "Give one target per row of X"
        )
    with jax.enable_x64(True):
        model = jax.tree.map(_double, model)
        w0, rebuild = flatten(model)
        profile = certified_smoothness(model, X, output) if smoothness is None else smoothness
        test = None if X_test is None else _model_test(model, rebuild, np.asarray(X_test, dtype=float), output)
        name, smooth = type(model).__name__, known_kink(model) is None
        f = ModelMap(rebuild, jnp.asarray(X), output)
        return LazyProblem(f, np.asarray(w0), y, alpha, profile, test, name=name, smooth=smooth)


def known_kink(model: object) -> str | None:
    """The name of the first activation of a model that is known to have a kink."""
    parts = jax.tree.leaves(model, is_leaf=lambda node: isinstance(node, Activation))
    return next((part.name for part in parts if isinstance(part, Activation) and part.kinks), None)


def _double(leaf):
    return (
        jnp.asarray(leaf, dtype=float)
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jnp.floating)
        else leaf
    )


def _model_test(model: Callable, rebuild: Callable, X: np.ndarray, output: int) -> Probe:
    return Probe(ModelMap(rebuild, jnp.asarray(X), output), input_smoothness(model, X, output))


def shallow_problem(
    net: Shallow,
    X: ArrayLike,
    y: ArrayLike,
    alpha: float = 1.0,
    *,
    X_test: ArrayLike | None = None,
    form: str = "flattened",
) -> LazyProblem:
    r"""Make the problem of a two-layer network of which the first layer is trained, with its certified constant.

    ``form`` chooses the bound, see ``lipschitz.shallow``.

    >>> from widthwise.activations import activation
    >>> net = Shallow(jnp.ones((4, 2)), jnp.array([1.0, 1.0, -1.0, -1.0]), activation("tanh"), 0.5)
    >>> shallow_problem(net, np.eye(2), [1.0, -1.0])
    LazyProblem(Shallow: n=2, p=8, alpha=1)
    """
    X, y = np.asarray(X, dtype=float), np.asarray(y, dtype=float)
    test = None
    with jax.enable_x64(True):
        if X_test is not None:
            X_test = np.asarray(X_test, dtype=float)
            betas = np.array([_constant(net, x[None, :], "flattened").value for x in X_test])
            test = Probe(ShallowMap(net, jnp.asarray(X_test)), lambda _: betas)
        f, w0 = ShallowMap(net, jnp.asarray(X)), np.asarray(net.W).ravel()
        return LazyProblem(f, w0, y, alpha, _constant(net, X, form), test, name="Shallow", smooth=net.activation.smooth)


def _constant(net: Shallow, X: np.ndarray, form: str) -> Smoothness:
    return shallow(X, np.asarray(net.signs), net.activation, net.scale, form)


def _check(problem: LazyProblem) -> None:
    w0, y = problem.w0, problem.y
    if w0.ndim != 1 or y.ndim != 1 or not w0.size or not y.size:
        reject(f"w0 of shape {w0.shape}, y of shape {y.shape}", "They are vectors (p,) and (n,)", "Flatten them")
    for name, part in (("w0", w0), ("y", y)):
        if not np.all(np.isfinite(part)):
            where = int(np.argmin(np.isfinite(part)))
            reject(f"{name}[{where}] is {part[where]}", "Every entry is a finite number", "Look where it came from")
    if not (math.isfinite(problem.alpha) and problem.alpha > 0):
        reject(
            f"alpha={problem.alpha}",
            "The factor on the output is a positive number",
            "Give alpha=1.0 for the network as it is",
        )
    with jax.enable_x64(True):
        shape = jax.eval_shape(problem.f, jax.ShapeDtypeStruct(w0.shape, float)).shape
    if shape != y.shape:
        reject(
            f"f returns outputs of shape {shape}, y has shape {y.shape}",
            "There is one target for each output",
            "Flatten several outputs per input into n rows",
        )
