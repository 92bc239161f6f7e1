"""Sections 4 to 8 for every way of training: whole, finite, the same twice, and honest when something diverges."""

import math

import numpy as np
import pytest

from widthwise.claims import Status
from widthwise.data import load, split, standardise
from widthwise.measure import Method, Run
from widthwise.networks import MLP
from widthwise.report import Metadata, write
from widthwise.report.context import Context, Settings
from widthwise.report.experiment import curvature, law, moment, risk, trained
from widthwise.report.laziness import study
from widthwise.report.section import Number, Section
from widthwise.report.sections import accuracy, lazy, learning_rate, training, width

pytestmark = pytest.mark.slow  # each trains and measures networks

SECTIONS = (learning_rate.section, lazy.section, training.section, accuracy.section)
ALL = (*SECTIONS, width.section)
KEYS = ("learning-rate", "lazy", "training", "accuracy", "width")


def blobs(classes=3, rows=45, seed=0):
    """Classes around random centres, five features."""
    rng = np.random.default_rng(seed)
    y = np.arange(rows) % classes
    return rng.normal(size=(classes, 5))[y] + 0.7 * rng.normal(size=(rows, 5)), np.array(list("abcdefgh"))[y]


def line(rows=45, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, 5))
    return X, 3.0 + np.sin(X[:, 0]) + 0.1 * rng.normal(size=rows)


def context(data, spec=None, **settings):
    settings = {"quick": True, "steps": 25} | settings
    dataset = load(data)
    ready = standardise(*split(dataset, 0.3, settings.get("seed", 0)))
    return Context(dataset, ready, spec or MLP(width=16, activation="erf"), Settings(**settings))


CASES = {
    "gradient descent": lambda: context(blobs()),
    "gradient flow, regression": lambda: context(line(), MLP(width=12, depth=1, activation="erf"), optimizer="flow"),
    "sgd, two classes": lambda: context(blobs(2), optimizer="sgd", batch=8, learning_rate=0.2),
    "adam, kinks": lambda: context(blobs(), MLP(width=16, depth=1, activation="relu"), optimizer="adam"),
    "divergence": lambda: context(blobs(), learning_rate=300.0),
    "overflow at once": lambda: context(line(), learning_rate=1e200),
}


@pytest.fixture(scope="module", params=list(CASES))
def case(request):
    made = CASES[request.param]()
    return request.param, made, {section.key: section for section in (make(made) for make in ALL)}


def numbers(section: Section) -> dict[str, Number]:
    return {number.key: number for number in section.all_numbers()}


def test_every_section_is_whole(case):
    name, _, sections = case
    assert tuple(sections) == KEYS
    for section in sections.values():
        for number in section.all_numbers():
            known = number.value is not None and math.isfinite(number.value)
            assert known or number.reason, f"{name}: {number.name} is {number.value} without a reason"
            assert number.error is None or math.isfinite(number.error)


def test_every_curve_can_be_drawn(case):
    _, _, sections = case
    for figure in (figure for section in sections.values() for figure in section.figures):
        for series in figure.series:
            for scale, values in ((figure.x_scale, series.x), (figure.y_scale, series.y)):
                values = [value for value in values if not isinstance(value, str)]
                assert np.all(np.isfinite(values)), f"{figure.key}: {series.name}"
                assert scale != "log" or np.all(np.array(values) > 0), f"{figure.key}: {series.name}"


def test_the_page_can_be_written(case, tmp_path):
    _, made, sections = case
    metadata = Metadata(made.dataset.name, str(made.spec), "widthwise report", 0, {})
    page = write(tmp_path, list(sections.values()), metadata)
    assert page.read_text(encoding="utf-8").count("<section") >= len(sections)


def test_no_certificate_is_violated(case):
    _, _, sections = case
    statuses = {verdict.status for verdict in sections["lazy"].verdicts}
    assert statuses <= {Status.HOLDS, Status.NOT_APPLICABLE}


def test_a_smooth_network_is_certified_somewhere():
    made = CASES["gradient descent"]()
    found = made.once(study)
    assert found.certifiable
    certified = [point for point in found.points if point.ratios]
    assert certified
    assert found.points[0].alpha == 1.0
    for point in certified:
        for ratios in point.ratios.values():
            # The margin is the integrator's: 1e-10 relative to a way of this length.
            assert max(ratios.values()) <= 1.0 + 1e-6
    assert any(verdict.status is Status.HOLDS for point in certified for verdict in point.verdicts)


def test_kinks_have_no_certificate_and_the_page_says_why():
    made = context(blobs(), MLP(width=16, depth=1, activation="relu"))
    said = lazy.section(made)
    assert not made.once(study).certifiable
    assert not said.verdicts
    text = " ".join(piece for text in said.paragraphs for piece in text if isinstance(piece, str))
    assert "relu has a kink at 0" in text
    assert "h-with-the-estimated-constant" in numbers(said)


