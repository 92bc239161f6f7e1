"""Slow references in many digits, written from the definitions and not from the library."""

import mpmath as mp


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
