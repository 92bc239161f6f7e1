"""The report: sections that state results, and the page that shows them."""

from .imported import is_import_path
from .plots import plot
from .progress import Progress, Silent, Terminal
from .results import PAGE, Results, prepare, write
from .run import report
from .section import Figure, Formula, Grid, Mark, Metadata, Number, Section, Series, Table

__all__ = [
    "PAGE",
    "Figure",
    "Formula",
    "Grid",
    "Mark",
    "Metadata",
    "Number",
    "Progress",
    "Results",
    "Section",
    "Series",
    "Silent",
    "Table",
    "Terminal",
    "is_import_path",
    "plot",
    "prepare",
    "report",
    "write",
]
