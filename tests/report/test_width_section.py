"""The section on width: what it says hangs on what was measured, and on what theory says of it."""

import math
from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from widthwise.data import load, split, standardise
from widthwise.networks import MLP, sample
from widthwise.report import widening
from widthwise.report.context import Context, Settings
from widthwise.report.markup import plain_text
from widthwise.report.sections import initialisation, summary, width
from widthwise.report.widening import predicted, start, widened
from widthwise.theory.parameterisations import Slope, parameterisation, width_check


def context(spec=None, **settings):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 4))
    dataset = load((X, np.sin(X[:, 0]) + X[:, 1]))
    ready = standardise(*split(dataset, 0.3, 0))
    settings = {"quick": True, "learning_rate": 0.1} | settings
    return Context(dataset, ready, spec or MLP(width=16, depth=1), Settings(**settings))


def said(section) -> str:
    return " ".join(plain_text(text) for text in (section.lead, *section.paragraphs, *section.notes))


@pytest.fixture(scope="module")
def kernel():
    made = context()
    return made, made.once(widened)


@pytest.fixture
def told(kernel):
    """What the section says of the kernel regime's network, had something else been seen."""
    _, seen = kernel

    def section(**changes):
        changed = context()
        changed._once[widened] = replace(seen, **changes)
        return width.section(changed)

    return section


def test_features_of_the_ntk_parameterisation_stand_still(kernel):
    made, seen = kernel
    assert seen.regime == "kernel"
    (features, outputs), (before, after) = seen.moved, (-0.5, 0.0)
    assert abs(features.value - before) < max(0.15, 2 * features.half)
    assert abs(outputs.value - after) < max(0.15, 2 * outputs.half)
    section = width.section(made)
    assert "features stand still" in plain_text(section.lead)
    assert "where theory says −1/2 and 0" in plain_text(section.lead)
    assert "no mistake" in said(section)
    (figure,) = section.figures
    assert [series.role for series in figure.series] == ["measured", "predicted"] * 2


def test_another_parameterisation_changes_the_verdict():
    made = context(MLP(width=16, depth=1, parameterisation="standard"), learning_rate=0.002)
    section = width.section(made)
    assert made.once(widened).regime == "unstable"
    assert "parameterisation=standard" in str(made.spec)
    assert initialisation.section(made).figures
    assert "cannot keep its learning rate" in plain_text(section.lead)
    made.finished["width"] = section
    advice = " ".join(plain_text(text) for text in summary.section(made).paragraphs)
    assert "Before this network is made wider, lower the learning rate" in advice


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (
            {"predicted": predicted(MLP(depth=1, parameterisation="standard"), "gd")},
            "What was measured is another case",
        ),
        ({"predicted": parameterisation("mup").predict(1)}, "features stand still in the limit"),
    ],
)
def test_a_wrong_prediction_leaves_no_verdict(told, changes, why):
    section = told(**changes)
    assert "cannot be told" in plain_text(section.lead)
    assert why in said(section)
    assert "no mistake" not in said(section)
    assert len(section.tables) == 1  # nobody is blamed


@pytest.mark.parametrize(
    ("slope", "why"),
    [
        (Slope(-0.5, 0.3), "(1 of 2 here)"),
        (Slope(math.nan, math.inf), "(1 of 2 here)"),
        (Slope(-math.inf, 0.0), "1 did not move at all"),
        (Slope(0.0, 0.1), "What was measured is another case"),
    ],
)
def test_what_cannot_be_told_is_said(kernel, told, slope, why):
    found = kernel[1].found
    section = told(found=replace(found, readings=tuple(replace(one, change=slope) for one in found.readings)))
    assert "cannot be told" in plain_text(section.lead)
    assert why in said(section)
    assert all(number.value is not None or number.reason for number in section.all_numbers())


@pytest.mark.slow
def test_a_rate_at_which_everything_diverges_is_said():
    made = context(learning_rate=1e200)
    section = width.section(made)
    assert "was not measured: a loss that is not finite after one step" in plain_text(section.lead)
    assert not section.figures
    assert not section.tables


def test_networks_of_many_layers_are_left_out():
    section = width.section(context(MLP(width=8, depth=17)))
    assert "17 hidden layers" in plain_text(section.lead)


@pytest.mark.parametrize("name", ["ntk", "standard"])
def test_weights_are_drawn_as_sample_draws_them(name):
    made = context(MLP(width=16, depth=1, weight_variance=3.0, bias_variance=0.5, parameterisation=name))
    with jax.enable_x64(True):
        drawn = start(made, 200, 0)
        like = sample(made.spec.at_width(200).network(1), made.key("model"), made.inputs)
    assert jax.tree.structure(drawn) == jax.tree.structure(like)  # with the multipliers
    for own, other in zip(jax.tree.leaves(drawn), jax.tree.leaves(like), strict=True):
        assert own.shape == other.shape
        assert own.dtype == other.dtype
        assert abs(np.log(own.std() / other.std())) < 5 / math.sqrt(own.size)
    assert not jnp.array_equal(drawn.pieces[0].weight, start(made, 200, 1).pieces[0].weight)


@pytest.mark.slow
def test_what_the_table_says_makes_features_move_at_every_width(kernel, told):
    """The readout's initial values times n^(-1/2) and the rate of layer 1 times n, n the width over the narrowest."""
    made, seen = kernel
    changes = [row[-1] for row in width.section(made).tables[1].rows]
    assert changes == ["multiply its initial values by n^(−1/2)", "multiply its learning rate by n"]
    base = seen.widths[0]

    def repaired(n, seed):
        network = start(made, n, seed)
        return eqx.tree_at(lambda f: f.pieces[-1].weight, network, replace_fn=lambda w: w * (n / base) ** -0.5)

    def optimizer(n):
        rates = {"first": optax.sgd(0.1 * n / base), "last": optax.sgd(0.1)}
        return optax.multi_transform(rates, lambda leaves: jax.tree.unflatten(jax.tree.structure(leaves), [*rates]))

    data = made.X_train, made.T_train
    with jax.enable_x64(True):
        found = width_check(
            repaired, optimizer, data, widths=seen.widths, seeds=8, steps=2, loss=widening._risk, centred=True
        )
    section = told(found=found, predicted=parameterisation("mup").predict(1))
    assert found.verdict == "PASS"
    assert "keeps learning features" in plain_text(section.lead)
