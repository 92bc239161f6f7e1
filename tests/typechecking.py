"""The type checker of the tests: beartype, with three readings of its own.

An int is allowed where a float is asked for (PEP 484), and `ArrayLike` is whatever `asarray` takes: JAX's
alias leaves out lists, and the protocols behind NumPy's refuse tuples at run time.
"""

import jax.typing
import numpy.typing
from beartype import BeartypeConf, FrozenDict, beartype

_ARRAY_LIKE = (jax.typing.ArrayLike, numpy.typing.ArrayLike)

checked = beartype(
    conf=BeartypeConf(
        is_pep484_tower=True,
        hint_overrides=FrozenDict({alias: object for hint in _ARRAY_LIKE for alias in (hint, hint | None)}),
    )
)
