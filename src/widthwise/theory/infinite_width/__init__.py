"""Networks of infinite width: their laws, their kernels and the spectra of these, and how fast they are reached."""

from .ensemble import LOSSES, Ensemble, ensemble

__all__ = ["LOSSES", "Ensemble", "ensemble"]
