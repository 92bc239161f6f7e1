"""Strict settings for every test: float64, no silent promotion, checked shapes and types."""

from collections.abc import Iterator
from pathlib import Path

import hypothesis
import jax
import jaxtyping
import pytest

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# Checks every annotation of the package while the tests run; users do not pay for it.
jaxtyping.install_import_hook("widthwise", "typechecking.checked")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests of one claim one after the other: they share its draws."""
    groups = [_claim(item) or str(at) for at, item in enumerate(items)]
    first = {group: at for at, group in reversed(list(enumerate(groups)))}
    order = sorted(range(len(items)), key=lambda at: (first[groups[at]], at))
    items[:] = [items[at] for at in order]


def _claim(item: pytest.Item) -> str | None:
    claim = getattr(item, "callspec", None) and item.callspec.params.get("claim")
    return claim.id if claim is not None and "test_every_claim.py" in item.nodeid else None


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
