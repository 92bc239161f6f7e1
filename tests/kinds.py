"""The activations of the catalogue as parameters of a test: one of each kind by default, all of them among the slow."""

import pytest

from widthwise.activations import ACTIVATIONS

NAMES = sorted(ACTIVATIONS)
# Closed forms with a kink, a jump, without; odd, even, neither; a series; cells with a kink at zero and elsewhere.
KINDS = ("identity", "relu", "abs", "erf", "gelu", "sin", "gaussian", "step", "tanh", "softplus", "elu", "hard_tanh")


def one_of_each_kind(names=NAMES, default=KINDS):
    return [pytest.param(name, marks=[pytest.mark.slow] * (name not in default)) for name in names]
