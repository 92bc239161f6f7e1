"""A report with realistic content that nobody computed, to look at and to test the page with."""

import numpy as np
import pytest

from widthwise.claims import Status, Verdict
from widthwise.numerics import Estimate
from widthwise.report import Figure, Formula, Grid, Mark, Metadata, Number, Section, Series, Table

TIMES = np.geomspace(0.01, 100.0, 120)


def demo_metadata(**changes) -> Metadata:
    entries = {
        "dataset": "digits",
        "network": "mlp(width=512, depth=2, activation=tanh)",
        "command": "widthwise report --data digits --network 'mlp(width=512, depth=2, activation=tanh)' --seed 0",
        "seed": 0,
        "versions": {"widthwise": "0.1.0", "jax": "0.10.2", "numpy": "2.4.6", "python": "3.11.7"},
        "facts": (("samples", "1,797"), ("features", "61"), ("classes", "10"), ("parameters", "299,530")),
        "warnings": ("3 constant features were dropped: pixel_0_0, pixel_4_0, pixel_5_0.",),
        "time": "2026-01-31 12:00 UTC",
        "seconds": 94.2,
    }
    return Metadata(**(entries | changes))


def demo_sections() -> list[Section]:
    return [_summary(), _initialisation(), _kernel(), _learning_rate(), _lazy(), _training(), _accuracy(), _how()]


def _summary() -> Section:
    accuracy = Number("test accuracy", 0.9722, interval=(0.9498, 0.9848), error_is="95 % Wilson interval, 360 images")
    gap = Number("largest gap on the test set", 0.0217, 0.0008, error_is="standard error over 8 draws")
    return Section(
        key="summary",
        title="In one paragraph",
        lead=(
            "On the digits data this network trains in the lazy regime: it never strays further than ",
            gap,
            " from its linearisation, the certificate LAZY-C1 holds with room to spare, and it classifies ",
            accuracy,
            " of the held-out images correctly, as the kernel said it would.",
        ),
        paragraphs=(
            "Its initialisation is close to critical, so signals neither vanish nor blow up over two layers. "
            "A learning rate three times larger would still be stable. To see features being learned, lower "
            "the output scale below 5.07 or narrow the network to 64 units.",
        ),
    )


def _initialisation() -> Section:
    layers = np.arange(1, 7)
    predicted = 0.62 * 0.93**layers
    wide, narrow = predicted * (1 + 0.02 * np.sin(layers)), predicted * (1 + 0.09 * np.cos(layers))
    return Section(
        key="initialisation",
        title="Initialisation",
        lead=(
            "The network is ordered, but only just: each layer keeps ",
            Number("chi perpendicular", 0.9312, 0.0021, error_is="standard error over 20 draws"),
            " of a small difference between two inputs.",
        ),
        figures=(
            Figure(
                key="variance-by-layer",
                title="Variance of the preactivations, layer by layer",
                caption="Twenty sampled networks (points, two standard errors) against the infinite-width recursion.",
                series=(
                    Series("measured, width 512", layers, wide, 0.02 * np.ones(6), group="512"),
                    Series("predicted", layers, predicted, role="predicted", group="512"),
                    Series("measured, width 64", layers, narrow, 0.06 * np.ones(6)),
                ),
                x_label="layer",
                y_label="variance",
            ),
        ),
        numbers=(
            Number("weight variance", 1.0),
            Number("critical weight variance", 1.760954643, 2.2e-16, claim="LAZY-18"),
            Number("correlation length", 13.98, 0.42, unit="layers", error_is="standard error over 20 draws"),
        ),
        formulas=(
            Formula(
                r"q^{(\ell+1)} = \sigma_w^2 \int \frac{e^{-u^2/2}}{\sqrt{2\pi}}\, "
                r"\tanh^2\!\left(\sqrt{q^{(\ell)}}\,u\right) du + \sigma_b^2",
                "The variance of a preactivation in the infinitely wide layer.",
            ),
            Formula(
                r"\chi_\perp = \sigma_w^2\, \mathbb{E}\left[\phi'(\sqrt{q^*}\,u)^2\right]",
                "How much of a small difference one layer keeps: ordered below 1, chaotic above.",
            ),
        ),
    )


