"""Strict settings for every test: float64, no silent promotion, checked shapes and types."""

import hypothesis
import jax
import jaxtyping

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# Checks every annotation of the package while the tests run; users do not pay for it.
jaxtyping.install_import_hook("widthwise", "typechecking.checked")

# No deadline: the first example of a property pays for compilation.
hypothesis.settings.register_profile("widthwise", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("widthwise")
