"""Small models of every framework in float64, each with inputs X of three examples.

`ZOO` holds constructors by name: called without arguments, each returns the adapted model and its inputs.
`CASES` holds the same models as their framework has them, for comparison.
"""

from collections.abc import Callable

from jaxtyping import Array

from operators.adapters.case import Case
from operators.adapters.zoo_equinox import EQUINOX
from operators.adapters.zoo_flax import LINEN, NNX
from operators.adapters.zoo_haiku import HAIKU
from operators.adapters.zoo_plain import PLAIN
from widthwise.operators.adapters import adapt

CASES: dict[str, Callable[[], Case]] = {**PLAIN, **EQUINOX, **NNX, **LINEN, **HAIKU}


def adapted(case: Case) -> tuple[Callable, Array]:
    return adapt(case.model, case.X, dtype="float64", **case.options), case.X


ZOO: dict[str, Callable[[], tuple[Callable, Array]]] = {
    name: (lambda make=make: adapted(make())) for name, make in CASES.items()
}
