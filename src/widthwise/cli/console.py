"""What the commands say, and how: tables, notes, progress."""

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from widthwise.report import Progress, Silent, Terminal


def say(message: str, style: str = "") -> None:
    """Write one line for the reader to the error stream, beside the results."""
    Console(stderr=True, soft_wrap=True, highlight=False).print(Text(" ".join(message.split()), style=style))


def write_line(line: str) -> None:
    """Write one line of results, whatever characters it holds."""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")


def write_json(data: Any) -> None:
    """Write strict JSON for programs."""
    write_line(json.dumps(data, indent=1, allow_nan=False))


Row = Sequence[Text]


def write_table(header: Sequence[str], rows: Sequence[Row], headed: bool = True) -> None:
    """Write a table for people, or cells separated by tabs for a pipe, without the header where ``headed`` is False."""
    with growing_table(header, headed) as add:
        for row in rows:
            add(row)


@contextlib.contextmanager
def growing_table(header: Sequence[str], headed: bool = True) -> Iterator[Callable[[Row], None]]:
    """Yield what adds a row: to a table that is written at the end, or, in a pipe, at once."""
    console, rows = Console(highlight=False), list[Row]()

    def written(row: Row) -> None:
        if headed and not rows:
            write_line("\t".join(header))
        rows.append(row)
        write_line("\t".join(" ".join(cell.plain.split()) for cell in row))
        sys.stdout.flush()

    if not console.is_terminal:
        yield written
        return
    try:
        yield rows.append
    finally:
        # An interruption still shows the rows so far.
        table = Table(*header, header_style="bold")
        for row in rows:
            table.add_row(*row)
        if rows:
            console.print(table)


@contextlib.contextmanager
def shown_steps(name: str, step: str) -> Iterator[Callable[[int, int], None]]:
    """A bar for work whose number of steps is known at its first one; yields ``progress(done, total)``."""
    with shown_progress() as progress, progress.task(name), contextlib.ExitStack() as bars:
        advances = []

        def told(done: int, total: int) -> None:
            if not advances:
                advances.append(bars.enter_context(progress.task(step, total=total)))
            advances[0]()

        yield told


def shown_progress() -> AbstractContextManager[Progress]:
    """Bars with the time left on the error stream, or silence where that is no terminal."""
    console = Console(stderr=True)
    return Terminal(console) if console.is_terminal else contextlib.nullcontext(Silent())
