"""Matrices of pairs of inputs tile by tile, in memory or on disk, whatever computes the tiles."""

from .store import fingerprint, on_disk
from .tiles import Grid, in_memory, mirror
from .tiles import Progress as Progress
from .tiles import Tile as Tile

__all__ = ["Grid", "fingerprint", "in_memory", "mirror", "on_disk"]
