"""Large learning rates: catapults, the edge of stability, and what keeps training there."""

from .maps import (
    CatapultPoint,
    catapult_limit,
    catapult_orbit,
    lazy_change,
    peak_growth_time,
    quadratic_orbit,
    stabilisation_energy,
    stabilisation_orbit,
)

__all__ = [
    "CatapultPoint",
    "catapult_limit",
    "catapult_orbit",
    "lazy_change",
    "peak_growth_time",
    "quadratic_orbit",
    "stabilisation_energy",
    "stabilisation_orbit",
]
