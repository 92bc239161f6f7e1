r"""muP for a model of one's own, without multipliers: which initial values and rates to scale, and by how much.

Legend: n the width; $m_{in}$, $m_{out}$: how many times larger fan-in and fan-out of a tensor are than at the base
width.
"""

import copy
import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import numpy as np
import optax
from jax.typing import ArrayLike

from widthwise.measure import Tap, adapted_models, find_taps, read_taps, role_of, trained_tree
from widthwise.numerics import demand_count, reject
from widthwise.operators import Frozen, examples, parameters

from .abc import Optimiser
from .rules import measured_rule, rule_of

_ROLES = ("input", "hidden", "output", "vector", "fixed")


@dataclass(frozen=True)
class ScaledTensor:
    """One tensor: its role, its shapes at the base width and now, and the factors of its initial values and rate."""

    name: str
    role: str
    base_shape: tuple[int, ...]
    shape: tuple[int, ...]
    initial: float
    rate: float


@dataclass(frozen=True, eq=False)
class MuP:
    """How to scale each tensor of a model at ``width``, so that what is tuned at ``base_width`` stays tuned.

    ``rule``: the optimiser it is for, "sgd" or "adam"; ``advice``: what no scaling of parameters can do.
    """

    width: int
    base_width: int
    rule: Optimiser
    tensors: tuple[ScaledTensor, ...]
    advice: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"muP for {self.rule}, width {self.width} from base width {self.base_width}"]
        lines.append(f"{'tensor':<28}{'role':<10}{'shape':<20}{'initial values x':>18}{'rate x':>12}")
        lines += [
            f"{one.name:<28}{one.role:<10}{one.shape!s:<20}{one.initial:>18.4g}{one.rate:>12.4g}"
            for one in self.tensors
        ]
        return "\n".join([*lines, *(f"- {one}" for one in self.advice)])

    def rescale(self, params: Any) -> Any:
        """Initial parameters on muP's scale, from the initial parameters of the model at this width.

        ``params`` is a model or tree of parameters in the structure of its own library, without running statistics; of
        a PyTorch module a scaled copy is returned. Raises ``ValueError`` for parameters of other shapes.
        """
        if callable(getattr(params, "named_parameters", None)):
            return self._rescaled_module(params)
        arrays, rest = eqx.partition(params, eqx.is_inexact_array, is_leaf=lambda node: isinstance(node, Frozen))
        leaves, structure = jax.tree.flatten(arrays)
        self._demand_shapes(leaves)
        scaled = [one.initial * leaf for one, leaf in zip(self.tensors, leaves, strict=True)]
        return eqx.combine(jax.tree.unflatten(structure, scaled), rest)

    def optimizer(
        self,
        base: optax.GradientTransformation | Callable[[float], optax.GradientTransformation],
        rate: float | None = None,
    ) -> optax.GradientTransformation:
        """An optimiser with muP's rate for each tensor, tuned at the base width.

        ``base`` is an optax transformation, whose updates are multiplied, or with ``rate`` a function such as
        ``optax.adam`` of the rate, called for each rate. Decoupled weight decay inside of ``base`` is multiplied too.
        Raises ``ValueError`` for an optimiser that follows the other rule than that for which this is made.
        """
        if isinstance(base, optax.GradientTransformation):
            self._demand_rule(base)
            return optax.chain(base, optax.stateless(lambda updates, _: self._scaled(updates)))
        if rate is None:
            reject(
                f"a {type(base).__name__} without a rate",
                "A function of the rate comes with the rate at the base width",
                "Give optimizer(optax.adam, rate=1e-3)",
            )
        self._demand_rule(base(rate))
        transforms: dict[Hashable, Any] = {f"{one.rate:.6g}": base(rate * one.rate) for one in self.tensors}
        labels = [f"{one.rate:.6g}" for one in self.tensors]
        return optax.multi_transform(transforms, lambda params: jax.tree.unflatten(jax.tree.structure(params), labels))

    def _demand_rule(self, base: Any) -> None:
        """Refuse an optimiser whose updates grow with the gradient where they should not, or the other way round."""
        found = measured_rule(base, [jax.ShapeDtypeStruct(one.shape, np.float32) for one in self.tensors])
        if found not in (None, self.rule):
            reject(
                f"an optimiser like {found} for a scaling that is made for {self.rule}",
                "The factors of rates are those of one kind of optimiser",
                f"Give optimizer='{found}' to mup",
            )

    def _scaled(self, updates: Any) -> Any:
        leaves, structure = jax.tree.flatten(updates)
        self._demand_shapes(leaves)
        return jax.tree.unflatten(structure, [one.rate * leaf for one, leaf in zip(self.tensors, leaves, strict=True)])

    def _rescaled_module(self, module: Any) -> Any:
        """A copy of a PyTorch module, whose trained parameters are here in the order of their names."""
        own = copy.deepcopy(module)
        trained = [one for _, one in sorted(own.named_parameters()) if one.requires_grad]
        self._demand_shapes(trained)
        for one, parameter in zip(self.tensors, trained, strict=True):
            parameter.data.mul_(one.initial)
        return own

    def _demand_shapes(self, leaves: Sequence[Any]) -> None:
        shapes, own = [tuple(leaf.shape) for leaf in leaves], [one.shape for one in self.tensors]
        if len(shapes) > len(own):
            reject(
                f"{len(shapes)} arrays of real numbers",
                f"This scaling is for the {len(own)} trained ones: {', '.join(one.name for one in self.tensors)}",
                "Give the trained parameters alone, without running statistics: of (f, params, state) give params",
            )
        if shapes != own:
            reject(
                f"parameters of shapes {shapes}",
                f"This scaling is for width {self.width}, with shapes {own}",
                "Call mup with the width of this model",
            )


