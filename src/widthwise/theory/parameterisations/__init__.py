"""How initial scales and rates go with the width: abc-parameterisations, muP, and the check of a model of one's own."""

from .abc import (
    MEAN_FIELD,
    MUP_ONE_RATE,
    PARAMETERISATIONS,
    Exponents,
    Parameterisation,
    Prediction,
    parameterisation,
    predict,
)
from .check import WidthCheck, judge, width_check
from .faults import Fault
from .readings import Identity, Reading
from .scaling import MuP, ScaledTensor, mup
from .slopes import Slope
from .transfer import Transfer, transfer

__all__ = [
    "MEAN_FIELD",
    "MUP_ONE_RATE",
    "PARAMETERISATIONS",
    "Exponents",
    "Fault",
    "Identity",
    "MuP",
    "Parameterisation",
    "Prediction",
    "Reading",
    "ScaledTensor",
    "Slope",
    "Transfer",
    "WidthCheck",
    "judge",
    "mup",
    "parameterisation",
    "predict",
    "transfer",
    "width_check",
]
