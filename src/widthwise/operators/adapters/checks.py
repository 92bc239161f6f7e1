"""The precision of a user's model, its parameters, and whether it acts on one example or on a batch."""

import inspect
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array

from widthwise.numerics import demand_numbers, nearest, reject

from ..parameters import is_frozen
from .adapted import Adapted
from .source import Source, path_of

# A batch that no other axis of a model is likely to equal.
_BATCH = 131


def in_precision(tree: Any, dtype: str | None) -> Any:
    """Every real array in the type asked for; without one, half precision is raised to float32.

    >>> in_precision(jnp.ones(2, jnp.bfloat16), None).dtype
    dtype('float32')
    """
    return jax.tree.map(lambda leaf: _cast(leaf, dtype) if eqx.is_inexact_array(leaf) else leaf, tree)


def _cast(leaf: Array | np.ndarray, dtype: str | None) -> Array:
    leaf = jnp.asarray(leaf)
    own = jnp.finfo(leaf.dtype).dtype
    target = jnp.dtype(dtype or (own if own.itemsize >= 4 else jnp.float32))
    if jnp.iscomplexobj(leaf):
        target = jnp.dtype(jnp.complex64 if target == jnp.float32 else jnp.complex128)
    return leaf.astype(target)


def demand_dtype(dtype: Any) -> str | None:
    """The name of the precision asked for, when there is such a one.

    >>> demand_dtype(jnp.float32)
    'float32'
    """
    if dtype is None:
        return None
    name = np.dtype(dtype).name
    if name not in ("float32", "float64"):
        reject(f"dtype={name}", "A model is computed in float32 or float64", "Give one of them, or leave dtype out")
    if name == "float64" and not jax.config.jax_enable_x64:  # pyright: ignore[reportAttributeAccessIssue]
        reject(
            "dtype='float64' while JAX holds no 64-bit numbers",
            "Float64 needs JAX's 64-bit mode",
            "Call jax.config.update('jax_enable_x64', True) before the first array, or set JAX_ENABLE_X64=1",
        )
    return name


def demand_parameters(source: Source, dtype: str | None) -> None:
    """Refuse a model without trainable parameters or with NaN among them; half precision is raised with a warning."""
    leaves = jax.tree_util.tree_flatten_with_path(source.parameters, is_leaf=is_frozen)[0]
    trained = [(path, leaf) for path, leaf in leaves if eqx.is_inexact_array(leaf)]
    if not trained:
        kinds = sorted({str(leaf.dtype) for _, leaf in leaves if eqx.is_array(leaf)})
        reject(
            f"a model whose parameters are only {', '.join(kinds)}" if kinds else "a model without parameters",
            "Parameters are arrays of floating-point numbers, by which a model is differentiated",
            "Give the arrays in floating point; for a function f(params, x), adapt(f, params=params)",
        )
    for path, leaf in trained:
        if not _finite(leaf):
            reject(
                f"The parameter {path_of(path)} holds NaN or inf",
                "Parameters are finite numbers",
                "Take a checkpoint from before the training went wrong; wrap a mask in Frozen",
            )
    half = sorted({str(leaf.dtype) for _, leaf in trained if leaf.dtype.itemsize < 4})
    if half and dtype is None:
        warnings.warn(f"Parameters of type {', '.join(half)} are computed in float32.", UserWarning, stacklevel=3)


def _finite(leaf: Array | np.ndarray) -> bool:
    """Whether all entries are finite, by numpy: JAX would compile a program for each shape."""
    try:
        return bool(np.all(np.isfinite(np.asarray(leaf))))
    except jax.errors.TracerArrayConversionError:
        return True


# What `adapt` takes beside a model and its inputs; where float64 is used, there is no choice of the precision.
ADAPTED = ("params", "output", "batched", "call")


def demand_options(function: Callable, options: Iterable[str], taken: Sequence[str] = (*ADAPTED, "dtype")) -> None:
    """Refuse names of options that neither ``function`` nor `adapt` knows, such as mistyped ones.

    >>> demand_options(examples, {"param": None})
    Traceback (most recent call last):
        ...
    ValueError: examples(param=...) (did you mean 'params'?). The options are params, output, batched, call, dtype. ...
    """
    named = inspect.signature(function).parameters.values()
    optional = (one for one in named if one.kind == one.KEYWORD_ONLY or one.default is not one.empty)
    known = [*(one.name for one in optional), *taken]
    for name in options:
        if name not in taken:
            came = f"{function.__name__}({name}=...){nearest(name, known)}"
            reject(came, f"The options are {', '.join(known)}", "Use one of these, or leave it out")


def examples(X: ArrayLike) -> Array:
    """The examples as an array with at least one of them.

    >>> examples([[1.0, 2.0]]).shape
    (1, 2)
    """
    demand_numbers("X", X)
    X = jnp.asarray(X)
    if X.ndim == 0 or len(X) == 0:
        reject(f"X of shape {X.shape}", "X holds n >= 1 examples along its first axis", "Give one example as x[None]")
    return X


