"""The report: sections that state results, and the page that shows them."""

from .results import Results, prepare, write
from .section import Figure, Formula, Grid, Mark, Metadata, Number, Section, Series, Table

__all__ = [
    "Figure",
    "Formula",
    "Grid",
    "Mark",
    "Metadata",
    "Number",
    "Results",
    "Section",
    "Series",
    "Table",
    "prepare",
    "write",
]
