"""How wide a network must be: theorems against their formulas and against samples, the measured width, bad input."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from widthwise.activations import Activation, activation
from widthwise.theory.lazy import follow, lazy_width, shallow_problem
from widthwise.theory.overparameterisation import (
    INITS,
    Family,
    MeasuredWidth,
    laziness,
    measured_width,
    theorem_widths,
    width_needed,
)
from widthwise.theory.overparameterisation.families import singular
from widthwise.theory.overparameterisation.measured import _crossing, _padded, told
from widthwise.theory.overparameterisation.runs import look

ERF, TANH = activation("erf"), activation("tanh")
SLOPE2 = 4 / np.pi / np.sqrt(5)  # E erf'(z)^2
RNG = np.random.default_rng(0)
X = RNG.normal(size=(4, 3)) / np.sqrt(3)
Y = np.array([0.5, -0.5, 0.2, 0.1])


def by_id(found):
    return {one.claim_id: one.width for one in found}


def test_the_widths_on_orthogonal_inputs_are_their_formulas():
    y = np.array([0.5, -0.5, 0.2])
    found = by_id(theorem_widths(Family(ERF), np.eye(3), y))
    beta, size = ERF.curvature_bound, np.linalg.norm(y)
    ball = 4 * (beta * size / SLOPE2) ** 2
    assert found["LAZY-C1"] == pytest.approx(ball, rel=1e-6)
    assert found["LAZY-27"] == pytest.approx(4 * ball, rel=1e-6)
    # The condition number is 1, and the Frobenius bound is larger by the root of n = 3.
    assert found["LAZY-22"] == pytest.approx(144 * 3 * ball, rel=1e-6)
    assert found["LAZY-42"] == pytest.approx(
        128 * 3**4 * (4 / np.pi) ** 2 * beta**2 * (size**2 / 6) / SLOPE2**4, rel=1e-6
    )


def test_the_widths_without_targets_are_those_of_the_case_study():
    found = by_id(theorem_widths(Family(ERF, "signs"), X, np.zeros(4)))
    assert found["LAZY-C1"] == pytest.approx(lazy_width(X, ERF), rel=1e-8)
    assert found["LAZY-22"] == pytest.approx(lazy_width(X, ERF, "frobenius", "printed"), rel=1e-8)


def test_sampled_networks_need_about_the_width_of_the_limit():
    y = np.array([0.5, -0.5, 0.2])
    found = {one.claim_id: one for one in theorem_widths(Family(ERF), np.eye(3), 40 * y, 3, 2**15)}
    ball = found["LAZY-C1"]
    # Fluctuations of the kernel are of the order of its root width; the grid adds half a step.
    assert ball.sampled.value == pytest.approx(ball.width, rel=5 / np.sqrt(ball.width) * 2 + 0.1)
    assert found["LAZY-42"].sampled is None


@pytest.mark.parametrize("init", INITS)
def test_starts_are_those_of_the_drawn_networks(init):
    family = Family(ERF, init)
    for width, (K, outputs) in zip((6, 40), family.starts(3, X, (6, 40)), strict=True):
        seen = look(net := family.draw(3, width, 3), X, np.asarray(net.W))
        assert seen.gram == pytest.approx(K, abs=1e-13)
        assert seen.outputs == pytest.approx(outputs, abs=1e-13)


@pytest.mark.parametrize("init", INITS)
def test_the_limits_are_means_over_networks(init):
    family, count = Family(ERF, init), 400
    starts = [next(family.starts(seed, X, (20,))) for seed in range(count)]
    kernels, sizes = np.stack([K for K, _ in starts]), np.array([np.sum((f - Y) ** 2) for _, f in starts])
    sem = kernels.std(axis=0) / np.sqrt(count)
    assert np.all(np.abs(kernels.mean(axis=0) - family.limit(X)[0]) < 5 * sem)
    error = 5 * sizes.std() / np.sqrt(count) + 1e-12
    assert abs(sizes.mean() - family.mean_square_residual(X, Y)) < error


def test_no_theorem_speaks_of_kinks():
    found = width_needed(X, Y, "relu", measure=False)
    why = "the activation relu has a kink at 0, where the Jacobian or its derivative jumps"
    assert {one.reason for one in found.theorems} == {why}
    assert "not applicable, because the activation relu" in str(found)
    assert "no theorem applies" in repr(found)


@pytest.mark.parametrize(
    ("rows", "name", "words"),
    [
        ([[1.0, 0], [0, 1], [1, 0]], "erf", "inputs 0 and 2 are equal"),
        ([[1.0, 0], [0, 1], [0, -1]], "erf", "inputs 1 and 2 are opposite"),
        ([[1.0, 0], [0, 0]], "erf", "input 1 is zero"),
        ([[1.0, 0], [0, 1], [1, 1]], "identity", "1 of its 3 directions are lost"),
        ([[1.0, 0], [0, 1], [2, 0]], "identity", "inputs 0 and 2 are parallel"),
    ],
)
def test_a_singular_limit_names_what_is_to_blame(rows, name, words):
    found = width_needed(rows, np.ones(len(rows)), name, measure=False)
    assert all(words in one.reason for one in found.theorems)
    assert found.lambda0 == 0.0


@pytest.mark.slow
def test_opposite_inputs_do_no_harm_to_shifted_slopes():
    shifted = Activation("shifted", lambda z: jnp.tanh(z + 0.5), slope_bound=1.0, curvature_bound=1.0)
    assert width_needed([[1.0, 0], [-1, 0]], [1.0, 2.0], shifted, measure=False).theorem("LAZY-C1").applies


def test_a_linear_network_is_lazy_at_any_width():
    found = width_needed(np.eye(2), np.ones(2), "identity", measure=False)
    assert found.theorem("LAZY-C1").width == 0.0
    assert "any" in str(found)


def test_random_outputs_leave_the_spectral_certificate_without_a_limit():
    found = width_needed(X, Y, "erf", "signs", measure=False)
    assert "mirrored" in found.theorem("LAZY-C2").reason
    assert found.theorem("LAZY-C1").width > width_needed(X, Y, "erf", measure=False).theorem("LAZY-C1").width


def test_a_crossing_is_exact_for_a_power_law():
    widths = np.array([16.0, 64.0, 256.0])
    assert _crossing(widths, 3.0 / np.sqrt(widths), 0.3) == pytest.approx(100.0)
    assert _crossing(widths, 3.0 / np.sqrt(widths), 0.01) == np.inf
    assert _crossing(widths, 3.0 / np.sqrt(widths), 1.0) == 0.0


def test_a_measured_width_says_where_it_lies():
    widths, law = np.array([16.0, 64.0, 256.0]), np.array([[2.0, 3.0]]) / np.sqrt([[16.0], [64.0], [256.0]])
    seen = MeasuredWidth("kernel", 0.3, widths, law)
    assert seen.per_seed == pytest.approx([400 / 9, 100.0])
    assert told(seen) == "72 ± 28"
    assert told(MeasuredWidth("kernel", 0.15, widths, law)) == "> 256"
    assert told(MeasuredWidth("kernel", 10.0, widths, law)) == "< 16"


@pytest.mark.slow
def test_laziness_agrees_with_the_followed_flow():
    net, y = Family(ERF).draw(0, 64, 3), 2 * Y
    seen, flow = laziness(net, X, y), follow(problem := shallow_problem(net, X, y))
    # The flow is looked at 59 times there, to a later end, and 7 times here; both ends are near the limit.
    assert seen["kernel"] == pytest.approx(flow.kernel_drift.max() / problem.tangency.sigma_max**2, rel=0.01)
    assert seen["departure"] == pytest.approx(flow.gap[-1] / flow.distance[-1], rel=0.01)


@pytest.mark.slow
def test_the_measured_width_is_where_fresh_networks_cross_the_threshold():
    calls = []
    found = measured_width(
        Family(ERF), X, 2 * Y, seeds=2, threshold=0.1, widest=256, progress=lambda *call: calls.append(call)
    )
    assert np.all((found.per_seed > found.widths.min()) & (found.per_seed < found.widths.max()))
    done = [one for one, _ in calls]
    assert done[:-1] == list(range(1, len(done)))
    assert calls[-1][0] == calls[-1][1] == found.values.size
    for seed, width in enumerate(found.per_seed):
        above, below = (
            laziness(_padded(Family(ERF).draw(seed, 2 * round(factor * width / 2), 3), 1024), X, 2 * Y)["kernel"]
            for factor in (0.5, 2.0)
        )
        assert below < 0.1 < above


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"X": [[1.0, np.nan]], "y": [1.0]}, r"X\[0, 1\] is nan"),
        ({"X": [[1.0]], "y": [np.inf]}, r"y\[0\] is inf"),
        ({"X": [1.0, 2.0], "y": [1.0, 2.0]}, "neither empty"),
        ({"X": np.zeros((0, 2)), "y": []}, "neither empty"),
        ({"X": np.eye(2), "y": np.eye(2)}, r"one, y\[:, 0\]"),
        ({"activation": "thanh"}, "did you mean 'tanh'"),
        ({"init": "mirror"}, "did you mean 'mirrored'"),
        ({"criterion": "kernels"}, "did you mean 'kernel'"),
        ({"threshold": 0.0}, "positive"),
        ({"threshold": np.nan}, "positive"),
        ({"seeds": 1}, "seeds is a whole number of at least 2"),
        ({"widest": 8}, "widest is a whole number of at least 16"),
        ({"y": ["cat", "dog"]}, "classes as -1 and 1"),
    ],
)
def test_what_cannot_be_asked_is_refused(given, words):
    with pytest.raises(ValueError, match=words):
        width_needed(**{"X": np.eye(2), "y": np.ones(2), "measure": False, **given})


def test_an_unknown_theorem_is_refused():
    with pytest.raises(ValueError, match="did you mean"):
        width_needed(np.eye(2), np.ones(2), "erf", measure=False).theorem("LAZY-C7")


@pytest.mark.parametrize("radius", [30.0, 300.0])
def test_a_limit_that_quadrature_misses_is_not_called_singular(radius):
    K, error = Family(TANH).limit(radius * np.eye(3))
    # E sech^4 is 2/3 over the width of the bump, for inputs so long.
    assert abs(K[0, 0] - radius * np.sqrt(2 / np.pi) * 2 / 3) < error
    found = width_needed(radius * np.eye(3), np.ones(3), measure=False).theorem("LAZY-C1")
    assert f"only for inputs of norm up to {radius:g}; scale the inputs" in found.reason


def test_orthogonal_inputs_are_not_blamed_for_each_other():
    why = singular(np.eye(3), np.zeros((3, 3)), 0.0)
    assert why is not None
    assert "3 of its 3 directions are lost" in why


def test_a_column_of_targets_is_taken():
    X, y = np.eye(2), np.array([1.0, -2.0])
    columns = width_needed(X, y[:, None], "erf", measure=False)
    assert columns.theorem("LAZY-C1").width == width_needed(X, y, "erf", measure=False).theorem("LAZY-C1").width


def test_the_measured_width_has_a_line_of_its_own():
    found = width_needed(np.eye(2), np.ones(2), "erf", "signs", measure=False)
    seen = MeasuredWidth("kernel", 0.3, np.array([16.0, 64.0]), np.array([[0.5, 0.6], [0.1, 0.1]]))
    lines = str(replace(found, measured=seen)).splitlines()
    assert any(line.startswith("measured on 2 seeds: ") for line in lines)
    spectral = next(line for line in lines if line.startswith("LAZY-C2"))
    assert spectral.split()[-3:] == ["n/a", "-", "-"]
