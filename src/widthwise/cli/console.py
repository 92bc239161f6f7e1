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


def write_table(header: Sequence[str], rows: Sequence[Sequence[Text]]) -> None:
    """Write a table for people, or cells separated by tabs for programs that read a pipe."""
    console = Console(highlight=False)
    if not console.is_terminal:
        for row in rows:
            write_line("\t".join(" ".join(cell.plain.split()) for cell in row))
        return
    table = Table(*header, header_style="bold")
    for row in rows:
        table.add_row(*row)
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
