"""Slow references in many digits, written from the definitions and not from the library."""

import mpmath as mp
import numpy as np


def rectifier_kernels(x, y, layers, negative_slope=0.0, digits=60):
    """NNGP and NTK of a network of leaky rectifiers; ``layers`` = [(C_w, C_b), ...] with a rectifier between."""
    with mp.workdps(digits):
        x, y, a = [mp.mpf(float(v)) for v in x], [mp.mpf(float(v)) for v in y], mp.mpf(negative_slope)
        xx, xy, yy = (sum(p * q for p, q in zip(u, v, strict=True)) / len(x) for u, v in ((x, x), (x, y), (y, y)))
        ntk = mp.mpf(0)
        for depth, (weight, bias) in enumerate(layers):
            if depth:
                xx, xy, yy, slope = _rectify(xx, xy, yy, a)
                ntk *= slope
            weight, bias = mp.mpf(float(weight)), mp.mpf(float(bias))
            xx, xy, yy = weight * xx + bias, weight * xy + bias, weight * yy + bias
            ntk = xy + weight * ntk
        return float(xy), float(ntk)


def _rectify(xx, xy, yy, a):
    scale = mp.sqrt(xx * yy)
    theta = mp.acos(min(max(xy / scale, mp.mpf(-1)), mp.mpf(1)))
    jump = (1 - a) ** 2 / (2 * mp.pi)
    mean = jump * scale * (mp.sin(theta) + (mp.pi - theta) * mp.cos(theta)) + a * xy
    return (1 + a**2) / 2 * xx, mean, (1 + a**2) / 2 * yy, jump * (mp.pi - theta) + a


def dual(fn, xx, xy, yy, digits=20, reach=9):
    """E[f(u) f(v)] of a smooth f by iterated Gauss-Legendre quadrature in mpmath; slow."""
    with mp.workdps(digits):
        xx, xy, yy = mp.mpf(xx), mp.mpf(xy), mp.mpf(yy)
        left = mp.sqrt(xx)
        across, along = xy / left, mp.sqrt(yy - xy**2 / xx)
        weight = lambda z: mp.exp(-z * z / 2) / mp.sqrt(2 * mp.pi)  # noqa: E731
        inner = lambda s: mp.quad(lambda t: fn(across * s + along * t) * weight(t), [-reach, -3, 0, 3, reach])  # noqa: E731
        return float(mp.quad(lambda s: fn(left * s) * inner(s) * weight(s), [-reach, -3, 0, 3, reach]))


def polar_dual(fn, slope, q1, q2, cosine, angular=40, radial=160):
    """E[f(u) f(v)] and E[f'(u) f'(v)] of an f with a kink at zero alone, by the four sectors where both are smooth."""
    t, v = np.polynomial.legendre.leggauss(angular)
    x, w = np.polynomial.legendre.leggauss(radial)
    r, theta = 4.75 * (x + 1), np.arccos(cosine)
    ring = 4.75 * w * r * np.exp(-0.5 * r**2) / (2 * np.pi)
    mean = mean_slope = 0.0
    starts = (theta - np.pi / 2, np.pi / 2, theta + np.pi / 2, 1.5 * np.pi)
    for start, width in zip(starts, (np.pi - theta, theta) * 2, strict=True):
        phi = start + 0.5 * width * (t + 1)
        weight = 0.5 * width * v[:, None] * ring[None, :]
        a, b = np.sqrt(q1) * np.cos(phi)[:, None] * r, np.sqrt(q2) * np.cos(phi - theta)[:, None] * r
        mean += np.sum(weight * np.asarray(fn(a)) * np.asarray(fn(b)))
        mean_slope += np.sum(weight * np.asarray(slope(a)) * np.asarray(slope(b)))
    return float(mean), float(mean_slope)


def plackett(kinks, jumps, mean, mean_slope, q1, q2, cosine, count=64):
    """F and D of a piecewise linear function by the theorems of Price and Plackett: sums over pairs of kinks.

    ``mean`` and ``mean_slope`` are E f(sqrt(q) X) and E f'(sqrt(q) X) as functions of q; ``jumps`` are those of f'.
    """
    t, w = np.polynomial.legendre.leggauss(count)
    half = 0.5 * np.arcsin(cosine)
    t, w, s = half * (t + 1), half * w / (2 * np.pi), np.sqrt(q1 * q2)
    F, D = mean(q1) * mean(q2), mean_slope(q1) * mean_slope(q2)
    F += s * cosine * D
    for b, jump in zip(kinks, jumps, strict=True):
        for d, other in zip(kinks, jumps, strict=True):
            x, y = b / np.sqrt(q1), np.sign(cosine) * d / np.sqrt(q2)
            density = np.exp(-((x - y) ** 2) / (2 * np.cos(t) ** 2) - x * y / (1 + np.abs(np.sin(t))))
            F += jump * other * np.sum(w * density * s * (cosine - np.sin(t)))
            D += jump * other * np.sum(w * density)
    return F, D
