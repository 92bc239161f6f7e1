"""The lazy-to-rich transition: reference numbers, areas, and what is refused."""

import jax.numpy as jnp
import numpy as np
import pytest

from widthwise.activations import activation
from widthwise.report import plot
from widthwise.theory.lazy import Shallow, certify, certify_spectrum, follow, limit_gram, shallow_problem
from widthwise.theory.lazy.examples import extremal, quadratic_problem
from widthwise.theory.regimes import AREAS, lazy_phase_diagram
from widthwise.theory.regimes.diagram import _crossing
from widthwise.theory.regimes.flows import Task, departures
from widthwise.theory.regimes.sweep import certified, certified_from


def unit(rng, n, d=8):
    X = rng.normal(size=(n, d))
    return X / np.linalg.norm(X, axis=1, keepdims=True)


RNG = np.random.default_rng(3)
X, X_TEST = unit(RNG, 6), unit(RNG, 20)
Y = np.array([1.0, -1.0, 1.0, -1.0, 1.0, -1.0])
TANH = activation("tanh")


def drawn(width, seeds=5, pad=256):
    """Networks as the reference script drew them, padded by neurons that do nothing."""
    W, a = np.zeros((seeds, pad, 8)), np.zeros((seeds, pad))
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        W[seed, :width], a[seed, :width] = rng.normal(size=(width, 8)), rng.choice([-1.0, 1.0], size=width)
    return jnp.asarray(W), jnp.asarray(a)


def measured(width, power, pad=256):
    """Root mean squares over five networks with alpha = width^power, trained to a thousandth of the risk."""
    W, a = drawn(width, pad=pad)
    task = Task(*map(jnp.asarray, (X, Y, X_TEST, 1e-3, 1000.0)))
    seen = departures(task, W, a / width, jnp.asarray(float(width) ** power), jnp.asarray(0.0), TANH)
    return {name: float(np.sqrt(np.mean(np.asarray(one) ** 2))) for name, one in seen._asdict().items()}


@pytest.mark.parametrize(("width", "movement", "predicted"), [(64, 0.2158, 0.2207), (256, 0.1132, 0.1167)])
def test_the_movement_of_wide_networks_is_the_published_and_the_predicted_one(width, movement, predicted):
    assert measured(width, 0.5)["movement"] == pytest.approx(movement, abs=5e-5)
    W, a = drawn(width, pad=width)
    inverse = np.linalg.inv(limit_gram(X, TANH).value)
    r0 = np.einsum("rm,rnm->rn", np.asarray(a) / np.sqrt(width), np.tanh(np.einsum("rmd,nd->rnm", W, X))) - Y
    squares = np.einsum("rn,nk,rk->r", r0, inverse, r0) / (8 * width)
    assert np.sqrt(np.mean(squares)) == pytest.approx(predicted, abs=5e-5)


def test_mean_field_networks_move_as_published():
    found = [measured(width, 0.0) for width in (64, 256)]
    for one in found:
        # 0.996 and 2.55 are means over widths of trainings that ended a little above the risk asked for.
        assert one["kernel"] == pytest.approx(0.996, abs=2e-3)
        assert one["movement"] == pytest.approx(2.55, abs=0.05)
    assert found[0]["movement"] == pytest.approx(found[1]["movement"], rel=0.02)


@pytest.mark.slow
def test_exponents_in_the_width_are_the_published_ones():
    """alpha = m^(1/2) and m^(1/4): slopes of a straight line over 64, 256, 1024, as the published ones are fitted."""
    widths = (64, 256, 1024, 4096)
    for power, expected in (
        (0.5, {"movement": -0.56, "kernel": -1.10, "difference": -1.11}),
        (0.25, {"movement": -0.28, "kernel": -0.51, "difference": -0.55}),
    ):
        rows = [measured(width, power, pad=width) for width in widths]
        for name, slope in expected.items():
            fitted = np.polyfit(np.log(widths), np.log([row[name] for row in rows]), 1)[0]
            assert fitted == pytest.approx(slope, abs=5e-3)


