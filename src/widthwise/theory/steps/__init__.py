"""Learning rates: which are stable, what an optimiser's steps do to a linear model, and which schedules converge."""

from .recursion import BatchNoise, Modes, spread
from .training import StepPath, StepTraining, trained_by_steps

__all__ = ["BatchNoise", "Modes", "StepPath", "StepTraining", "spread", "trained_by_steps"]