def mup(
    make_model: Callable[[int, int], Any],
    X: ArrayLike,
    *,
    width: Any,
    base_width: Any,
    optimizer: Any = "adam",
    seed: int = 0,
) -> MuP:
    r"""The initial scales and rates of muP in standard form, for a model of any library.

    Roles come from comparing two widths: a tensor whose fan-in and fan-out grow is "hidden", with only one of them an
    "output" or "input", and one that acts elementwise (a bias, the scale of a norm) a "vector". Standard deviations are
    to be constant for inputs, $\propto m_{in}^{-1/2}$ for hidden tensors and $\propto m_{in}^{-1}$ for outputs; how
    those of the model go with its width is measured, and corrected. Rates are multiplied by $m_{in}^{-1}$ with Adam
    (hidden, output), and by $m_{out}$ (input, vector), $m_{out}/m_{in}$ (hidden) and $m_{in}^{-1}$ (output) with SGD.
    At the base width everything stays as it is; below it the factors are the inverse ones.

    Arguments: ``make_model(width, seed)`` as for `width_check`; ``X`` a few inputs (N, ...); ``optimizer`` "adam" (and
    others whose update does not hang on the gradient's size, such as "adamw" and "lion") or "sgd", or an optimiser of
    optax, ``optax.adamw`` or ``optax.adamw(1e-3)``, which is tried out. Raises ``ValueError`` for widths that are
    no whole numbers from 1 on, for a model that does not grow, and for one tensor in two roles.

    >>> import numpy as np, optax, equinox as eqx, widthwise as ww
    >>> make_model = lambda width, seed: eqx.nn.MLP(2, 1, width, 2, key=jax.random.key(seed))
    >>> scaled = ww.mup(make_model, np.ones((2, 2)), width=256, base_width=64)
    >>> [(one.name, one.role, one.initial, one.rate) for one in scaled.tensors if "weight" in one.name][1:]
    [('layers.1.weight', 'hidden', 1.0, 0.25), ('layers.2.weight', 'output', 0.5, 0.25)]
    >>> model, optimizer = scaled.rescale(make_model(256, 0)), scaled.optimizer(optax.adam(1e-3))

    Sources: yang2021tensor, yang2022tuning.
    """
    width, base_width = demand_count("width", width, least=1), demand_count("base_width", base_width, least=1)
    inputs, sign = examples(X), (width > base_width) - (width < base_width)
    # Roles are told by what grows, so that the narrower of the two comes first.
    least, most = sorted((base_width, width if width != base_width else 2 * base_width))
    narrow, wide = (adapted_models(make_model, one, 1, inputs[:2], seed)[0] for one in (least, most))
    rule = rule_of(optimizer, trained_tree(narrow))
    example = jax.ShapeDtypeStruct(inputs.shape[1:], inputs.dtype)
    pairs = [*zip(find_taps(narrow, example).taps, find_taps(wide, example).taps, strict=True)]
    names = find_taps(narrow, example).names
    leaves, others = parameters(narrow)[0], parameters(wide)[0]
    _demand_growth(names, leaves, others, least, most)
    tensors = []
    for at, (name, small, large) in enumerate(zip(names, leaves, others, strict=True)):
        role, fans = _role(name, [pair for pair in pairs if at in pair[0].leaves], small, large)
        initial, rate = (factor**sign for factor in _scaling(role, fans, rule, small, large))
        base, shape = (large if sign < 0 else small).shape, (large if sign > 0 else small).shape
        tensors.append(ScaledTensor(name, role, base, shape, initial, rate))
    advice = _attention_advice((narrow, wide), pairs, inputs[0])
    return MuP(width, base_width, rule, tuple(tensors), advice)