@pytest.mark.slow
def test_the_flow_agrees_with_an_integration_of_order_eight():
    """Distance, kernel change, gap and time of a network, against the flow of the certificates at the same risk."""
    W, a = drawn(64)
    net = Shallow(W[0, :64], a[0, :64], TANH, 1 / 8.0)
    problem = shallow_problem(net, X, Y, 2.0).centred()
    seen = follow(problem)
    at = 30
    task = Task(*map(jnp.asarray, (X, Y, X_TEST, float((seen.residual[at] ** 2) / 6.0), 1000.0)))
    found = departures(task, W[:1], a[:1] / 8.0, jnp.asarray(2.0), jnp.asarray(1.0), TANH)
    # Steps of 1e-8 of the way each, some hundred of them.
    start = problem.tangency
    assert float(found.movement[0]) * np.linalg.norm(problem.w0) == pytest.approx(seen.distance[at], rel=1e-5)
    assert float(found.kernel[0]) == pytest.approx(seen.kernel_drift[at] / start.sigma_max**2, rel=1e-5)
    assert float(found.gap[0]) == pytest.approx(seen.gap[at] / seen.distance[at], rel=1e-4)
    assert float(found.time[0]) == pytest.approx(seen.seconds[at], rel=1e-5)


@pytest.fixture(scope="module")
def found():
    told = []
    result = lazy_phase_diagram(
        X,
        Y,
        alphas=[0.125, 0.5, 2.0, 8.0],
        widths=[16, 64],
        label_scales=[1.0, 2.0],
        seeds=3,
        progress=lambda done, total: told.append((done, total)),
    )
    return result, told


def test_the_three_areas_stand_in_their_order(found):
    result, told = found
    assert told == [(at, 16) for at in range(1, 17)]
    assert result.areas.shape == (2, 4, 2)
    ranks = np.vectorize(AREAS.index)(result.along(result.areas))
    assert np.all(np.diff(ranks, axis=0) >= 0)
    assert set(result.areas.ravel()) == set(AREAS)
    assert np.all(result.lazy_from < result.certified_from)


def test_every_certified_network_is_measured_lazy(found):
    result, _ = found
    assert np.all(result.kernel[result.certified] < 0.1)
    assert np.all(result.trained[result.certified])


def test_the_diagram_depends_on_alpha_over_the_label_scale(found):
    result, _ = found
    assert result.ratios.tolist() == [0.0625, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0]
    again = lazy_phase_diagram(X, 2.0 * Y, [0.5], [16], seeds=3)
    np.testing.assert_allclose(again.kernel[0, 0, 0], result.kernel[1, 1, 0], rtol=1e-10)
    np.testing.assert_allclose(again.time[0, 0, 0], result.time[1, 1, 0], rtol=1e-10)
    np.testing.assert_allclose(again.h[0, 0, 0], result.h[1, 1, 0], rtol=1e-10)


def test_h_falls_as_one_over_alpha_and_says_where_the_certificate_begins(found):
    result, _ = found
    scaled = result.h[0] * result.alphas[:, None, None]
    np.testing.assert_allclose(scaled, np.broadcast_to(scaled[:1], scaled.shape), rtol=1e-9)
    edge = np.max(result.h[0, 0] * 0.125, axis=-1)
    np.testing.assert_allclose(result.certified_from, edge, rtol=1e-9)


def test_it_prints_a_map(found):
    text = str(found[0])
    assert "C certified lazy, M measured lazy, R rich" in text
    assert text.splitlines()[-1].startswith("certified")


@pytest.mark.parametrize("which", range(3))
def test_it_is_drawn(found, which):
    drawn_figure = plot(found[0], which=which)
    assert drawn_figure.data
    assert "var(--" not in drawn_figure.to_json()
    if which == 0:
        names = [line.name for line in drawn_figure.data if line.showlegend is not False]
        assert names == ["certified lazy (above)", "measured lazy (above)", "rich (below)"]


@pytest.mark.slow
def test_kinks_are_never_certified_and_outputs_that_start_elsewhere_stay_as_lazy_as_they_are():
    relu = lazy_phase_diagram(X, Y, [100.0], [64], activation="relu", seeds=2, patience=10.0)
    assert relu.trained.all()
    assert not relu.certified.any()
    assert np.all(np.isinf(relu.h))
    drawn_outputs = lazy_phase_diagram(X, Y, [1e2, 1e4], [64], start="drawn", seeds=2)
    np.testing.assert_allclose(drawn_outputs.h[0, 0], drawn_outputs.h[0, 1], rtol=0.2)
    np.testing.assert_allclose(drawn_outputs.kernel[0, 0], drawn_outputs.kernel[0, 1], rtol=0.2)


