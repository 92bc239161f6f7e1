"""Closed-form duals against the same formulas in sixty digits, and against reference numbers."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

from widthwise.activations import (
    activation,
    error_function,
    exponential,
    gabor,
    gaussian,
    hermite,
    leaky_relu,
    monomial,
    polynomial,
    rbf,
    rectified_monomial,
    rectifier,
    sinusoid,
)

ROWS = 40
_duals = eqx.filter_jit(lambda act, pairs: jax.vmap(act.dual)(*pairs))


def duals(act, pairs):
    """The duals of up to ROWS pairs (q1, q2, gap, cogap) at once, so that each activation is compiled once."""
    filled = [*pairs, *[pairs[-1]] * (ROWS - len(pairs))]
    out = _duals(act, tuple(jnp.asarray(column, dtype=float) for column in zip(*filled, strict=True)))
    return jax.tree.map(lambda part: np.asarray(part)[: len(pairs)], out)


def means(out):
    return np.sqrt(out.xx) * np.sqrt(out.yy) * 0.5 * (out.cogap - out.gap)


# F and D at (q1, q2, cosine) = (1, 1, .5), (.7, 1.9, -.6), (2, .5, .9), made by piecewise quadrature.
CASES = ((1.0, 1.0, 0.5), (0.7, 1.9, -0.6), (2.0, 0.5, 0.9))
TABLE = {
    "step": (
        (0.3333333333333333, 0.0),
        (0.1475836176504333, 0.0),
        (0.4282168534356469, 0.0),
    ),
    "sign": (
        (0.3333333333333333, 0.0),
        (-0.4096655293982668, 0.0),
        (0.7128674137425876, 0.0),
    ),
    "relu^2": (
        (0.7067483357831719, 1.217995562088459),
        (0.0327987367275332, 0.1788644358663566),
        (1.30923804059308, 1.819076797689344),
    ),
    "relu^3": (
        (2.680367511024274, 6.360735022048547),
        (0.03877336250852084, 0.2951886305477988),
        (6.237195774229837, 11.78314236533772),
    ),
    "lrelu": (
        (0.2966441013229129, 0.37),
        (-0.03297532730508757, 0.219542730296851),
        (0.4583630515320922, 0.446855651282874),
    ),
    "erf": (
        (0.2163468959387855, 0.450158158078553),
        (-0.267364413336413, 0.4108336004762222),
        (0.3855017059025997, 0.4897075172058318),
    ),
    "Phi": (
        (0.2902153116275831, 0.08218725920819997),
        (0.1995608046908962, 0.07543650818003558),
        (0.3197335840283927, 0.08285275395276104),
    ),
    "sin": (
        (0.1917002497821018, 0.4148304099305316),
        (-0.2039924324599751, 0.3404210491659871),
        (0.2941019659726082, 0.4105861237461052),
    ),
    "cos": (
        (0.4148304099305316, 0.1917002497821018),
        (0.3404210491659871, -0.2039924324599751),
        (0.4105861237461052, 0.2941019659726082),
    ),
    "sin(2x+.3)": (
        (0.06664474039233753, 0.2747621713771007),
        (-0.03607745562789517, 0.1456955629611122),
        (0.1232225074365907, 0.4934978260200631),
    ),
    "exp": (
        (4.481689070338065, 4.481689070338065),
        (1.8368391558074, 1.8368391558074),
        (8.584858397177893, 8.584858397177893),
    ),
    "bump": (
        (0.5163977794943223, 0.06885303726590963),
        (0.4739815598217323, -0.07368200045871443),
        (0.5205792062953536, 0.126970538120818),
    ),
    "gelu": (
        (0.2272949150219915, 0.3422672424594431),
        (-0.04017399424635344, 0.1391293972221558),
        (0.3706129795783145, 0.4145090513548438),
    ),
    "x^2": (
        (1.5, 2.0),
        (2.2876, -2.767815022720991),
        (2.62, 3.6),
    ),
    "x^3": (
        (5.25, 13.5),
        (-10.27053120481078, 20.5884),
        (12.474, 23.58),
    ),
    "h_2": (
        (0.25, 1.0),
        (0.3438, -1.383907511360496),
        (0.56, 1.8),
    ),
    "h_3": (
        (0.125, 0.75),
        (-0.05106618716920216, 1.0314),
        (0.054, 1.68),
    ),
    "h_4": (
        (0.0625, 0.5),
        (-0.13124106, -0.2042647486768086),
        (-0.46515, 0.216),
    ),
}
OURS = {
    "step": activation("step"),
    "sign": activation("sign"),
    "relu^2": rectified_monomial(2),
    "relu^3": rectified_monomial(3),
    "lrelu": rectifier(0.1, 1.0),
    "erf": error_function(),
    "Phi": activation("normal_cdf"),
    "sin": sinusoid(),
    "cos": activation("cos"),
    "sin(2x+.3)": sinusoid(2.0, 0.3),
    "exp": activation("exp"),
    "bump": gaussian(),
    "gabor": gabor(),
    "gelu": activation("gelu"),
    "x^2": monomial(2),
    "x^3": polynomial([0.0, 0.0, 0.0, 1.0]),
    "h_2": hermite(2),
    "h_3": hermite(3),
    "h_4": hermite(4),
}


@pytest.mark.parametrize("name", TABLE)
def test_reference_numbers(name):
    out = duals(OURS[name], [(q1, q2, 1 - cosine, 1 + cosine) for q1, q2, cosine in CASES])
    wanted = np.array(TABLE[name])
    np.testing.assert_allclose(means(out), wanted[:, 0], rtol=1e-12)
    np.testing.assert_allclose(out.slope, wanted[:, 1], rtol=1e-12)


def angular(n, theta):
    """J_n of Cho and Saul, written out."""
    sine, cosine, rest = mp.sin(theta), mp.cos(theta), mp.pi - theta
    return (
        rest,
        sine + rest * cosine,
        3 * sine * cosine + rest * (1 + 2 * cosine**2),
        15 * sine - 11 * sine**3 + rest * (9 * cosine + 6 * cosine**3),
    )[n]


def arcsine(c, p, r, factor):
    return factor * mp.asin(c / mp.sqrt(p * r))


def power_sum(p, q1, q2, c):
    double = lambda k: mp.mpf(1) if k < 1 else mp.fac2(k)  # noqa: E731
    terms = (
        mp.factorial(k) * mp.binomial(p, k) ** 2 * double(p - k - 1) ** 2 * c**k * (q1 * q2) ** (mp.mpf(p - k) / 2)
        for k in range(p % 2, p + 1, 2)
    )
    return mp.fsum(terms)


def hermite_sum(n, q1, q2, c):
    """The mean of h_n(u) h_n(v) from the moments of monomials, term by term."""
    pieces = [
        ((-1) ** j * mp.factorial(n) / (mp.factorial(n - 2 * j) * mp.factorial(j) * 2**j), n - 2 * j)
        for j in range(n // 2 + 1)
    ]
    return mp.fsum(a * b * mixed(p, r, q1, q2, c) for a, p in pieces for b, r in pieces) / mp.factorial(n)


def mixed(p, r, q1, q2, c):
    """E[u^p v^r] by pairings."""
    total = mp.mpf(0)
    for k in range(min(p, r) + 1):
        if (p - k) % 2 == 0 and (r - k) % 2 == 0:
            ways = mp.binomial(p, k) * mp.binomial(r, k) * mp.factorial(k)
            total += (
                ways
                * mp.fac2(max(p - k - 1, 0))
                * mp.fac2(max(r - k - 1, 0))
                * c**k
                * q1 ** ((p - k) // 2)
                * q2 ** ((r - k) // 2)
            )
    return total


def wave(a, b):
    return lambda q1, q2, c: (
        mp.exp(-(a**2) * (q1 + q2) / 2) * (mp.exp(a**2 * c) - mp.cos(2 * mp.mpf(b)) * mp.exp(-(a**2) * c)) / 2
    )


def packet(alpha, frequency):
    """Waves e^(iwu) under the Gaussian that the bump has tilted, by matrices."""

    def mean(q1, q2, c):
        covariance = mp.matrix([[q1, c], [c, q2]])
        narrowed = mp.eye(2) + alpha * covariance
        tilted = narrowed**-1 * covariance
        apart, together = (tilted[0, 0] + tilted[1, 1] + sign * 2 * tilted[0, 1] for sign in (-1, 1))
        waves = (mp.exp(-(mp.mpf(frequency) ** 2) * part / 2) for part in (apart, together))
        return (next(waves) - next(waves)) / (2 * mp.sqrt(mp.det(narrowed)))

    return mean


def by_angle(n):
    def mean(q1, q2, c):
        s = mp.sqrt(q1 * q2)
        theta = 2 * mp.atan2(mp.sqrt(1 - c / s), mp.sqrt(1 + c / s))
        return s**n * angular(n, theta) / (2 * mp.pi)

    return mean


def signs(q1, q2, c):
    return 4 * by_angle(0)(q1, q2, c) - 1


FORMULAS = {
    "sign": (OURS["sign"], signs),
    "step": (OURS["step"], by_angle(0)),
    "relu^1": (rectified_monomial(1), by_angle(1)),
    "relu^2": (OURS["relu^2"], by_angle(2)),
    "relu^3": (OURS["relu^3"], by_angle(3)),
    "rectifier": (
        rectifier(-3.0, 0.5),
        lambda q1, q2, c: mp.mpf(3.5) ** 2 * by_angle(1)(q1, q2, c) - mp.mpf(1.5) * c,
    ),
    "normal_cdf": (
        OURS["Phi"],
        lambda q1, q2, c: mp.mpf(1) / 4 + arcsine(c, 1 + q1, 1 + q2, 1 / (2 * mp.pi)),
    ),
    "wide erf": (
        error_function(2.0, 0.5),
        lambda q1, q2, c: 4 * arcsine(c / 2, 1 + q1 / 2, 1 + q2 / 2, 2 / mp.pi),
    ),
    "sin": (OURS["sin"], wave(1, 0)),
    "cos": (OURS["cos"], lambda q1, q2, c: mp.exp(-(q1 + q2) / 2) * mp.cosh(c)),
    "sin(2x+.3)": (OURS["sin(2x+.3)"], wave(2, 0.3)),
    "exp": (exponential(0.5), lambda q1, q2, c: mp.exp((q1 + q2 + 2 * c) / 8)),
    "bump": (
        gaussian(2.0),
        lambda q1, q2, c: 1 / mp.sqrt((1 + 2 * q1) * (1 + 2 * q2) - 4 * c * c),
    ),
    "exp, shifted": (exponential(2.0, -0.5), lambda q1, q2, c: mp.exp(2 * (q1 + q2 + 2 * c) - 1)),
    "gabor": (gabor(), packet(2, 1)),
    "gabor, fast": (gabor(0.5, 3.0), packet(0.5, 3)),
    "rbf": (rbf(2.0), lambda q1, q2, c: mp.exp(-2 * (q1 + q2 - 2 * c))),
    "x^2": (OURS["x^2"], lambda *z: power_sum(2, *z)),
    "x^5": (monomial(5), lambda *z: power_sum(5, *z)),
    "h_3": (OURS["h_3"], lambda *z: hermite_sum(3, *z)),
    "h_4": (OURS["h_4"], lambda *z: hermite_sum(4, *z)),
}
GAPS = (1e-30, 1e-18, 1e-12, 1e-8, 1e-4, 0.04, 0.3, 1.0, 1.9)


SIZES = ((1.3, 1.3), (0.7, 1.9), (1.0, 1.0 + 1e-9))


@pytest.mark.parametrize("name", FORMULAS)
def test_gaps_keep_their_digits(name):
    """Also where the two variances almost agree, as far as their difference has digits."""
    act, mean = FORMULAS[name]
    pairs = [(*sizes, gap, 2 - gap) for sizes in SIZES for gap in GAPS]
    out = duals(act, pairs)
    for index, (q1, q2, gap, _) in enumerate(pairs):
        power, wanted = correlation_gap(mean, q1, q2, gap)
        assert out.xx[index] == pytest.approx(power, rel=2e-14)
        # Features that differ by some 1e-10, each right to a few ulps: the square of their difference.
        loose, floor = (1e-5, 1e-30) if q2 == 1.0 + 1e-9 else (2e-13, 2.0**-103)
        assert out.gap[index] == pytest.approx(wanted, rel=loose, abs=floor)
        assert out.cogap[index] == pytest.approx(2 - wanted, abs=4e-15)


def correlation_gap(mean, q1, q2, gap):
    with mp.workdps(60):
        q1, q2, gap = mp.mpf(q1), mp.mpf(q2), mp.mpf(gap)
        power, other = mean(q1, q1, q1), mean(q2, q2, q2)
        return float(power), float(1 - mean(q1, q2, mp.sqrt(q1 * q2) * (1 - gap)) / mp.sqrt(power * other))


def gelu(q1, q2, c):
    kappa, r = (1 - q1 * q2) / ((1 + q1) * (1 + q2)), mp.sqrt((1 + q1) * (1 + q2) - c * c)
    return c * (mp.mpf(1) / 4 + mp.atan(c / r) / (2 * mp.pi)) + (q1 * q2 + kappa * c * c) / (2 * mp.pi * r)


FAR = {
    "erf": (activation("erf"), lambda q1, q2, c: arcsine(2 * c, 1 + 2 * q1, 1 + 2 * q2, 2 / mp.pi)),
    "gelu": (activation("gelu"), gelu),
    "sin": FORMULAS["sin"],
    "gabor": FORMULAS["gabor"],
}


@pytest.mark.parametrize("name", FAR)
def test_large_and_very_unequal_variances_lose_no_digits(name):
    act, mean = FAR[name]
    sizes = ((1e2, 1e2), (1e6, 1e6), (30.0, 45.0), (1e4, 1.1e4), (1e-6, 1e3), (5e-5, 1e8))
    pairs = [(*size, gap, 2 - gap) for size in sizes for gap in (0.0, 1e-7, 0.3, 1.7, 2.0)]
    out = duals(act, pairs)
    for index, (q1, q2, gap, _) in enumerate(pairs):
        # A dozen roundings of numbers below one; the slope is relative to those of the two inputs alone.
        assert out.gap[index] == pytest.approx(correlation_gap(mean, q1, q2, gap)[1], abs=4e-15)
        with mp.workdps(60):
            slopes = [slope(mean, *both) for both in ((q1, q2, gap), (q1, q1, 0.0), (q2, q2, 0.0))]
            assert abs(out.slope[index] - slopes[0]) < 4e-15 * mp.sqrt(slopes[1] * slopes[2])


def slope(mean, q1, q2, gap):
    """Price: dF/dc = D."""
    q1, q2 = mp.mpf(q1), mp.mpf(q2)
    return mp.diff(lambda c: mean(q1, q2, c), mp.sqrt(q1 * q2) * (1 - mp.mpf(gap)))


@pytest.mark.parametrize("name", ["x^2", "h_2", "h_4", "cos", "bump"])
def test_even_functions_do_not_tell_opposite_inputs_from_equal_ones(name):
    out = duals(OURS[name], [(1.3, 1.3, *pair) for tiny in (1e-14, 1e-7) for pair in ((tiny, 2.0), (2.0, tiny))])
    np.testing.assert_allclose(out.gap[1::2], out.gap[::2], rtol=1e-13)


@pytest.mark.parametrize("name", OURS)
def test_opposite_inputs(name):
    """Odd functions keep them opposite, even functions make them equal."""
    out = duals(OURS[name], [(1.3, 1.3, 2.0, 0.0)])
    if name in ("sign", "erf", "sin", "x^3", "h_3"):
        assert out.cogap == 0.0
    if name == "gabor":
        assert out.cogap < 1e-28
    if name in ("cos", "bump", "x^2", "h_2", "h_4"):
        assert out.gap < 1e-28


CORNERS = [
    (1.3, 1.3, 0.0, 2.0),
    (1.3, 1.3, 2.0, 0.0),
    (0.0, 1.0, 1.0, 1.0),
    (0.0, 0.0, 1.0, 1.0),
    (0.0, 0.0, 0.0, 2.0),
]
QUICK = ("sin(2x+.3)", "relu^3", "step", "h_4")


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK)) for name in OURS])
def test_gradients_are_finite_at_equal_opposite_and_zero_inputs(name):
    slopes = jax.jit(jax.vmap(jax.jacrev(lambda pair: jnp.stack(jax.tree.leaves(OURS[name].dual(*pair))))))
    values = duals(OURS[name], CORNERS)
    assert all(np.all(np.isfinite(part)) for part in jax.tree.leaves(values))
    corners = tuple(jnp.asarray(column) for column in zip(*CORNERS, strict=True))
    assert all(np.all(np.isfinite(np.asarray(part))) for part in slopes(corners))


@pytest.mark.parametrize("name", ["sin(2x+.3)", "bump", "gabor", "exp", "relu^3"])
def test_the_difference_quotient_of_the_mean_is_the_slope(name):
    """Price: dF/dc = D, here by the fourth-order central difference."""
    c, h, s = -0.4, 1e-3, math.sqrt(0.7 * 1.9)
    places = [c + step * h for step in (0, 1, -1, 2, -2)]
    out = duals(OURS[name], [(0.7, 1.9, 1 - place / s, 1 + place / s) for place in places])
    F = means(out)
    # Fourth order: h^4 / 30 times a fifth derivative of order 100; rounding of F over h.
    assert (8 * (F[1] - F[2]) - (F[3] - F[4])) / (12 * h) == pytest.approx(out.slope[0], rel=1e-9)


def test_reflected_rectifiers_have_the_same_dual():
    pair = [jnp.asarray(v) for v in (0.7, 1.9, 0.6, 1.4)]
    for slopes in ((2.0, 0.0), (-3.0, 0.5)):
        first, second = (rectifier(*both).dual(*pair) for both in (slopes, slopes[::-1]))
        assert float(means(first)) == pytest.approx(float(means(second)), rel=1e-14)
    assert means(rectifier(0.3, 1.0).dual(*pair)) == means(leaky_relu(0.3).dual(*pair))
