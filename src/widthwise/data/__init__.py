"""Data sets: built-in ones, files, arrays; checked, split and standardised. Knows no networks."""

from .builtin import BUILTIN
from .capacity import demand_memory
from .dataset import Dataset, Inputs
from .duplicates import row_groups
from .examples import Layout, arrange, load_examples
from .load import load, load_inputs
from .prepare import FeatureScale, Part, Standardised, split, standardise

__all__ = [
    "BUILTIN",
    "Dataset",
    "FeatureScale",
    "Inputs",
    "Layout",
    "Part",
    "Standardised",
    "arrange",
    "demand_memory",
    "load",
    "load_examples",
    "load_inputs",
    "row_groups",
    "split",
    "standardise",
]
