"""What a newcomer types to the instruments: texts for data, networks without weights, options that are mistyped."""

import inspect
import re

import equinox as eqx
import jax
import numpy as np
import optax
import pytest

import widthwise as ww
from widthwise.theory.linearisation import FlipMonitor, gap

X, Y = np.eye(3), np.array([0, 1, 2])
MODEL = eqx.nn.Linear(3, 3, key=jax.random.key(0))
MLP = ww.MLP(width=8)


def make_model(width, seed):
    return eqx.nn.MLP(3, 3, width, 1, key=jax.random.key(seed))


def typed(function):
    """A function as users have it: without the checks of types that the tests put around it."""
    return inspect.unwrap(function)


@pytest.mark.parametrize(
    ("name", "use"),
    [
        ("X", lambda: typed(ww.entk)(MODEL, "digits")),
        ("Y", lambda: typed(ww.entk)(MODEL, X, "digits")),
        ("X", lambda: typed(ww.jacobian)(MODEL, "digits")),
        ("X", lambda: typed(ww.ntk_spectrum)(MODEL, "digits")),
        ("X", lambda: typed(ww.kernel)(MLP.network(), "digits")),
        ("x", lambda: typed(ww.pair_kernel)(MLP.network(), "digits", X[0])),
        ("X", lambda: typed(ww.signal_report)(MODEL, "digits")),
        ("X", lambda: ww.KernelRecorder(MODEL, "digits")),
        ("X", lambda: typed(ww.mup)(make_model, "digits", width=16, base_width=8)),
        ("data", lambda: typed(ww.stable_rate)(MODEL, "digits")),
        ("data", lambda: typed(ww.lazy_or_rich)(MODEL, "digits")),
        ("data", lambda: typed(ww.width_check)(make_model, optax.sgd(0.1), "digits")),
        ("X", lambda: typed(ww.width_needed)("digits", Y)),
    ],
)
def test_the_name_of_a_data_set_is_no_array(name, use):
    with pytest.raises(ValueError, match=rf"{name}='digits', which is a text\. Arrays.*found = ww\.load\('digits'\)"):
        use()


@pytest.mark.parametrize("network", [MLP, MLP.network(), ww.Dense(size=3)], ids=["MLP", "Chain", "Dense"])
@pytest.mark.parametrize(
    "use",
    [
        lambda network: typed(ww.entk)(network, X),
        lambda network: typed(ww.linearize)(network),
        lambda network: typed(ww.stable_rate)(network, (X, Y)),
        lambda network: typed(ww.KernelRecorder)(network, X),
        lambda network: typed(ww.parameters)(network),
        lambda network: typed(ww.hessian)(network, X),
    ],
)
def test_the_description_of_a_network_has_no_weights(network, use):
    with pytest.raises(ValueError, match="description of a network without its weights") as refused:
        use(network)
    drawing = re.search(r"Draw one by (ww\.sample\(.*\))\.$", str(refused.value))
    assert drawing is not None
    drawn = eval(drawing[1], {"ww": ww, "jax": jax, "X": X, "mlp": network, "network": network})
    assert drawn(jax.numpy.asarray(X[0])).ndim == 1


@pytest.mark.parametrize(
    ("use", "said"),
    [
        (lambda: ww.KernelRecorder(MODEL, X, evry=3), "KernelRecorder(evry=...) (did you mean 'every'?)"),
        (lambda: ww.StabilityMonitor(MODEL, (X, X), rte=3), "StabilityMonitor(rte=...) (did you mean 'rate'?)"),
        (lambda: ww.stable_rate(MODEL, (X, X), optimiser=3), "stable_rate(optimiser=...) (did you mean 'optimizer'?)"),
        (lambda: ww.lazy_or_rich(MODEL, (X, X), draw=3), "lazy_or_rich(draw=...) (did you mean 'draws'?)"),
        (lambda: ww.signal_report(MODEL, X, draw=3), "signal_report(draw=...) (did you mean 'draws'?)"),
        (lambda: ww.CertificateMonitor(MODEL, X, X, losss=3), "CertificateMonitor(losss=...) (did you mean 'loss'?)"),
        (lambda: ww.trained_by_steps(MODEL, X, X, steps=1, rate=0.1, momentm=0.9), "trained_by_steps(momentm=...)"),
        (lambda: gap(MODEL, X, radius=1.0, sample=3), "gap(sample=...) (did you mean 'samples'?)"),
        (lambda: FlipMonitor(MODEL, X, param=3), "FlipMonitor(param=...) (did you mean 'params'?)"),
    ],
)
def test_a_mistyped_option_is_named_with_what_was_called(use, said):
    with pytest.raises(ValueError, match=rf"{re.escape(said)}.*The options are .*params, output, batched, call"):
        use()


def test_an_optimiser_in_the_place_of_the_loss():
    with pytest.raises(ValueError, match="an optimiser by optimizer="):
        typed(ww.stable_rate)(MODEL, (X, X), optax.sgd(0.1))