def _kernel() -> Section:
    return Section(
        key="kernel",
        title="Kernel",
        lead=(
            "At width 512 the empirical kernel is within ",
            Number("relative distance of the kernels", 9.31, 0.27, unit="%", error_is="standard error over 8 draws"),
            " of its infinite-width limit and approaches it as it should, like one over the root of the width.",
        ),
        figures=_kernel_figures(),
        tables=(
            Table(
                "Alignment of the kernel with the labels",
                ("kernel", "alignment", "condition number", "smallest eigenvalue", "centred", "remark"),
                (
                    ("NNGP", Number("alignment, NNGP", 0.3142, 0.0031), 3.1e6, 2.2e-4, True, None),
                    ("NTK", Number("alignment, NTK", 0.3571, 0.0029), 8.7e5, 9.1e-4, True, "used by LAZY-C2"),
                    ("linear", Number("alignment, linear", 0.2044), None, None, False, "rank deficient"),
                ),
            ),
        ),
        numbers=(Number("condition number", 8.7e5, claim="OPT-2"), Number("rate of the distance", -0.512, 0.018)),
        formulas=(
            Formula(
                r"\Theta(x, x') = \sum_{\ell} \Sigma^{(\ell)}(x,x') \prod_{k>\ell} \dot\Sigma^{(k)}(x,x')",
                "The neural tangent kernel.",
            ),
        ),
    )


def _kernel_figures() -> tuple[Figure, ...]:
    rank = np.arange(1, 401)
    widths = np.array([64, 128, 256, 512, 1024, 2048])
    distance = 2.1 / np.sqrt(widths)
    angles = np.linspace(0, 1, 10)
    overlap = 0.3 + 0.7 * np.exp(-8 * (angles[:, None] - angles) ** 2)
    return (
        Figure(
            key="kernel-by-width",
            title="Distance of the empirical kernel from its limit",
            caption="Relative Frobenius distance of the neural tangent kernels over six widths, eight draws each.",
            series=(
                Series("NTK, measured", widths, distance, 0.06 * distance, "measured", "ntk"),
                Series("NTK, rate 1/√width", widths, 2.1 / np.sqrt(widths), role="predicted", group="ntk"),
                Series("NNGP, measured", widths, 0.45 * distance, 0.05 * distance, "measured", "nngp"),
                Series("NNGP, rate 1/√width", widths, 0.945 / np.sqrt(widths), role="predicted", group="nngp"),
            ),
            x_label="width",
            y_label="relative distance",
            x_scale="log",
            y_scale="log",
        ),
        Figure(
            key="spectrum",
            title="Spectrum of the neural tangent kernel",
            caption="The eigenvalues fall like a power of their rank until rounding sets in.",
            series=(
                Series("infinite width", rank, 800 / rank**1.6, role="predicted"),
                Series("width 512", rank, 790 / rank**1.62, 60 / rank**1.5, role="measured"),
            ),
            marks=(Mark("x", 287, "number of samples per class"), Mark("y", 0.08, "ridge")),
            x_label="rank",
            y_label="eigenvalue",
            x_scale="log",
            y_scale="log",
        ),
        Figure(
            key="class-overlap",
            title="Mean kernel between the classes",
            caption="Digits that look alike share their kernel.",
            series=(Grid("mean kernel", [str(i) for i in range(10)], [str(i) for i in range(10)], overlap),),
            x_label="digit",
            y_label="digit",
        ),
    )


