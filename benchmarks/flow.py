"""Gradient flows: work and precision of the exponential method against explicit and implicit ones, and a large run."""

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from kernels import machine

from widthwise.data import BUILTIN
from widthwise.measure import Flow, gradient_flow, tangent_flow

HERE = Path(__file__).parent
# Solvers and their tolerances: beyond the stable step a looser one saves nothing.
EXPLICIT = {"Dopri5": (1e-2, 1e-5), "Tsit5": (1e-2, 1e-5), "Dopri8": (1e-4,)}
IMPLICIT = {"Kvaerno5": (1e-3, 1e-5), "Tsit5": (1e-2, 1e-5)}


@dataclass(frozen=True)
class Work:
    """The first n digits, centred, of norm 1, even against odd; tanh, mirrored, first layer trained to ``horizon``."""

    n: int
    width: int
    horizon: float
    times: int


# An implicit method's direct solver factors a matrix (p, p): 8.6 GB for the medium flow, so it gets a small one.
SMALL, MEDIUM, LARGE = Work(20, 16, 300.0, 3), Work(100, 512, 1000.0, 3), Work(1000, 2048, 1000.0, 20)


def outputs(X, signs, w):
    return jnp.tanh(X @ w.reshape(signs.size, -1).T) @ signs


def kernel(X, gram, signs, w):
    slopes = (1.0 - jnp.tanh(X @ w.reshape(signs.size, -1).T) ** 2) * signs[None]
    return gram * (slopes @ slopes.T)


