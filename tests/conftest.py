"""Strict settings for every test: float64, no silent promotion, checked shapes and types."""

import random
import re
import time
import unittest
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import hypothesis
import jax
import jaxtyping
import pytest
from xdist.scheduler import LoadScopeScheduling

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# Checks every annotation of the package while the tests run; users do not pay for it.
jaxtyping.install_import_hook("widthwise", "typechecking.checked")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--minutes", type=float, help="begin no test after so long; claims first")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run the tests of one claim one after the other: they share its draws."""
    groups = [_group(item.nodeid) for item in items]
    first = {group: at for at, group in reversed(list(enumerate(groups)))}
    if config.getoption("minutes") is not None:
        shuffled = random.Random(date.today().toordinal()).sample(sorted(first), len(first))
        first = {group: at + len(first) * group.startswith("tests/") for at, group in enumerate(shuffled)}
    order = sorted(range(len(items)), key=lambda at: (first[groups[at]], at))
    items[:] = [items[at] for at in order]


_BEGUN = time.monotonic()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    minutes = item.config.getoption("minutes")
    if minutes is not None and time.monotonic() - _BEGUN > 60 * minutes:
        raise unittest.SkipTest(f"the {minutes:g} minutes are over")


class _Groups(LoadScopeScheduling):
    """Hands out to each process the tests of a whole file, or of one claim."""

    def _split_scope(self, nodeid: str) -> str:
        return _group(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log) -> LoadScopeScheduling:
    """Share out the tests among the processes of ``-n``."""
    return _Groups(config, log)


def _group(nodeid: str) -> str:
    claim = re.search(r"test_every_claim\.py::\w+\[([A-Z]+-\w+)", nodeid)
    return claim[1] if claim else nodeid.partition("::")[0]


# No deadline: the first example of a property pays for compilation.
hypothesis.settings.register_profile("widthwise", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("widthwise")

# A process may hold some 65,000 memory maps, and every compiled function holds some: the compiler crashes beyond.
_MAPS, _MOST_MAPS = Path("/proc/self/maps"), 15_000


@pytest.fixture(autouse=True)
def few_memory_maps(request: pytest.FixtureRequest) -> Iterator[None]:
    """Forget what was compiled before there is too much of it; counted after every tenth test."""
    yield
    request.session.finished = getattr(request.session, "finished", 0) + 1
    if request.session.finished % 10 == 0 and _MAPS.exists() and _MAPS.read_bytes().count(b"\n") > _MOST_MAPS:
        jax.clear_caches()
