"""Small models of every framework in float64, each with inputs X of three examples.

`ZOO` holds constructors by name: called without arguments, each returns the adapted model and its inputs.
`CASES` holds the same models as their framework has them, for comparison.
"""

import functools
from collections.abc import Callable

from jaxtyping import Array

from operators.adapters.case import Case
from operators.adapters.zoo_equinox import EQUINOX
from operators.adapters.zoo_flax import LINEN, NNX
from operators.adapters.zoo_haiku import HAIKU
from operators.adapters.zoo_plain import PLAIN
from widthwise.operators.adapters import adapt

CASES: dict[str, Callable[[], Case]] = {**PLAIN, **EQUINOX, **NNX, **LINEN, **HAIKU}


@functools.cache
def adapted(name: str) -> tuple[Callable, Array]:
    case = CASES[name]()
    return adapt(case.model, case.X, dtype="float64", **case.options), case.X


ZOO: dict[str, Callable[[], tuple[Callable, Array]]] = {name: functools.partial(adapted, name) for name in CASES}
