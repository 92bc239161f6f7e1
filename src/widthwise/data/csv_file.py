"""Text tables as people really save them: any delimiter, with or without a header, quotes, a byte-order mark."""

import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from widthwise.numerics import reject

from .table import Table, is_decimal_comma, is_missing, number

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_LOOK = 50  # rows that are looked at to find the delimiter and the header
_LEAST_COUNTED_HEADER = 4  # "0,1,2,3,..." is a header that pandas made; "0,1" may well be data

Row = tuple[int, list[str]]


def read_csv(path: Path) -> Table:
    """Read a delimited text file into columns of text.

    The delimiter is the one of comma, semicolon, tab and bar that splits most rows alike into the
    most readable cells. The first row is a header when it holds no number, or when a column
    of numbers begins with a word, or when it merely counts 0, 1, 2, ....
    """
    rows = list(_rows(path, _decoded(path)))
    if not rows:
        reject(f"{path} is empty", "A data file holds rows of numbers and a target", "Check that the file was saved")
    header = _is_header([cells for _, cells in rows[:_LOOK]])
    names = _names(rows[0][1]) if header else tuple(f"column {j}" for j in range(len(rows[0][1])))
    body = rows[1:] if header else rows
    if not body:
        reject(
            f"{path} holds a header and no rows", "A data file holds at least one row", "Check that the file was saved"
        )
    _demand_equal_lengths(path, body, len(names), "header" if header else "first row")
    columns = tuple(np.array(column, dtype=object) for column in zip(*(cells for _, cells in body), strict=True))
    notes = () if header else (f"{path.name} has no header line: its columns are numbered from 0",)
    return _without_row_numbers(Table(path.name, names, columns, tuple(line for line, _ in body), notes))


def _decoded(path: Path) -> str:
    raw = path.read_bytes()
    encoding = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as failure:
        line = raw.count(b"\n", 0, failure.start) + 1
        return reject(
            f"{path} is not {encoding.removesuffix('-sig').upper()} text: the byte 0x{raw[failure.start]:02x} at line "
            f"{line} cannot be read",
            "A .csv or .tsv file is text in UTF-8",
            "Save it as UTF-8 (in a spreadsheet: 'CSV UTF-8'), or convert it: iconv -f latin1 -t utf-8 OLD > NEW",
        )


def _rows(path: Path, text: str) -> Iterator[Row]:
    """Split the text into rows with their line numbers, without the blank ones."""
    delimiter = sniff(text, first="\t" if path.suffix.lower() == ".tsv" else ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    begin = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield begin, cells
            begin = reader.line_num + 1
    except csv.Error as failure:
        reject(
            f"{path} cannot be split into cells from line {begin} on: {failure}",
            'A quoted cell ends with its quote, and a quote inside it is doubled ("")',
            "Correct that line",
        )


def sniff(text: str, first: str = ",") -> str:
    """Find the delimiter; ``first`` wins a draw.

    >>> sniff("a;b\\n1,5;2\\n2,5;3\\n")
    ';'
    """
    head = "".join(text.splitlines(keepends=True)[:_LOOK])
    order = sorted(DELIMITERS, key=lambda delimiter: delimiter != first)
    return max(order, key=lambda delimiter: _regularity(head, delimiter))


def _regularity(head: str, delimiter: str) -> tuple[float, float, int]:
    """How alike the rows are in length, how many cells read as numbers, how many columns there are."""
    try:
        rows = [row for row in csv.reader(io.StringIO(head, newline=""), delimiter=delimiter) if row]
    except csv.Error:
        return (0.0, 0.0, 0)
    width, count = Counter(map(len, rows)).most_common(1)[0] if rows else (1, 0)
    if width < 2:
        return (0.0, 0.0, 0)
    cells = [cell for row in rows for cell in row]
    readable = sum(number(cell) is not None or is_decimal_comma(cell) for cell in cells)
    return (count / len(rows), readable / len(cells), width)


def _is_header(rows: Sequence[list[str]]) -> bool:
    first, rest = rows[0], rows[1:]
    plain = [_is_plain_number(cell) for cell in first]
    if not any(plain):
        return not all(map(is_missing, first))
    counted = [cell.strip() for cell, is_plain in zip(first, plain, strict=True) if is_plain]
    if len(counted) >= _LEAST_COUNTED_HEADER and counted == [str(j) for j in range(len(counted))]:
        return True
    columns = ([row[j] for row in rest if j < len(row)] for j in range(len(first)))
    return any(
        not is_missing(head) and number(head) is None and bool(below) and all(map(_is_plain_number, below))
        for head, below in zip(first, columns, strict=True)
    )


def _is_plain_number(cell: str) -> bool:
    return not is_missing(cell) and number(cell) is not None


def _names(header: Sequence[str]) -> tuple[str, ...]:
    return tuple(name.strip() or f"column {j}" for j, name in enumerate(header))


def _demand_equal_lengths(path: Path, body: Sequence[Row], width: int, measure: str) -> None:
    for line, cells in body:
        if len(cells) != width:
            reject(
                f"Line {line} of {path} has {len(cells)} cells, and its {measure} has {width}",
                "All rows are equally long; cells are separated by comma, semicolon, tab or bar",
                "Correct that line, or put quotes around cells that contain the separator",
            )


def _without_row_numbers(table: Table) -> Table:
    """Drop a nameless first column that only counts the rows: the index that pandas and R write."""
    if table.names[0] != "column 0" or len(table.names) < 3 or len(table) < 3:
        return table
    counts = [[str(row + start) for row in range(len(table))] for start in (0, 1)]
    if [cell.strip() for cell in table.columns[0]] not in counts:
        return table
    return table.without(0, f"the first column of {table.name} has no name and counts the rows; it was left out")
