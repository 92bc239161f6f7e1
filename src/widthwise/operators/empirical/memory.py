"""Amounts of memory: what is asked for, and what there is."""

import re
from pathlib import Path

import jax

from widthwise.numerics import reject

_UNITS = {"": 1, "B": 1} | {f"{letter}B": 1000**power for power, letter in enumerate("kMGT", 1)}
_UNITS |= {f"{letter}iB": 1024**power for power, letter in enumerate("KMGT", 1)}
_SHARE = 0.5  # of the free memory, unless another limit is given
_UNKNOWN = 4 * 10**9


def bytes_of(memory: str | float | None) -> int:
    """A limit in bytes: a number, a text such as "8GB" or "500 MiB", or half of what is free.

    Raises ``ValueError`` for any other text and for less than a byte, such as a share of what there is.

    >>> bytes_of("1.5GB"), bytes_of("2 MiB"), bytes_of(1e6)
    (1500000000, 2097152, 1000000)
    """
    if memory is None:
        return int(_SHARE * free())
    text = str(memory)
    match = re.fullmatch(r"\s*([0-9]+(?:[.][0-9]*)?(?:e[+]?[0-9]+)?)\s*([A-Za-z]*)\s*", text)
    units = {name.lower(): size for name, size in _UNITS.items()}
    if not match or match[2].lower() not in units or float(match[1]) * units[match[2].lower()] < 1:
        reject(
            f"memory={memory!r}",
            "A limit is a positive number of bytes, no share of what there is, or a text such as '8GB' or '500 MiB'",
            "Give memory='4GB', or leave it out for half of what is free",
        )
    return int(float(match[1]) * units[match[2].lower()])


def free() -> int:
    """The bytes that are free where arrays live."""
    stats = jax.devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    try:
        found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text("ascii"))
    except OSError:
        found = None
    return int(found[1]) * 1024 if found else _UNKNOWN


def spoken(count: float) -> str:
    """Bytes in words.

    >>> spoken(1234567890), spoken(12)
    ('1.23 GB', '12 B')
    """
    for power, letter in ((4, "T"), (3, "G"), (2, "M"), (1, "k")):
        if count >= 1000**power:
            return f"{count / 1000**power:.3g} {letter}B"
    return f"{count:.0f} B"
