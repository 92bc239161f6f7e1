"""The command line: report, list, check and kernel."""

from .main import main

__all__ = ["main"]