def settle(model: Adapted, X: Array, source: Source, batched: bool | None, dtype: str | None) -> Adapted:
    """Find out whether the model acts on one example or on a batch, and demand that examples do not mix."""
    x = jax.eval_shape(lambda: model.prepared(X[0]))
    ways = [False, True] if source.acts_on != "batch" else [True, False]
    said, working = {}, []
    for way in ways if batched is None else [batched]:
        said[way] = _attempt(replace(model, batched=way), x)
        if not isinstance(said[way], Exception):
            working.append(way)
    if not working:
        _reject_all(said, x.shape, source.hint)
    settled = replace(model, batched=working[0])
    _demand_precision(settled, x, dtype)
    if settled.batched or (len(working) > 1 and source.acts_on == "either"):
        _demand_separate(settled, X)
    return settled


def _attempt(model: Adapted, x: jax.ShapeDtypeStruct) -> Exception | jax.ShapeDtypeStruct:
    """The output of one example as a shape, or what the model said instead."""
    given = jax.ShapeDtypeStruct((_BATCH, *x.shape), x.dtype) if model.batched else x
    try:
        jax.eval_shape(lambda one: eqx.filter(model.outputs(one), eqx.is_array), given)
    except Exception as error:
        return error
    out = jax.eval_shape(model.native, given)
    if not model.batched:
        return out
    if out.shape[:1] != (_BATCH,):
        shape = str(out.shape).replace(str(_BATCH), "n")
        return ValueError(f"a batch of n examples gives an output of shape {shape}, without one entry for each of them")
    return jax.ShapeDtypeStruct(out.shape[1:], out.dtype)


def _reject_all(said: dict[bool, Any], shape: tuple[int, ...], hint: Callable[[Exception], str | None]) -> None:
    batch = str(("n", *shape)).replace("'", "")
    names = {False: f"one example of shape {shape}", True: f"a batch of shape {batch}"}
    told = "; ".join(f"on {names[way]} it said: {_short(error)}" for way, error in said.items())
    hints = [found for found in map(hint, said.values()) if found]
    reject(
        f"The model cannot be applied to X: {told}",
        "A model acts on one example, or on a batch of them along the first axis; X holds the examples",
        hints[0] if hints else "Give X in the shape that the model takes, with its batch axis first",
    )


def _short(error: Exception) -> str:
    text = " ".join(str(error).split()).replace(str(_BATCH), "n")
    return f"{type(error).__name__}: {text[:300]}{'...' * (len(text) > 300)}".rstrip(".")


def _demand_precision(model: Adapted, x: jax.ShapeDtypeStruct, dtype: str | None) -> None:
    """Refuse outputs in another precision than asked for; say where the model loses digits by itself."""
    given = jax.ShapeDtypeStruct((1, *x.shape), x.dtype) if model.batched else x
    traced, out = jax.make_jaxpr(model.native, return_shape=True)(given)
    if dtype and out.dtype.itemsize >= 4 and out.dtype != jnp.dtype(dtype):
        reject(
            f"dtype='{dtype}', but the model returns {out.dtype}",
            "A model that is computed in another precision converts nothing by itself",
            f"Build it without a dtype of its own, or with dtype={dtype}",
        )
    for wide, narrow in sorted(set(_narrowings(traced.jaxpr)), key=str):
        digits = int(-np.log10(float(jnp.finfo(narrow).eps)))
        warnings.warn(
            f"The model itself converts {wide} to {narrow} on its way, so its numbers have about {digits} digits. "
            f"Build its layers with dtype={wide} where they let you.",
            UserWarning,
            stacklevel=4,
        )


def _narrowings(jaxpr: Any) -> Iterator[tuple[np.dtype, np.dtype]]:
    """The conversions of real numbers to fewer digits, in a function and in those that it calls."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "convert_element_type":
            wide, narrow = equation.invars[0].aval.dtype, equation.outvars[0].aval.dtype
            if narrow.itemsize < wide.itemsize and all(jnp.issubdtype(one, jnp.floating) for one in (wide, narrow)):
                yield wide, narrow
        for inner in jax.tree.leaves([*equation.params.values()], is_leaf=_is_jaxpr):
            if _is_jaxpr(inner):
                yield from _narrowings(getattr(inner, "jaxpr", inner))


def _is_jaxpr(value: Any) -> bool:
    return hasattr(value, "eqns")


def _demand_separate(model: Adapted, X: Array) -> None:
    """Refuse a model in which the other examples of a batch change the output of an example."""
    batch = model.prepared(jnp.stack([X[0], X[-1], jnp.zeros_like(X[0])]))
    try:
        together, alone = map(np.asarray, _two_ways(model, batch))
    except jax.errors.TracerArrayConversionError:
        return
    # Far above rounding, far below what another example does.
    scale = np.sqrt(np.finfo(alone.dtype).eps) * np.max(np.abs(alone), initial=0.0)
    if alone.shape == together.shape and np.allclose(together, alone, rtol=0.0, atol=scale, equal_nan=True):
        return
    reject(
        "The output of an example depends on the other examples of its batch"
        if model.batched
        else "The model takes one example as well as a batch, and does not give the same",
        "A model is a function of one example, or of each example of a batch by itself",
        "Put it into evaluation mode (batch normalisation with fixed statistics), or say what it acts on by batched=",
    )


@eqx.filter_jit
def _two_ways(model: Adapted, batch: Array) -> tuple[Array, Array]:
    """The output of the first example in a batch, and by itself."""
    together = replace(model, batched=True).on_batch(batch)[0]
    return jnp.ravel(together).astype(model(batch[0]).dtype), model(batch[0])
