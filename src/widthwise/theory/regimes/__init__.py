"""Lazy or rich: the transition over output scale, width and label scale, and what comes late of it."""

from .claims import kernel_change_bound
from .diagram import AREAS, MEASURES, LazyPhaseDiagram
from .grokking import Course, Grokking, grokking
from .sweep import lazy_phase_diagram

__all__ = [
    "AREAS",
    "MEASURES",
    "Course",
    "Grokking",
    "LazyPhaseDiagram",
    "grokking",
    "kernel_change_bound",
    "lazy_phase_diagram",
]
