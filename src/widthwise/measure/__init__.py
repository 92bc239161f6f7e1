"""Instruments for any model: what is counted, trained, differentiated and compared, never predicted."""

from .spectrum import Spectrum, spectrum

__all__ = [
    "Spectrum",
    "spectrum",
]
