"""One step of gradient descent in function space, against numbers that were computed elsewhere."""

import jax
import jax.numpy as jnp
import numpy as np

from widthwise.claims import Status, check, find
from widthwise.networks import MLP
from widthwise.operators import entk
from widthwise.theory.lazy import cross_entropy_slopes, output_step
from widthwise.theory.lazy.influence import _case


def _fixture():
    """$f(x) = V\\tanh(Ux)$ with 3 inputs, 4 neurons and 3 outputs, all numbers given by sines and cosines."""
    i, j, c, k = np.arange(1, 5)[:, None], np.arange(1, 4), np.arange(1, 4)[:, None], np.arange(1, 5)
    params = {"U": jnp.asarray(np.sin(1.1 * i + 0.7 * j)), "V": jnp.asarray(np.cos(0.9 * c + 1.3 * k))}
    X = np.array([np.sin(0.5 * j + 2.0 * 1 + 0.31 * at) for at in (1, 2)])
    return (lambda params, x: params["V"] @ jnp.tanh(params["U"] @ x)), params, X


def test_kernel_and_first_order_step_of_a_known_network():
    net, params, X = _fixture()
    np.testing.assert_allclose(X[0], [0.325549334518, -0.167612440044, -0.619736843595], atol=1e-12)
    kernel = entk((net, params), X)
    expected = [1.429283381838, 0.652687424095, 0.085640204318, 1.671769584876, 0.551097596801, 1.302984883197]
    np.testing.assert_allclose(kernel[0, :, 0][np.triu_indices(3)], expected, atol=1e-11)
    slopes = cross_entropy_slopes(jnp.asarray([net(params, X[1])]), jnp.array([0]))
    change = output_step(jnp.asarray(kernel[:1, :, 1:]), slopes)[0]
    np.testing.assert_allclose(change, [1.092561431246, -0.098702655367, -0.725267584287], atol=1e-11)


def test_the_measured_step_is_the_one_that_was_measured_elsewhere():
    net, params, X = _fixture()
    gradient = jax.grad(lambda params: -jax.nn.log_softmax(net(params, X[1]))[0])(params)
    moved = jax.tree.map(lambda leaf, slope: leaf - 1e-5 * slope, params, gradient)
    change = (net(moved, X[0]) - net(params, X[0])) / 1e-5
    # Outputs of order 1 to 16 digits over a rate of 1e-5, and the nine digits that are known.
    np.testing.assert_allclose(change, [1.092559916, -0.098701446, -0.725266332], atol=2e-9)


def test_the_claim_does_not_apply_where_outputs_have_kinks():
    kinked = _case()
    kinked = type(kinked)(MLP(width=12, activation="relu"), kinked.X, kinked.classes, kinked.others)
    verdict = check(find("HESS-4"), kinked)
    assert verdict.status is Status.NOT_APPLICABLE and "relu" in str(verdict)