@pytest.mark.slow
def test_bounded_outputs_cannot_reach_large_targets():
    found = lazy_phase_diagram(X, Y, [1e-2], [16], seeds=2, patience=3.0)
    assert not found.trained.any()
    assert found.areas.tolist() == [[["rich"]]]
    assert np.isnan(found.lazy_from).all()


GOOD = {"X": X, "y": Y, "alphas": [1.0], "widths": [16]}
BAD = {
    "nan in X": ({"X": np.where(np.arange(48).reshape(6, 8) == 3, np.nan, X)}, r"X\[0, 3\] is nan"),
    "wrong y": ({"y": Y[:5]}, "one target for each row"),
    "empty": ({"X": np.zeros((0, 8)), "y": np.zeros(0)}, "none empty"),
    "zero targets": ({"y": 0.0 * Y}, "nothing to learn"),
    "contradiction": ({"X": X[[0, 0, 1, 2, 3, 4]]}, "equal inputs 0 and 1"),
    "no alphas": ({"alphas": []}, "one or more finite numbers"),
    "negative alpha": ({"alphas": [-1.0]}, "above 0"),
    "infinite scale": ({"label_scales": [np.inf]}, "above 0"),
    "fractional width": ({"widths": [16.5]}, "whole numbers"),
    "odd pairs": ({"widths": [17], "start": "mirrored"}, "Give 18"),
    "unknown start": ({"start": "centered"}, "centred"),
    "unknown quantity": ({"by": "kernels"}, "kernel"),
    "unknown parameterisation": ({"parameterisation": "ntk2"}, "ntk"),
    "risk": ({"risk": 1.0}, "between|part"),
    "seeds": ({"seeds": 0}, "whole number of at least 1"),
    "class names": ({"y": ["a"] * 6}, "classes as -1 and 1"),
    "columns": ({"y": np.stack([Y, Y], axis=1)}, r"y\[:, 0\]"),
    "words": ({"alphas": ["large"]}, "finite numbers above 0"),
    "patience": ({"patience": np.nan}, "above 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused(case):
    change, words = BAD[case]
    with pytest.raises(ValueError, match=words):
        lazy_phase_diagram(**{**GOOD, **change})


@pytest.mark.slow
def test_equal_inputs_with_equal_targets_are_trained_but_never_certified():
    rows = [0, 1, 2, 3, 4, 0]
    found = lazy_phase_diagram(X[rows], Y[rows], [100.0], [64], seeds=2)
    assert found.trained.all()
    assert not found.certified.any()


def test_a_change_of_nothing_crosses_at_the_grid_point():
    places = np.array([1.0, 4.0, 16.0])
    assert _crossing(places, np.array([0.5, 0.0, 0.0]), 0.1) == 4.0
    assert _crossing(places, np.array([1.0, 0.01, 0.0]), 0.1) == pytest.approx(2.0)


def test_the_certificate_without_a_search_counts_the_rounding_of_the_jacobian():
    """A third singular value as small as rounding, and targets that it does not see."""
    B = np.zeros((3, 7, 7))
    B[0, 0, 0] = -1e-3
    for small in (1e-12, 3e-14):
        J = np.diag([1.0, 1.0, small]) @ np.eye(3, 7)
        for size in np.geomspace(1e-17, 1e-5, 7):
            problem = quadratic_problem(J, small * B, np.array([size, size, 0.0]))
            assert certified(problem) == (certify(problem).certified or certify_spectrum(problem).certified)


def test_networks_that_are_certified_on_windows_apart_have_no_common_alpha():
    above, between = extremal(y=3.0).moved(0.1 * np.eye(7)[0]), extremal(y=1.0).moved(0.5 * np.eye(7)[0])
    # |f0 - y/alpha| is at most sigma^2/2: alpha of at least 6, and in [2, 4].
    assert [certified_from([one], "drawn") for one in (above, between)] == pytest.approx([6.0, 2.0])
    assert certified_from([above, between], "drawn") == np.inf


def test_it_has_a_short_repr(found):
    assert repr(found[0]).startswith("LazyPhaseDiagram(tanh networks")
    assert len(repr(found[0])) < 160
