"""Lazy training: when a network trains like its linearisation, and how near to it."""

from .linearised import Steps, Tangent, tangent

__all__ = ["Steps", "Tangent", "tangent"]
