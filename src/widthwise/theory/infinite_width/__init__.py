"""Networks of infinite width: their laws, their kernels and the spectra of these, and how fast they are reached."""

from .by_parameter import LayerShare, ntk_by_parameter
from .ensemble import LOSSES, Ensemble, ensemble
from .fluctuations import Fluctuations, characteristic_function, fluctuations, second_moment_growth
from .normalisation import normalised_covariance
from .setups import Case
from .shallow_model import (
    kernel_spread,
    rectifier_error_bound,
    rectifier_kernel,
    slice_coefficients,
    taylor_error_bound,
    taylor_model,
    worst_rectifier_constant,
    worst_rectifier_error,
)
from .sphere import SphereSpectrum, sphere_spectrum, zonal_spectrum

__all__ = [
    "LOSSES",
    "Case",
    "Ensemble",
    "Fluctuations",
    "LayerShare",
    "SphereSpectrum",
    "characteristic_function",
    "ensemble",
    "fluctuations",
    "kernel_spread",
    "normalised_covariance",
    "ntk_by_parameter",
    "rectifier_error_bound",
    "rectifier_kernel",
    "second_moment_growth",
    "slice_coefficients",
    "sphere_spectrum",
    "taylor_error_bound",
    "taylor_model",
    "worst_rectifier_constant",
    "worst_rectifier_error",
    "zonal_spectrum",
]
