"""Networks of infinite width: their laws, their kernels and the spectra of these, and how fast they are reached."""

from .ensemble import LOSSES, Ensemble, ensemble
from .sphere import SphereSpectrum, sphere_spectrum, zonal_spectrum

__all__ = ["LOSSES", "Ensemble", "SphereSpectrum", "ensemble", "sphere_spectrum", "zonal_spectrum"]
