"""The argument of Du and others: constants, reference numbers, stopping times, and bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from widthwise.activations import activation
from widthwise.claims import check
from widthwise.theory.lazy import Shallow, certify, shallow_problem
from widthwise.theory.overparameterisation import Run, record, sizes, stopping_times, sufficient_width
from widthwise.theory.overparameterisation.examples import (
    STEEPEST,
    lecture_case,
    lecture_run,
    mirrored_run,
    network,
    plateau,
    single,
)
from widthwise.theory.overparameterisation.runs import look
from widthwise.theory.overparameterisation.sphere_claims import CLAIMS as SPHERE_CLAIMS
from widthwise.theory.overparameterisation.sphere_claims import Sphere
from widthwise.theory.overparameterisation.stability import Sizes, sizes_of
from widthwise.theory.overparameterisation.stability_claims import CLAIMS
from widthwise.theory.overparameterisation.width_claims import CLAIMS as WIDTH_CLAIMS

# The experiment of LAZY-42 as published, with |a| bounded by 1.
UNIT = Sizes(6, 1.0, 1.0, 1.0, 1.0, 1.7019909)
CLAIM = {claim.id: claim for claim in (*CLAIMS, *WIDTH_CLAIMS)}
LAMBDA, LOSS = 0.0540368515, 0.2021738099


def start(width):
    net, X, y = lecture_case(width)
    return net, X, y, look(net, X, np.asarray(net.W))


def test_the_reference_experiment_starts_as_published():
    net, X, y, seen = start(4096)
    assert np.linalg.eigvalsh(seen.gram)[0] == pytest.approx(LAMBDA, abs=5e-11)
    assert 0.5 * np.mean((seen.outputs - y) ** 2) == pytest.approx(LOSS, abs=5e-11)
    assert sizes_of(net, X).squares == pytest.approx(1.7019909, abs=5e-8)


@pytest.mark.parametrize(
    ("condition", "published", "half_digit"),
    [("du", 3.93e9, 5e6), ("printed", 39881, 0.5), ("simple", 19941, 0.5)],
)
def test_the_published_widths(condition, published, half_digit):
    assert sufficient_width(condition, UNIT, LOSS, LAMBDA) == pytest.approx(published, abs=half_digit)


def test_the_published_width_for_the_data_takes_the_largest_weight_that_was_drawn():
    net, X, _, _ = start(4096)
    assert sufficient_width("data", sizes_of(net, X), LOSS, LAMBDA) == pytest.approx(5654, abs=0.5)


def test_the_lectures_radius_asks_for_four_times_the_width():
    """With lambda_0/(8n) for the allowed move: 512 for 128."""
    seen, width = UNIT, 1.57e10
    half = seen.allowed_move(LAMBDA) / 2
    assert seen.travel(LOSS, LAMBDA, 1) ** 2 / half**2 == pytest.approx(width, abs=5e7)


def test_twice_the_width_is_certified_as_published():
    net, X, y, seen = start(8192)
    problem = shallow_problem(net, X, y)
    lambda0, loss = np.linalg.eigvalsh(seen.gram)[0], 0.5 * np.mean((seen.outputs - y) ** 2)
    assert sufficient_width("data", sizes_of(net, X), loss, lambda0) == pytest.approx(7608, abs=0.5)
    assert sufficient_width("printed", UNIT, loss, lambda0) == pytest.approx(53659, abs=0.5)
    assert problem.h == pytest.approx(0.96367, abs=5e-6)
    certificate = certify(problem)
    assert certificate.certified
    assert float(certificate.demand().distance(np.inf)) == pytest.approx(12.919, abs=5e-4)


@pytest.mark.slow
def test_the_reference_run_moves_as_published():
    net, X, y, seen = start(4096)
    lambda0 = np.linalg.eigvalsh(seen.gram)[0]
    run = record(net, X, y, np.linspace(0.0, 36 / lambda0, 40), tolerance=1e-7)
    watched = stopping_times(run)
    assert watched.moves.max() == pytest.approx(0.326, abs=5e-4)
    assert watched.travel == pytest.approx(2.206, abs=5e-4)
    assert 0.9999 <= watched.least_eigenvalues.min() / lambda0 <= watched.least_eigenvalues.max() / lambda0 <= 1.0031
    changes = [np.linalg.norm(K - run.grams[0], 2) for K in run.grams]
    assert max(changes) == pytest.approx(9.7e-4, abs=5e-6)


@pytest.mark.slow
def test_the_certified_run_moves_as_published():
    net, X, y, seen = start(8192)
    run = record(net, X, y, np.linspace(0.0, 36 / np.linalg.eigvalsh(seen.gram)[0], 40), tolerance=1e-7)
    bounds = certify(shallow_problem(net, X, y)).demand()
    assert np.linalg.norm(run.moves, axis=1).max() == pytest.approx(5.162, abs=5e-4)
    assert np.all(np.sqrt(12 * run.losses[1:]) <= bounds.residual(run.times[1:] / 6))
    assert run.least_eigenvalues.min() >= run.lambda0 * (1 - 1e-9)
    assert bounds.smallest_singular_value(np.inf) ** 2 / run.lambda0 == pytest.approx(0.0363, abs=1e-4)


def test_a_neuron_of_any_size_scales_the_conditions_as_units_demand():
    """Inputs twice as long are weights twice as long: the widths stay."""
    rng = np.random.default_rng(0)
    X, W = rng.normal(size=(4, 5)), rng.normal(size=(40, 5))
    one, two = network(W, np.ones(40), "tanh"), network(W / 2, np.ones(40), "tanh")
    K = look(one, X, W).gram
    widths = [
        sufficient_width(kind, sizes_of(net, rows), 0.3, scale * np.linalg.eigvalsh(K)[0])
        for kind in ("du", "data", "simple")
        for net, rows, scale in ((one, X, 1.0), (two, 2 * X, 4.0))
    ]
    assert widths[::2] == pytest.approx(widths[1::2])


def test_stopping_times_of_a_wide_network_never_come():
    seen = stopping_times(mirrored_run())
    assert seen.applies
    assert seen.moved_at == seen.kernel_at == np.inf
    assert seen.move_slack.min() > 0.5
    assert seen.kernel_slack[0] == pytest.approx(1.0)
    assert "never broken" in str(seen)


def test_stopping_times_of_a_narrow_one_come():
    seen = stopping_times(plateau())
    assert not seen.applies
    assert 0 < seen.moved_at < seen.kernel_at < np.inf
    assert seen.moves[-1] > seen.travel
    assert "does not apply" in str(seen)


def test_gradient_descent_can_be_watched_too():
    flow = mirrored_run()
    W, rate, weights = np.asarray(flow.net.W), 0.5, []
    for _ in range(20):
        weights.append(W)
        from_flow = look(flow.net, flow.X, W)
        pulled = (from_flow.slopes * (from_flow.outputs - flow.y)[:, None]).T @ flow.X
        W = W - rate * float(flow.net.scale) * np.asarray(flow.net.signs)[:, None] * pulled / len(flow.y)
    seen = stopping_times(Run(flow.net, flow.X, flow.y, rate * np.arange(20), np.stack(weights)))
    assert seen.kernel_at == np.inf
    assert np.all(np.diff(seen.moves) > 0)


def test_a_flow_agrees_with_its_closed_form():
    run = single(0.0, 0.3, "identity", 5.0)
    assert run.weights[:, 0, 0] == pytest.approx(0.3 * -np.expm1(-run.times), abs=run.error + 1e-15)


def test_the_error_bound_covers_a_finer_flow():
    coarse, fine = (lecture_run().net, lecture_run().X, lecture_run().y), lecture_run()
    run = record(*coarse, fine.times, tolerance=1e-6)
    assert np.linalg.norm(run.weights - fine.weights, axis=(1, 2)).max() < run.error


def test_claims_take_a_run_of_the_user():
    assert check(CLAIM["LAZY-41"], lecture_run(128, seed=2)).status.value == "holds"
    assert "below" in str(check(CLAIM["LAZY-42"], lecture_run()))
    same = network(np.ones((4, 2)), np.ones(4), "tanh")
    run = Run(same, np.ones((2, 2)), np.zeros(2), np.zeros(1), np.ones((1, 4, 2)))
    assert "singular" in str(check(CLAIM["LAZY-43"], run))
    relu = network(np.eye(2), np.ones(2), "relu")
    run = Run(relu, np.eye(2), np.zeros(2), np.zeros(1), np.eye(2)[None])
    assert "kink" in str(check(CLAIM["LAZY-41"], run))
    with pytest.raises(ValueError, match="Record one"):
        check(CLAIM["LAZY-39"], "a run")


NET = network(np.eye(2), np.ones(2), "tanh")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"X": np.ones((2, 3))}, "none empty"),
        ({"X": np.zeros((0, 2)), "y": np.zeros(0)}, "none empty"),
        ({"y": np.array([1.0, np.nan])}, "not finite"),
        ({"times": np.array([1.0])}, "start at 0"),
        ({"weights": np.ones((1, 2, 2))}, "at its start"),
        ({"weights": np.ones((2, 2, 2))}, "none empty"),
    ],
)
def test_what_is_no_run_is_refused(changes, words):
    given = {"X": np.eye(2), "y": np.zeros(2), "times": np.zeros(1), "weights": np.eye(2)[None], **changes}
    with pytest.raises(ValueError, match=words):
        Run(NET, **given)


@pytest.mark.parametrize("times", [[0.0], [1.0, 0.5], [np.nan, 1.0], [-1.0, 1.0], []])
def test_times_that_do_not_rise_are_refused(times):
    with pytest.raises((ValueError, IndexError)):
        record(NET, np.eye(2), np.ones(2), times)


def test_what_the_argument_does_not_cover_is_refused():
    with pytest.raises(ValueError, match="kink"):
        sizes(np.eye(2), [1.0], activation("relu"))
    assert sizes(np.eye(2), [1.0], STEEPEST).curvature == 1.0
    with pytest.raises(ValueError, match="conditions are"):
        sufficient_width("dü", UNIT, 1.0, 1.0)
    with pytest.raises(ValueError, match="at least 0"):
        sufficient_width("du", UNIT, -1.0, 1.0)
    assert sufficient_width("du", UNIT, 1.0, 0.0) == np.inf
    assert sufficient_width("du", UNIT, 0.0, 0.0) == 0.0


def test_a_singular_kernel_has_no_stopping_times():
    same = Shallow(jnp.ones((3, 2)), jnp.ones(3), activation("tanh"))
    run = Run(same, np.ones((2, 2)), np.zeros(2), np.zeros(1), np.ones((1, 3, 2)))
    with pytest.raises(ValueError, match="equal inputs"):
        stopping_times(run)


def test_runs_are_measured_in_double_precision_whatever_the_default_is():
    run = mirrored_run()
    with jax.enable_x64(False):
        same = Run(run.net, run.X, run.y, run.times, run.weights)
        assert np.array_equal(same.grams, run.grams)


@pytest.mark.parametrize("claim", ["LAZY-39", "LAZY-41", "LAZY-42", "LAZY-42c", "LAZY-43"])
def test_claims_about_flows_refuse_other_runs(claim):
    flow = mirrored_run()
    steps = Run(flow.net, flow.X, flow.y, flow.times, flow.weights)
    assert flow.flow
    assert "is about gradient flow" in str(check(CLAIM[claim], steps))


@pytest.mark.parametrize(("claim", "count"), [("LAZY-29", 17), ("LAZY-30", 9)])
def test_exponents_on_the_sphere_need_few_inputs(claim, count):
    verdict = check(next(one for one in SPHERE_CLAIMS if one.id == claim), Sphere(count=count, dim=20))
    assert f"neurons are few for {count} inputs" in verdict.reasons[0]
