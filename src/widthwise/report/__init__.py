"""The report: sections that state results, and the page that shows them."""

from .section import Figure, Formula, Grid, Mark, Metadata, Number, Section, Series, Table

__all__ = ["Figure", "Formula", "Grid", "Mark", "Metadata", "Number", "Section", "Series", "Table"]