def _learning_rate() -> Section:
    steps = np.arange(200)
    return Section(
        key="learning-rate",
        title="Learning rate",
        lead=(
            "The largest stable step is ",
            Number("2 / lambda of the Hessian", 0.4183, 0.0006, claim="OPT-1", error_is="Lanczos residual"),
            "; the run used a third of it and stayed stable.",
        ),
        figures=(
            Figure(
                key="steps",
                title="What larger steps would have done",
                caption="Loss over gradient-descent steps for three step sizes; the largest diverges.",
                series=(
                    Series("0.14, the one used", steps, 0.5 * np.exp(-0.04 * steps) + 0.002),
                    Series("0.40", steps, 0.5 * np.exp(-0.09 * steps) + 0.001),
                    Series("0.45, beyond the limit", steps[:60], np.minimum(0.5 * np.exp(0.2 * steps[:60]), np.inf)),
                ),
                x_label="step",
                y_label="loss",
                y_scale="log",
            ),
        ),
        verdicts=(
            Verdict(
                "OPT-1", "descent-lemma", Status.HOLDS, (), Estimate(0.4183, 0.0006), Estimate(0.1394, 0.0), 0.3333, 1
            ),
        ),
        numbers=(
            Number("loss after divergence", float("inf"), reason="diverged at step 41"),
            Number("rate found by the line search", None, reason="no line search was run"),
        ),
    )


def _lazy() -> Section:
    return Section(
        key="lazy",
        title="Lazy or learning features",
        lead=(
            "The network is lazy: LAZY-C1 certifies it at any output scale above ",
            Number("alpha threshold of C1", 5.0712, claim="LAZY-C1"),
            ", where the theorem as printed asks for ",
            Number("alpha threshold of Theorem 8.1", 726.01, claim="LAZY-6"),
            ".",
        ),
        verdicts=_lazy_verdicts(),
        paragraphs=(
            (
                "The path of the weights is measured with a solver of order five. Its length is ",
                Number("length of the path", 0.3871, 0.0004, claim="LAZY-20"),
                ", which bounds how far the Jacobian can turn: ",
                Formula(r"\|w(t)-w(0)\| \le \int_0^t \|\dot w\|\,ds"),
                ".",
            ),
            "What to change: an output scale of 2 would leave the certified region and let features move.",
        ),
        figures=(_gap(),),
        notes=(
            "The Lipschitz constant of the Jacobian is certified for tanh; for a network with kinks it is an estimate.",
            ("At ", Number("seeds", 8), " seeds the smallest violation that would be noticed is 3 %."),
        ),
        formulas=(
            Formula(r"\|w(t) - u(t)\| \le \frac{L}{2\alpha\mu}\,\|y\|^2 \left(1 - e^{-\mu t}\right)", "LAZY-C1"),
        ),
        numbers=(Number("kernel drift", 0.0412, 0.0016, claim="LAZY-20", error_is="standard error over 8 draws"),),
    )


def _lazy_verdicts() -> tuple[Verdict, ...]:
    return (
        Verdict(
            "LAZY-6",
            "relative-error-theorem",
            Status.HOLDS,
            (),
            Estimate(1.31, 0.0),
            Estimate(0.0217, 0.0008),
            0.0166,
            8,
        ),
        Verdict(
            "LAZY-C1",
            "sharp-ball-certificate",
            Status.HOLDS,
            (),
            Estimate(0.0340, 0.0),
            Estimate(0.0217, 0.0008),
            0.638,
            8,
        ),
        Verdict(
            "LAZY-C2",
            "spectral-certificate",
            Status.INCONCLUSIVE,
            ("the standard error 0.004 is larger than the margin 0.003; more seeds would decide",),
            Estimate(np.linspace(0.02, 0.31, 8), 0.0),
            Estimate(np.linspace(0.019, 0.307, 8), 0.004),
            0.99,
            8,
        ),
        Verdict(
            "LAZY-22",
            "test-prediction-bound",
            Status.VIOLATED,
            ("at time 12.6 the measured gap exceeds the bound",),
            Estimate(0.11, 0.0),
            Estimate(0.1342, 0.0061),
            1.22,
            8,
        ),
        Verdict(
            "LAZY-C4",
            "deep-certificate",
            Status.NOT_APPLICABLE,
            ("does not apply, because the certified Lipschitz bound covers at most 2 hidden layers",),
        ),
    )


