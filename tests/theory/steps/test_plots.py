"""What is drawn of paths, schedules and layers shows the numbers of the results."""

import jax
import jax.numpy as jnp
import numpy as np

from widthwise.networks import MLP
from widthwise.report import plot
from widthwise.theory.steps import check_schedule, layer_rates, trained_by_steps

MODEL = jax.tree_util.Partial(lambda w, x: w @ x, jnp.zeros((1, 2)))
FOUND = trained_by_steps(MODEL, 2.0 * jnp.eye(2), jnp.array([1.0, 3.0]), steps=5, rate=0.1, batch=1)


def test_a_path_and_the_run_beside_it():
    drawn = plot(FOUND.path().against(2.0 * FOUND.path().loss))
    assert [line.name for line in drawn.data][:1] == ["loss of a run"]
    np.testing.assert_allclose(plot(FOUND).data[0].y, FOUND.path().loss)


def test_a_schedule_and_the_layers():
    found = check_schedule(lambda step: 1.0 / (step + 1), [0.5, 1.0], 1.0, steps=128)
    assert {line.name for line in plot(found).data} >= {"curvature 0.5", "curvature 1", "rate"}
    rates = layer_rates(MLP(8, 2, "relu").network(), [[1.0, 1.0]])
    np.testing.assert_allclose(plot(rates).data[0].y, [layer.weight_share for layer in rates.layers])
