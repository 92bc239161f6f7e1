"""What is drawn of recorders, monitors, certificates, rates, gaps and widths shows the numbers of the results."""

import re

import jax.numpy as jnp
import numpy as np
import pytest

import widthwise as ww
from widthwise.activations import activation
from widthwise.numerics import Estimate
from widthwise.theory.concentration import Bernstein, KernelDeviation
from widthwise.theory.convergence import table
from widthwise.theory.linearisation import Gap, GapCurve
from widthwise.theory.overparameterisation import Family, MeasuredWidth, TheoremWidth, WidthNeeded


def lines(drawn):
    return {one.name: one for one in drawn.data}


def test_a_recorder():
    params = {"w": jnp.ones((1, 2))}
    recorder = ww.KernelRecorder(lambda p, x: (p["w"] @ x) ** 2, np.eye(2), np.ones((2, 1)), every=1, params=params)
    with pytest.raises(ValueError, match=r"without records.*Call recorder\(step, params\)"):
        ww.plot(recorder)
    for step in range(3):
        recorder(step, {"w": (1.0 + step) * params["w"]})
    assert [ww.plot(recorder, which=at).layout.title.text for at in range(5)][-1] == "Loss"
    assert list(lines(ww.plot(recorder))["distance"].y) == recorder.records["distance"].tolist()
    assert list(lines(ww.plot(recorder, which=1))["w"].y) == recorder.records["weight_change"][:, 0].tolist()


def test_a_monitor_of_certificates():
    words = {"params": jnp.zeros(2), "restarts": 1, "rounds": 2}
    monitor = ww.CertificateMonitor(lambda w, x: jnp.tanh(w @ x), np.eye(2), [0.1, -0.1], **words)
    with pytest.raises(ValueError, match=r"without records.*Call monitor\(step, model\)"):
        ww.plot(monitor)
    monitor(0, jnp.zeros(2))
    drawn = ww.plot(monitor)
    assert "estimated, not certified" in drawn.layout.title.text
    assert list(lines(drawn)["h"].y) == [monitor.last.h]
    assert list(lines(ww.plot(monitor, which=1))["longest path"].y) == [monitor.last.remaining]
    assert ww.plot(monitor, which=2).layout.title.text == "Loss"


def test_a_table_of_rates():
    points = 0.5 ** np.arange(4.0)[:, None] * np.array([1.0, 0.0])
    found = table(lambda w: 0.5 * jnp.vdot(w, w), points, rate=0.5, reference=np.zeros(2))
    drawn = lines(ww.plot(found))
    row = found.rows["strongly convex, value"]
    assert list(drawn[row.name].y) == row.ratios.tolist()
    bare = table(lambda w: 0.5 * jnp.vdot(w, w), points)
    with pytest.raises(ValueError, match=r"without a row that can be drawn.*give times or rate"):
        ww.plot(bare)


def test_gaps_and_one_of_them():
    gaps = [
        Gap("net", r, r**2, "by hand", None, 0.5 * r**2, np.zeros(2), 0.0, np.array([0.1, 0.3]) * r**2)
        for r in (0.1, 0.2)
    ]
    drawn = lines(ww.plot(GapCurve(tuple(gaps))))
    assert drawn.keys() == {"certified", "adversarial", "at random"}
    np.testing.assert_allclose(drawn["at random"].y, [0.002, 0.008])
    assert list(lines(ww.plot(gaps[0]))["certified"].y) == [gaps[0].certified]


def test_the_deviation_of_kernels():
    limit, draws = Estimate(np.eye(2), 0.0), np.array([0.3, 0.1, 0.2])
    found = KernelDeviation(64, 0.1, limit, Bernstein(0.01, 0.1, 2), Estimate(0.005, 0.0), draws, "hidden", "tanh")
    drawn = ww.plot(found)
    assert list(drawn.data[0].x) == [0.1, 0.2, 0.3]
    np.testing.assert_allclose(drawn.data[0].y, [0.75, 0.5, 0.25])
    assert {one.text for one in drawn.layout.annotations} >= {"bound", "with the sampled variance"}


def test_the_width_that_is_needed():
    measured = MeasuredWidth("kernel", 0.1, np.array([16.0, 64.0]), np.array([[0.2, 0.3], [0.05, 0.07]]))
    theorems = (
        TheoremWidth("LAZY-27", "a", "it is lazy", 500.0, Estimate(400.0, 10.0)),
        TheoremWidth("LAZY-28", "b", "it is lazy", np.inf, reason="the activation has kinks"),
    )
    found = WidthNeeded(theorems, measured, Family(activation("tanh")), 3, 3, 1.0, 1.0)
    np.testing.assert_allclose(ww.plot(found).data[0].y, [0.25, 0.06])
    drawn = lines(ww.plot(found, which=1))
    assert list(drawn["by the limit"].x) == [500.0]
    assert list(drawn["measured"].x) == [pytest.approx(float(measured.width.value))]
    assert ww.plot(measured).layout.title.text == ww.plot(found).layout.title.text


def test_what_has_no_plot_is_told_what_has():
    with pytest.raises(ValueError, match=re.escape("type float")) as refused:
        ww.plot(3.0)
    for kind in ("KernelRecorder", "CertificateMonitor", "RateTable", "GapCurve", "KernelDeviation", "WidthNeeded"):
        assert kind in str(refused.value)
