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
