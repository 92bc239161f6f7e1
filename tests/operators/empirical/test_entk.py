"""The empirical NTK of models of every framework against their dense Jacobians, by every algorithm and in tiles."""

import inspect
import sys
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from operators.adapters.zoo import ZOO
from operators.adapters.zoo_torch import TORCH
from widthwise.networks import MLP, sample
from widthwise.operators import adapt, empirical_kernel, entk, entk_plan, jacobian_matrix, parameters
from widthwise.operators.empirical.blocks import Blocks
from widthwise.operators.empirical.contract import add, start, steps
from widthwise.operators.empirical.factors import factors, structure

FACTORS, PLAN, BLOCKS = (sys.modules[f"widthwise.operators.empirical.{one}"] for one in ("factors", "plan", "blocks"))
QUICK = ("dense", "stacked_layers_under_scan", "nnx_tied_embedding")
OUTPUTS = ("all", "trace", "diagonal")
ROUNDING = 1e-13  # sums of some thousand products, relative to the largest entry


def dense(model, X, outputs="all"):
    """By the Jacobian, in the simplest way."""
    J = np.asarray(jacobian_matrix(model, jnp.asarray(X)))
    whole = np.einsum("ikp,jlp->ikjl", J, J)
    if outputs == "trace":
        return np.einsum("ikjk->ij", whole) / J.shape[1]
    return np.einsum("ikjk->ijk", whole) if outputs == "diagonal" else whole


def close(found, wanted, scale=None):
    limit = ROUNDING * np.max(np.abs(wanted if scale is None else scale))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=limit)


ALL = [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in ZOO]


@pytest.mark.parametrize("name", ALL)
def test_every_algorithm_agrees_with_the_dense_jacobian(name):
    model, X = ZOO[name]()
    whole = dense(model, X)
    for algorithm in ("structured", "jacobian", "products"):
        close(entk(model, X, algorithm=algorithm), whole)
    found = structure(model, jax.eval_shape(lambda: jnp.asarray(X)[0]))
    parts = factors(model, jnp.asarray(X), found)
    for outputs in OUTPUTS:
        wanted = dense(model, X, outputs)
        close(entk(model, X, outputs=outputs), wanted, whole)
        for way in (True, False):  # both ways of each use, whatever is cheaper
            close(by_way(found, parts, outputs, way), wanted, whole)
        if outputs != "all" and found.uses:
            close(one_by_one(model, X, outputs), wanted, whole)


def by_way(found, parts, outputs, way):
    """Of three inputs, in blocks of one row and three columns."""
    blocks = Blocks(3, 3, 1, 3, upper=False)
    total = start(found, outputs, blocks)
    for step in steps(found, found.pieces(range(len(found.leaves))), 3, 3, outputs, prefer=way):
        total = add(total, step, found, parts, parts, outputs, blocks)
    each = [np.moveaxis(block, 0, 2) if outputs == "diagonal" else block for block in np.asarray(total)]
    kernel = np.concatenate(each)
    return kernel / found.outputs if outputs == "trace" else kernel