def _demand_growth(names: Sequence[str], leaves: Sequence[Any], others: Sequence[Any], least: int, most: int) -> None:
    if all(small.shape == large.shape for small, large in zip(leaves, others, strict=True)):
        listed = ", ".join(f"{name} {leaf.shape}" for name, leaf in zip(names, leaves, strict=True))
        reject(
            f"models of widths {least} and {most} with the same shapes ({listed})",
            "make_model(width, seed) builds layers whose shapes grow with the width",
            "Use its first argument as the number of hidden units, channels or features",
        )


def _role(name: str, pairs: Sequence[tuple[Tap, Tap]], small: Any, large: Any) -> tuple[str, tuple[float, float]]:
    """The role of a tensor, and how many times fan-in and fan-out are larger."""
    roles = {role_of(*pair) for pair in pairs}
    if not roles:
        growing = sum(a != b for a, b in zip(small.shape, large.shape, strict=True))
        roles = {"fixed", "vector"} if growing > 1 else {("fixed", "vector")[growing]}
    if len(roles) > 1:
        reject(
            f"{name}, of shape {small.shape} at the narrower width, in the roles {', '.join(sorted(roles))}",
            "Without multipliers a tensor has one role: an embedding that is the readout too would need one",
            "Untie it, or multiply the logits by 1/width yourself and take it as an input",
        )
    fans = [(wide.fan_in / narrow.fan_in, wide.fan_out / narrow.fan_out) for narrow, wide in pairs]
    return roles.pop(), fans[0] if fans else (1.0, large.size / small.size)


def _scaling(role: str, fans: tuple[float, float], optimiser: Optimiser, small: Any, large: Any) -> tuple[float, float]:
    """The factors of the initial values and of the rate."""
    m_in, m_out = fans
    if role == "fixed":
        return 1.0, 1.0
    wanted = {"hidden": m_in**-0.5, "output": 1.0 / m_in}.get(role, 1.0)
    rate = {"hidden": m_out / m_in, "output": 1.0 / m_in}.get(role, m_out)
    if optimiser == "adam":
        rate = {"hidden": 1.0 / m_in, "output": 1.0 / m_in}.get(role, 1.0)
    return wanted / _own_growth(small, large, m_in if role in ("hidden", "output") else m_out), rate


def _own_growth(small: Any, large: Any, times: float) -> float:
    """How the initial values go with the width: a power of ``times``, a multiple of 1/2 where they are near to one."""
    narrow, wide = (math.sqrt(float(np.mean(np.square(np.asarray(one))))) for one in (small, large))
    if narrow == 0 or wide == 0:
        return 1.0
    power = math.log(wide / narrow) / math.log(times)
    near = 0.5 * round(2 * power)
    noise = 3.0 / (math.sqrt(2 * small.size) * math.log(times))
    return times**near if abs(power - near) <= max(noise, 0.1) else wide / narrow


def _attention_advice(models: Sequence[Any], pairs: Sequence[tuple[Tap, Tap]], x: Any) -> tuple[str, ...]:
    """What is wrong with the scale of scores, if it is not 1/d where d grows."""
    places = [
        at for at, (small, large) in enumerate(pairs) if small.kind == "attention" and large.fan_in > small.fan_in
    ]
    if not places:
        return ()
    factors = [read_taps(model, parameters(model)[0], parameters(model)[0], x)[1].factor for model in models]
    told = []
    for at in places:
        small, large = pairs[at]
        power = math.log(float(factors[1][at]) / float(factors[0][at])) / math.log(large.fan_in / small.fan_in)
        if abs(power + 1.0) > 0.1:
            told.append(f"{small.name}: scores are scaled by d^{power:.2g}, muP asks for 1/d; change it in the model")
    return tuple(told)
