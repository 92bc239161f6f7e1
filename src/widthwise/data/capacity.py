"""What fits into memory, asked before the work begins."""

import os
from pathlib import Path

from widthwise.numerics import reject

_CGROUP = Path("/sys/fs/cgroup")
_CGROUP_FILES = (
    ("memory.max", "memory.current", "memory.stat"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
)
_UNLIMITED = 2**62
_FALLBACK = 4 * 2**30  # bytes, where the system does not tell


def demand_memory(needed: int, purpose: str, instead: str) -> None:
    """Refuse a computation that needs more memory than is free.

    Args:
        needed: bytes.
        purpose: what needs them, as the subject of a sentence.
        instead: what to do, as a request.

    >>> demand_memory(8 * 10**18, "A kernel of 1e9 rows", "Take fewer rows")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    ValueError: A kernel of 1e9 rows needs 8e+09 GB of memory. At most ... GB are free here. Take fewer rows.
    """
    free = available_memory()
    if needed > free:
        reject(
            f"{purpose} needs {needed / 1e9:.3g} GB of memory", f"At most {free / 1e9:.3g} GB are free here", instead
        )


def available_memory() -> int:
    """Return how many bytes this process may still take, as the system and its container say."""
    return min(_free_of_system(), _free_of_container())


def _free_of_system() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        fields = dict(line.split(":", 1) for line in lines)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return _physical()


def _physical() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return _FALLBACK


def _free_of_container() -> int:
    """Free memory under the limit of a container (cgroup version 2 or 1); unlimited without one."""
    for limit, used, cache in _CGROUP_FILES:
        try:
            stat = dict(line.split() for line in (_CGROUP / cache).read_text().splitlines())
            taken = int((_CGROUP / used).read_text()) - int(stat.get("inactive_file", 0))
            return max(0, int((_CGROUP / limit).read_text()) - taken)
        except (OSError, ValueError):
            continue
    return _UNLIMITED
