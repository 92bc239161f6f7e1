"""Matrices of pairs of inputs tile by tile, in memory or on disk, whatever computes the tiles."""

from .store import fingerprint, on_disk
from .tiles import Grid, Progress, Tile, in_memory, mirror

__all__ = ["Grid", "Progress", "Tile", "fingerprint", "in_memory", "mirror", "on_disk"]
