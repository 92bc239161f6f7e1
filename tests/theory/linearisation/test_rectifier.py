"""The worst case of a shallow rectifier network: against trying all sets, its witness, and bad input."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from widthwise.activations import activation
from widthwise.theory.infinite_width import worst_rectifier_error
from widthwise.theory.lazy import Shallow
from widthwise.theory.lazy.maps import ShallowMap
from widthwise.theory.linearisation import departure, rectifier_worst_case

RNG = np.random.default_rng(0)


def network(name="relu", width=10, dim=3, signs=None, scale=0.3):
    a = RNG.choice([-1.0, 1.0], size=width) if signs is None else signs
    return Shallow(jnp.asarray(RNG.normal(size=(width, dim))), jnp.asarray(a), activation(name), scale)


def by_trying_all(net, x, radius, jump):
    """The best over all sets of neurons of one sign, each moved in proportion to its weight."""
    c, near = jump * net.scale * np.abs(np.asarray(net.signs)), np.abs(np.asarray(net.W) @ x)
    best = 0.0
    for sign in (1.0, -1.0):
        own = np.flatnonzero(np.sign(np.asarray(net.signs)) == sign)
        for count in range(1, len(own) + 1):
            for chosen in itertools.combinations(own, count):
                part = np.array(chosen)
                value = radius * np.linalg.norm(x) * np.linalg.norm(c[part]) - c[part] @ near[part]
                best = max(best, float(value))
    return best


@pytest.mark.parametrize(("name", "jump"), [("relu", 1.0), ("leaky_relu", 0.99), ("abs", 2.0)])
@pytest.mark.parametrize("radius", [0.1, 1.3, 20.0])
def test_equal_weights_are_exact(name, jump, radius):
    net, x = network(name), RNG.normal(size=3)
    worst = rectifier_worst_case(net, x, radius)
    jump = {"leaky_relu": 1.0 - float(net.activation(jnp.array(-1.0)) / -1.0)}.get(name, jump)
    assert worst.exact
    assert worst.low == pytest.approx(by_trying_all(net, x, radius, jump), rel=1e-13, abs=1e-15)


@pytest.mark.parametrize("radius", [0.1, 1.3, 20.0])
def test_unequal_weights_are_bracketed(radius):
    for _ in range(10):
        net, x = network(signs=RNG.normal(size=10)), RNG.normal(size=3)
        worst, best = rectifier_worst_case(net, x, radius), by_trying_all(net, x, radius, 1.0)
        assert worst.low <= best * (1 + 1e-13)
        assert best <= worst.high * (1 + 1e-13)
        assert worst.high <= 1.2 * worst.low or worst.low < 0.05


@pytest.mark.parametrize("signs", [None, RNG.normal(size=10)])
def test_the_displacement_attains_the_lower_end(signs):
    for radius in (0.05, 1.0, 7.0):
        net, x = network(signs=signs), RNG.normal(size=3)
        worst = rectifier_worst_case(net, x, radius)
        f = ShallowMap(net, jnp.asarray(x[None, :]))
        found = abs(departure(f, np.asarray(net.W).ravel(), worst.displacement.ravel())[0])
        assert found == pytest.approx(worst.low, rel=1e-12, abs=1e-14)
        assert np.linalg.norm(worst.displacement) <= radius * (1 + 1e-14)


def test_it_is_the_worst_case_of_unit_inputs():
    net = network(width=200, scale=200**-0.5)
    x = np.eye(3)[0]
    known = worst_rectifier_error(np.asarray(net.W)[:, 0], np.asarray(net.signs), 1.5)
    assert rectifier_worst_case(net, x, 1.5).low == pytest.approx(known, rel=1e-13)


@pytest.mark.slow
def test_the_widest_network_of_the_reference():
    """A mean of 20 draws at 10^6 neurons is printed as 0.04396, scaled 0.4396; it varies by about one per mille."""
    signs, found = np.where(np.arange(10**6) < 5 * 10**5, 1.0, -1.0), []
    for _ in range(20):
        found.append(worst_rectifier_error(RNG.normal(size=10**6), signs, 1.0))
    assert abs(np.mean(found) - 0.04396) < 5 * np.sqrt(2) * np.std(found, ddof=1) / np.sqrt(20) + 0.5e-5


def test_nothing_to_move_or_nothing_to_read():
    net = network()
    assert rectifier_worst_case(net, np.zeros(3), 1.0)[:2] == (0.0, 0.0)
    assert rectifier_worst_case(net, np.ones(3), 0.0)[:2] == (0.0, 0.0)
    silent = network(signs=np.zeros(10))
    assert rectifier_worst_case(silent, np.ones(3), 1.0)[:2] == (0.0, 0.0)
    at_kink = Shallow(jnp.zeros((4, 2)), jnp.asarray([1.0, 1.0, 2.0, -1.0]), activation("relu"))
    worst = rectifier_worst_case(at_kink, np.array([1.0, 0.0]), 1.0)
    assert worst.low == worst.high == pytest.approx(np.sqrt(6.0), rel=1e-14)


@pytest.mark.parametrize(
    ("name", "x", "radius", "words"),
    [
        ("tanh", np.ones(3), 1.0, r"the activation tanh\. The exact worst case is known for rectifiers.*Use advers"),
        ("elu", np.ones(3), 1.0, r"the activation elu\."),
        ("relu", np.ones(2), 1.0, r"an input of shape \(2,\)\. It is one finite vector \(3,\)"),
        ("relu", np.array([1.0, np.nan, 0.0]), 1.0, r"It is one finite vector"),
        ("relu", np.ones(3), -1.0, r"radius=-1\.0\. The radius of a ball"),
        ("relu", np.ones(3), float("nan"), r"radius=nan\."),
    ],
)
def test_what_is_refused(name, x, radius, words):
    with pytest.raises(ValueError, match=words):
        rectifier_worst_case(network(name), x, radius)


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "abs"])
def test_neurons_on_their_kink_move_to_the_side_that_jax_does_not_see(name):
    net = Shallow(jnp.asarray([[0.0], [0.0], [0.3], [-0.2]]), jnp.asarray([1.0, 1.0, 1.0, 1.0]), activation(name), 0.5)
    x = np.array([1.5])
    for radius in (0.01, 2.0):
        worst = rectifier_worst_case(net, x, radius)
        off = departure(ShallowMap(net, jnp.asarray(x[None])), np.asarray(net.W).ravel(), worst.displacement.ravel())
        assert abs(off[0]) == pytest.approx(worst.low, rel=1e-12)
        assert 0 < worst.low <= worst.high