def problem(work: Work) -> tuple:
    """The map, its start, its targets and its kernel."""
    digits = BUILTIN["digits"]("digits")
    X = digits.X - digits.X.mean(axis=0)
    X = (X / np.linalg.norm(X, axis=1, keepdims=True))[: work.n]
    half = np.random.default_rng(0).normal(size=(work.width // 2, X.shape[1]))
    signs = jnp.asarray(np.repeat([1.0, -1.0], work.width // 2) / math.sqrt(work.width))
    y = np.where(digits.y[: work.n] % 2 == 0, 1.0, -1.0)
    X, gram = jnp.asarray(X), jnp.asarray(X @ X.T)
    return Partial(outputs, X, signs), np.concatenate([half, half]).ravel(), y, Partial(kernel, X, gram, signs)


def clocked(run: Callable, repeats: int = 2) -> tuple[dict, Any]:
    """The times of the first run, which compiles, and of the best of the others; wall and processor."""
    rows, found = [], None
    for _ in range(repeats):
        wall, processor = time.perf_counter(), time.process_time()
        found = run()
        rows.append((time.process_time() - processor, time.perf_counter() - wall))
    first, best = rows[0], min(rows[1:], default=rows[0])
    return {"processor_s": best[0], "wall_s": best[1], "first_processor_s": first[0], "first_wall_s": first[1]}, found


def moments(work: Work) -> np.ndarray:
    return np.geomspace(work.horizon / 1000.0, work.horizon, work.times)


@eqx.filter_jit
def generic(f, w0, y, times, tolerance, solver):
    """The same flow by a solver of diffrax, its steps ending at the times."""

    def field(_, step, __):
        found, pull = jax.vjp(f, w0 + step)
        return pull(-(found - y))[0]

    control = diffrax.PIDController(rtol=0.0, atol=tolerance, norm=jnp.linalg.norm)
    done = diffrax.diffeqsolve(
        diffrax.ODETerm(field),
        solver,
        t0=0.0,
        t1=times[-1],
        dt0=None,
        y0=jnp.zeros_like(w0),
        saveat=diffrax.SaveAt(ts=times),
        stepsize_controller=diffrax.ClipStepSizeController(control, step_ts=times),
        max_steps=100_000,
        throw=False,
        adjoint=diffrax.ForwardMode(),
    )
    return done.ys, done.stats["num_steps"], done.result == diffrax.RESULTS.successful


def work_precision(work: Work, peers: dict[str, tuple[float, ...]]) -> dict:
    """Errors, relative to the distance, against the explicit method at its tightest."""
    f, w0, y, gram = problem(work)
    times = moments(work)
    tight = gradient_flow(f, w0, y, times=times, rtol=1e-12, method="runge-kutta")

    def row(name: str, tolerance: float, clock: dict, found: np.ndarray, **more) -> dict:
        away = np.linalg.norm(found - tight.displacements, axis=1) / tight.distances
        return shown({"method": name, "tolerance": tolerance, "error": float(away.max())} | more | clock)

    rows = []
    for rtol in (1e-2, 1e-3, 1e-4, 1e-6, 1e-8):
        words = {"times": times, "rtol": rtol, "method": "exponential", "kernel": gram}
        clock, flow = clocked(lambda words=words: gradient_flow(f, w0, y, **words))
        more = {"evaluations": flow.evaluations, "kernels": flow.kernels, "steps": flow.steps}
        rows.append(row("exponential", rtol, clock, flow.displacements, **more))
    start, targets = jnp.asarray(w0), jnp.asarray(y)
    for name, tolerances in peers.items():
        solver = getattr(diffrax, name)()
        for tolerance in tolerances:

            def run(share, solver=solver, tolerance=tolerance):
                at = jnp.asarray(times * share)
                return jax.block_until_ready(generic(f, start, targets, at, jnp.asarray(tolerance), solver))

            run(1e-4)  # compiles
            clock, (found, steps, good) = clocked(lambda run=run: run(1.0), 1)
            more = {"steps": int(steps), "finished": bool(good)}
            if name in EXPLICIT:
                more["evaluations"] = int(steps) * (solver.tableau.num_stages - 1)
            rows.append(row(name, tolerance, clock, np.asarray(found), **more))
    return {**asdict(work), "rows": rows, "ratios": ratios(rows)}


def ratios(rows: list[dict]) -> list[dict]:
    """For each run of ours the cheapest of each peer that is at least as exact, over ours."""
    found = []
    for ours in (row for row in rows if row["method"] == "exponential"):
        told = {"error": ours["error"], "processor_s": ours["processor_s"]}
        for name in {row["method"] for row in rows} - {"exponential"}:
            as_good = [row for row in rows if row["method"] == name and row["error"] <= ours["error"]]
            if as_good:
                told[f"{name}_over_ours"] = min(row["processor_s"] for row in as_good) / ours["processor_s"]
        found.append(told)
    return found


def summary(parts: dict) -> list[dict]:
    """One line for each run, as in the other results: processor seconds, and the cheapest peer as exact as ours."""
    rows = []
    for part in (parts[name] for name in ("precision", "implicit") if name in parts):
        for one in part["ratios"]:
            factors = [value for key, value in one.items() if key.endswith("_over_ours")]
            row = {
                "name": f"flow of {part['n']} digits, width {part['width']}, to time {part['horizon']:g}",
                "ours_s": one["processor_s"],
                "ours_error": one["error"],
            }
            if factors:
                row |= {"peer_s": min(factors) * one["processor_s"], "peer_over_ours": min(factors)}
            rows.append(row)
    if "large" in parts:
        work = parts["large"]
        name = f"flow and twin of {work['n']:,} digits, width {work['width']}, to risk {work['risk']:.1g}"
        rows.append({"name": name, "product_s": work["product_processor_s"], "ours_s": work["processor_s"]})
    return rows


def large(work: Work, rtol: float, check: float | None) -> dict:
    """Both flows at all times, w(t) and u(t), until the risk is 1e-6."""
    f, w0, y, gram = problem(work)
    times = moments(work)

    def both():
        flow = gradient_flow(f, w0, y, times=times, rtol=rtol, kernel=gram)
        return flow, tangent_flow(f, w0, y, times=times, kernel=gram)

    clock, (flow, twin) = clocked(both)
    risks = [0.5 * float(one.residual_norms[-1]) ** 2 for one in (flow, twin)]
    gap = float(np.linalg.norm(flow.displacements[-1] - twin.displacements[-1]))
    told = {**asdict(work), "method": flow.method, "rtol": rtol, "risk": risks[0], "twin_risk": risks[1]}
    told |= {"distance": float(flow.distances[-1]), "length": float(flow.lengths[-1]), "gap": gap}
    told |= {"error_bound": flow.error, "steps": flow.steps, "evaluations": flow.evaluations, "kernels": flow.kernels}
    told |= {**clock, **limits(work, flow)}
    if check is not None:
        exact = gradient_flow(f, w0, y, times=times, rtol=check, kernel=gram)
        away = np.linalg.norm(flow.displacements - exact.displacements, axis=1)
        told |= {"checked_against_rtol": check, "error": float(away.max())}
    return shown(told)


def limits(work: Work, flow: Flow) -> dict:
    """What the products and eigenvalues alone cost, and what stability alone would cost an explicit method."""
    f, w0, y, gram = problem(work)
    W, X = jnp.asarray(w0).reshape(work.width, -1), jnp.ones((work.n, 64))
    multiply, eigenvalues, grams = jax.jit(lambda a, b: a @ b.T), jax.jit(jnp.linalg.eigh), jax.jit(gram)
    slope = jax.jit(lambda w: jax.vjp(f, w)[1](f(w) - y)[0])
    K = grams(jnp.asarray(w0))
    product = clocked(lambda: multiply(X, W).block_until_ready(), 6)[0]["processor_s"]
    taken_apart = clocked(lambda: jax.block_until_ready(eigenvalues(K)), 3)[0]["processor_s"]
    one = clocked(lambda: slope(jnp.asarray(w0)).block_until_ready(), 6)[0]["processor_s"]
    fastest = float(np.linalg.eigvalsh(np.asarray(K))[-1])
    # Six slopes a step, each step at most 3.3 of the fastest decay (Dopri5).
    explicit = 6 * fastest * work.horizon / 3.3
    return {
        "product_processor_s": product,
        "eigh_processor_s": taken_apart,
        "evaluation_processor_s": one,
        # An evaluation is at least one product forward and one backward.
        "limit_processor_s": 2 * product * flow.evaluations + taken_apart * (flow.kernels + 1),
        "explicit_evaluations": explicit,
        "explicit_processor_s": explicit * one,
    }


def shown(row: dict) -> dict:
    sys.stdout.write(json.dumps(row) + "\n")
    sys.stdout.flush()
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("precision", "implicit", "large"), help="one part; the others are kept")
    parser.add_argument("--check", type=float, help="follow the large flow once more with this tolerance")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "flow.json")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    parts = json.loads(options.out.read_text()) if options.out.exists() else {}
    parts["machine"] = machine() | {"diffrax": diffrax.__version__}
    if options.only in (None, "precision"):
        parts["precision"] = work_precision(MEDIUM, EXPLICIT)
    if options.only in (None, "implicit"):
        parts["implicit"] = work_precision(SMALL, IMPLICIT)
    if options.only in (None, "large"):
        parts["large"] = large(LARGE, 1e-3, options.check)
    parts["rows"] = summary(parts)
    options.out.write_text(json.dumps(parts, indent=1) + "\n")


if __name__ == "__main__":
    main()