def one_by_one(model, X, outputs):
    """One output after the other, in blocks of two inputs, the upper ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PLAN, "_cheapest", lambda *args: PLAN._largest(*args, one_output=True))
        patch.setattr(BLOCKS, "_ENTRIES", 2)
        assert entk_plan(model, X, outputs=outputs, algorithm="structured").chosen.one_output
        return entk(model, X, outputs=outputs, algorithm="structured")


@pytest.mark.slow
@pytest.mark.parametrize("name", TORCH)
def test_modules_of_torch_agree_with_the_dense_jacobian(name):
    case = TORCH[name]()
    model = adapt(case.model, case.X, dtype="float64", **case.options)
    X = np.asarray(case.X)
    close(entk(model, X, algorithm="structured"), dense(model, X))


@pytest.mark.parametrize("name", ["dense", "gru_under_scan", "stacked_layers_under_scan", "remat", "tied_weights"])
def test_products_of_weights_need_no_jacobian(name):
    """Matrices are perturbed where they are used, in loops too; only biases are direct."""
    model, X = ZOO[name]()
    found = structure(model, jax.eval_shape(lambda: jnp.asarray(X)[0]))
    assert all(len(found.leaves[at].shape) == 1 for at in found.direct)
    assert {use.origin.leaf for use in found.uses} == {
        at for at, leaf in enumerate(found.leaves) if len(leaf.shape) > 1
    }


def test_without_the_names_of_jax_every_parameter_is_direct(monkeypatch):
    model, X = ZOO["dense"]()
    monkeypatch.setattr(FACTORS, "_graph", None)
    monkeypatch.setattr(FACTORS, "_seen", {})
    found = structure(model, jax.eval_shape(lambda: jnp.asarray(X)[0]))
    assert len(found.direct) == len(found.leaves)
    close(entk(model, X), dense(model, X))


MODEL = sample(MLP(width=5, depth=2, activation="tanh", bias_variance=0.5).network(outputs=3), jax.random.key(0), 4)
X = np.random.default_rng(0).normal(size=(7, 4))


@pytest.mark.parametrize("outputs", OUTPUTS)
@pytest.mark.parametrize("Y", [None, X[2:5] + 0.5])
@pytest.mark.parametrize("algorithm", ["structured", "jacobian"])
def test_blocks_make_the_whole(outputs, Y, algorithm, monkeypatch):
    """Seven inputs in blocks of two or less, of which the last is filled up."""
    whole = entk(MODEL, X, Y, outputs=outputs)
    monkeypatch.setattr(BLOCKS, "_ENTRIES", 6 if outputs == "all" else 2)
    close(entk(MODEL, X, Y, outputs=outputs, algorithm=algorithm), whole)


@pytest.mark.parametrize("outputs", OUTPUTS)
@pytest.mark.parametrize("Y", [None, X[2:5] + 0.5])
def test_tiles_make_the_whole(outputs, Y, monkeypatch):
    """Seven inputs in tiles of three: none fits evenly."""
    ntk, told = sys.modules["widthwise.operators.empirical.ntk"], []
    whole = entk(MODEL, X, Y, outputs=outputs)
    planned = ntk.planned
    monkeypatch.setattr(ntk, "planned", lambda *args: small(planned(*args), 3))
    found = entk(MODEL, X, Y, outputs=outputs, progress=lambda *now: told.append(now))
    close(found, whole)
    assert told[-1] == ((6, 6) if Y is None else (3, 3))
    if Y is None:
        flat = (
            found.reshape(21, 21) if outputs == "all" else np.moveaxis(found, 2, 0) if outputs == "diagonal" else found
        )
        assert np.array_equal(flat, np.swapaxes(flat, -1, -2))


def small(plan, side):
    return replace(plan, costs=(replace(plan.chosen, side=side),))


def test_parts_by_parameter_add_up_and_have_names():
    whole, parts = entk(MODEL, X), entk(MODEL, X, by="parameter")
    close(sum(parts.values()), whole)
    assert len(parts) == len(parameters(MODEL)[0])
    halves = entk(MODEL, X, by=lambda name: "biases" if "bias" in name else "weights", outputs="trace")
    assert [*halves] == ["weights", "biases"] or [*halves] == ["biases", "weights"]
    close(sum(halves.values()), np.einsum("ikjk->ij", whole) / 3)


def test_a_folder_holds_the_matrix_and_is_continued(tmp_path):
    whole = entk(MODEL, X)
    found = entk(MODEL, X, out=tmp_path / "kernel")
    assert isinstance(found, np.memmap)
    close(found.reshape(7, 3, 7, 3), whole)
    moved = jax.tree.map(lambda leaf: leaf + 1e-9, MODEL)
    with pytest.raises(ValueError, match=r"begun for another matrix: .*parameters"):
        entk(moved, X, out=tmp_path / "kernel")
    traces = entk(MODEL, X, out=tmp_path / "traces", outputs="trace")
    close(traces, np.einsum("ikjk->ij", whole) / 3)


def test_it_can_be_traced_mapped_and_differentiated():
    whole = dense(MODEL, X, "trace")
    close(jax.jit(lambda X: empirical_kernel(MODEL, X, outputs="trace"))(jnp.asarray(X)), whole)
    two = jax.vmap(lambda shift: empirical_kernel(MODEL, jnp.asarray(X) + shift, outputs="trace"))(jnp.arange(2.0))
    close(two[1], dense(MODEL, X + 1.0, "trace"))
    slope = jax.grad(lambda s: jnp.sum(empirical_kernel(MODEL, jnp.asarray(X) * s, outputs="trace")))(1.0)
    step = 1e-5
    secant = (dense(MODEL, X * (1 + step), "trace").sum() - dense(MODEL, X * (1 - step), "trace").sum()) / (2 * step)
    assert float(slope) == pytest.approx(secant, rel=1e-7)


def test_a_plan_tells_what_each_algorithm_costs():
    plan = entk_plan(MODEL, X, memory="1GB")
    assert {cost.algorithm for cost in plan.costs} == {"structured", "jacobian", "products"}
    assert all(cost.operations > 0 and cost.memory <= 1e9 and cost.seconds > 0 for cost in plan.costs)
    assert plan.chosen.seconds == min(cost.seconds for cost in plan.costs)
    assert "limit 1 GB; chosen: structured" in str(plan)
    assert repr(plan).startswith("Plan(structured of ")
    tight = entk_plan(MODEL, X, memory=plan.chosen.memory * 0.7, algorithm="structured")
    assert tight.chosen.side < plan.chosen.side and tight.chosen.memory <= plan.chosen.memory * 0.7


def test_blocks_of_classes():
    labels = np.array([0, 2, 2, 0, 1, 2, 0])
    whole, blocks = dense(MODEL, X), entk(MODEL, X, outputs="per-class", labels=labels)
    assert [*blocks] == [0, 1, 2]
    for one, block in blocks.items():
        own = labels == one
        close(block, whole[own][:, one][:, own][:, :, one], whole)
    across = entk(MODEL, X, X[:3], outputs="per-class", labels=(labels, labels[:3]))
    assert across[2].shape == (3, 2) and [*across] == [0, 2]
    close(across[2], blocks[2][:, :2], whole)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"outputs": "per-class"}, r"per-class.*Give labels=y"),
        ({"outputs": "per-class", "labels": np.arange(7)}, r"the label 3 .4 of 7 are wrong.*Number the classes"),
        ({"outputs": "per-class", "labels": np.ones(7)}, r"the label 1.0 .*Give y.astype"),
        ({"outputs": "al"}, r"outputs='al' \(did you mean 'all'\?\)|outputs='al'.*Known are all"),
        ({"algorithm": "fast"}, r"algorithm='fast'.*Known are auto, structured"),
        ({"by": "layer"}, r"by='layer'.*by='parameter'"),
        ({"by": "parameter", "algorithm": "products"}, r"in parts.*structured"),
        ({"memory": "8 apples"}, r"memory='8 apples'.*positive number of bytes.*'4GB'"),
        ({"memory": 0}, r"memory=0"),
        ({"memory": 0.5}, r"memory=0.5.*no share.*half of what is free"),
        ({"memory": "1kB"}, r"A limit of 1 kB for 7 x 7 inputs with 3 outputs\. At least .* are needed.*out='kernel'"),
        ({"Y": X[:, :2]}, r"shape \(4,\) and Y with inputs of shape \(2,\)"),
        ({"X": X[:0]}, r"X of shape \(0, 4\)"),
        ({"X": X * np.nan}, r"X with NaN or infinity"),
    ],
)
def test_bad_requests_say_what_is_allowed(words, message):
    with pytest.raises(ValueError, match=message):
        inspect.unwrap(entk)(MODEL, **({"X": X} | words))


def test_a_parameter_that_is_frozen_by_its_scale_adds_nothing():
    def f(params, x):
        frozen = jax.lax.stop_gradient(params["w"]) + 0.5 * (params["w"] - jax.lax.stop_gradient(params["w"]))
        return (2.0 * frozen.T / 4.0) @ x + jax.lax.stop_gradient(params["v"]) @ x

    rng = np.random.default_rng(1)
    model = jax.tree_util.Partial(
        f, {"w": jnp.asarray(rng.normal(size=(4, 3))), "v": jnp.asarray(rng.normal(size=(3, 4)))}
    )
    close(entk(model, X, algorithm="structured"), dense(model, X))
    close(dense(model, X), np.einsum("ij,kl->ikjl", X @ X.T / 16, np.eye(3)))
