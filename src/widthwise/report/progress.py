"""How far the work has come: nothing from Python, bars with the time left in a terminal."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, runtime_checkable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

Advance = Callable[..., None]


@runtime_checkable
class Progress(Protocol):
    """What a section may tell: that a piece of work begins, and each step of it.

    >>> with Silent().task("Draw networks", total=3) as advance:
    ...     for _ in range(3):
    ...         advance()
    """

    def task(self, name: str, total: int | None = None) -> AbstractContextManager[Advance]:
        """Begin a piece of work of so many steps (None: unknown); yields ``advance(steps=1)``."""
        ...


class Silent:
    """Tell nothing."""

    @contextmanager
    def task(self, name: str, total: int | None = None) -> Iterator[Advance]:
        """Begin a piece of work; advancing it does nothing."""
        yield lambda steps=1: None


class Terminal:
    """Bars on the standard error, each with the time that is left; use it as a context manager."""

    def __init__(self, console: Console | None = None):
        self._bars = Bars(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console or Console(stderr=True),
            transient=False,
        )

    def __enter__(self) -> "Terminal":
        self._bars.start()
        return self

    def __exit__(self, *failure) -> None:
        self._bars.stop()

    @contextmanager
    def task(self, name: str, total: int | None = None) -> Iterator[Advance]:
        """Begin a piece of work; its bar disappears when it is done."""
        bar = self._bars.add_task(name, total=total)
        try:
            yield lambda steps=1: self._bars.advance(bar, steps)
        finally:
            self._bars.remove_task(bar)