def _gap() -> Figure:
    gap = 0.0217 * (1 - np.exp(-TIMES / 4))
    bound = 0.034 * (1 - np.exp(-TIMES / 3))
    return Figure(
        key="gap",
        title="Distance between the network and its linearisation ||w − u||",
        caption="The measured gap (mean and spread of eight draws) stays below the certified bound of LAZY-C1.",
        series=(
            Series("measured gap", TIMES, gap, 0.08 * gap + 4e-4, "measured", "gap"),
            Series("bound LAZY-C1", TIMES, bound, role="bound", group="C1"),
            Series("bound of Theorem 8.1", TIMES, 30 * bound, role="bound", group="8.1"),
            Series("linear growth", TIMES, 0.0054 * TIMES, role="reference", group="guide"),
        ),
        marks=(Mark("x", 31.6, "end of training"),),
        x_label="time t",
        y_label="||w(t) − u(t)||",
        x_scale="log",
        y_scale="log",
        claims=("LAZY-C1", "LAZY-6"),
    )


def _training() -> Section:
    loss = 0.45 * np.exp(-TIMES / 3) + 0.05 * np.exp(-TIMES / 60)
    return Section(
        key="training",
        title="Training curve",
        lead=(
            "The closed form predicts the training loss to ",
            Number("largest relative deviation of the loss", 1.8, 0.2, unit="%"),
            " at every time.",
        ),
        figures=(
            Figure(
                key="loss",
                title="Training loss",
                caption="Measured loss, the linearised network and the infinitely wide network.",
                series=(
                    Series("network", TIMES, loss * 1.01, 0.03 * loss, "measured"),
                    Series("linearised", TIMES, loss, role="predicted"),
                    Series("infinite width", TIMES, loss * 1.12, role="predicted"),
                ),
                x_label="time t",
                y_label="loss, half the mean square",
                x_scale="log",
                y_scale="log",
            ),
        ),
    )


def _accuracy() -> Section:
    names = ["network", "linearised network", "NTK regression", "NNGP regression", "ridge", "majority"]
    values = np.array([0.9722, 0.9694, 0.9833, 0.9806, 0.9361, 0.1028])
    low, high = values - np.array([0.022, 0.023, 0.019, 0.02, 0.03, 0.027]), np.minimum(values + 0.016, 1)
    return Section(
        key="accuracy",
        title="Test accuracy",
        lead=(
            "The network gets ",
            Number("accuracy of the network", 0.9722, interval=(0.9498, 0.9848)),
            " of the test images right; the kernels do no worse, and a linear model does.",
        ),
        figures=(
            Figure(
                key="accuracies",
                title="Accuracy on 360 held-out images",
                caption="95 % Wilson intervals; all models saw the same split.",
                series=(Series("accuracy", names, values, interval=(low, high)),),
                x_label="model",
                y_label="accuracy",
                kind="dot",
            ),
            Figure(
                key="errors-by-digit",
                title="Mistakes by digit",
                caption="Eights are read as ones.",
                series=(
                    Series("network", [str(i) for i in range(10)], [0, 1, 0, 1, 0, 1, 0, 1, 5, 1]),
                    Series("NTK regression", [str(i) for i in range(10)], [0, 0, 0, 1, 0, 1, 0, 1, 2, 1]),
                ),
                x_label="digit",
                y_label="mistakes",
                kind="bar",
            ),
        ),
    )


def _how() -> Section:
    lead = "The same command with the same seed gives the same numbers."
    split = "The data were split once, 80 to 20, and standardised by the training part."
    return Section("how", "How this was made", lead, paragraphs=(split,))


@pytest.fixture(scope="session")
def sections():
    return demo_sections()


@pytest.fixture(scope="session")
def metadata():
    return demo_metadata()