def test_the_stable_rate_is_two_over_the_curvature():
    made = CASES["gradient descent"]()
    found = numbers(learning_rate.section(made))
    n = len(made.X_train)
    exact = 2 * n / np.linalg.eigvalsh(made.kernel_train.ntk)[-1]
    assert found["largest-stable-rate-infinite-width-kernel"].value == pytest.approx(exact, rel=1e-10)
    own = 2 / made.once(curvature).kernel.value
    assert found["learning-rate-used"].value == pytest.approx(min(exact, own) / 2, rel=1e-10)
    assert found["largest-stable-rate-empirical-kernel"].value == pytest.approx(own)


def test_the_training_curve_is_held_against_the_right_closed_forms():
    made = CASES["gradient descent"]()
    section, run = training.section(made), made.once(trained)
    found = numbers(section)
    twin = risk(run.twin_train[-1], made.T_train)
    predicted = found["predicted-loss-of-the-linearised-network-at-the-end"]
    assert abs(predicted.value - twin) <= (predicted.error or 0.0) + 1e-9 * twin
    ensemble = made.once(law)
    at_end = ensemble.risk(moment(made, run.steps[-1]))
    assert found["predicted-loss-at-infinite-width-at-the-end"].value == pytest.approx(at_end)
    start = (run.risks[0] - ensemble.risk(0.0)) / ensemble.risk_spread(0.0)
    key = "deviation-from-infinite-width-at-the-start-in-standard-deviations"
    assert found[key].value == pytest.approx(start)


@pytest.mark.parametrize("name", ["sgd, two classes", "adam, kinks"])
def test_mini_batches_are_compared_with_the_linearisation_alone(name):
    section = training.section(CASES[name]())
    assert not section.formulas
    assert all(series.role == "measured" for figure in section.figures for series in figure.series)


def test_divergence_is_reported_on_every_section():
    made = CASES["divergence"]()
    run = made.once(trained)
    assert run.diverged_at is not None
    at = f"step {run.diverged_at}"
    for make in SECTIONS:
        lead = make(made).lead
        assert any(at in piece for piece in lead if isinstance(piece, str)), make.__module__
    assert numbers(accuracy.section(made))["accuracy-network"].reason == f"diverged at {at}"
    assert numbers(accuracy.section(made))["accuracy-ntk"].value > 0.5


def test_accuracies_are_counted_right():
    made = CASES["gradient descent"]()
    found, run = numbers(accuracy.section(made)), made.once(trained)
    right = np.mean(np.argmax(run.test[-1], axis=1) == made.y_test)
    assert found["accuracy-network"].value == pytest.approx(right)
    low, high = found["accuracy-network"].interval
    assert low < right <= high
    counts = np.bincount(made.y_train)
    assert found["accuracy-constant"].value == pytest.approx(np.mean(made.y_test == np.argmax(counts)))


def test_regression_is_scored_by_its_residuals():
    made = CASES["gradient flow, regression"]()
    found, run = numbers(accuracy.section(made)), made.once(trained)
    guess = made.data.target_mean + made.data.target_scale * run.test[-1][:, 0]
    left = np.sum((guess - made.y_test) ** 2)
    assert found["r2-network"].value == pytest.approx(1 - left / np.sum((made.y_test - made.y_test.mean()) ** 2))
    assert found["rmse-network"].value == pytest.approx(math.sqrt(left / len(guess)))


def test_equal_seeds_give_equal_sections():
    first, second = (CASES["gradient descent"]() for _ in range(2))
    for make in ALL:
        assert repr(make(first)) == repr(make(second))


def test_a_duplicate_with_another_label_makes_the_kernel_singular_and_is_said():
    X, y = blobs()
    X[3], X[7] = X[0], X[0]
    made = context((X, y))
    said = " ".join(note for note in accuracy.section(made).notes if isinstance(note, str))
    if made.ntk_spectrum.rank < len(made.X_train):
        assert "singular" in said
    assert numbers(accuracy.section(made))["accuracy-ntk"].value is not None


def run_with(held_out: float, drift: float):
    """A run with a given function gap and drift; all that ``regime`` looks at."""

    twin, outputs = (np.stack([np.zeros((4, 1)), end * np.ones((4, 1))]) for end in (1.0, 1.0 + held_out))
    zeros = np.zeros(2)
    return Run(
        method=Method("gd", 0.1, 1),
        steps=np.arange(2.0),
        train=outputs,
        test=outputs,
        twin_train=twin,
        twin_test=twin,
        names=(),
        movement=np.zeros((2, 0)),
        distance=zeros,
        twin_distance=zeros,
        gap=zeros,
        drift=np.array([0.0, drift]),
        risks=zeros,
        losses=np.zeros(1),
        limit=np.inf,
        diverged_at=None,
        twin_diverged_at=None,
        model=lambda x: x,
    )


@pytest.mark.parametrize(
    ("held_out", "drift", "word"),
    [
        (0.01, 0.01, "lazy"),
        (0.099, 0.099, "lazy"),
        (0.2, 0.01, "in between"),
        (0.01, 0.2, "in between"),
        (0.6, 0.01, "learning features"),
        (0.01, 0.6, "learning features"),
    ],
)
def test_the_criterion_is_the_one_that_is_stated(held_out, drift, word):
    judged = lazy.regime(run_with(held_out, drift))
    assert judged.word == word
    assert judged.held_out == pytest.approx(held_out)
