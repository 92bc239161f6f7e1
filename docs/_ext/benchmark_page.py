"""The page of benchmarks, written from what the scripts in `benchmarks` have measured."""

import json
from pathlib import Path

INTRODUCTION = """# Benchmarks

What kernels cost, against one matrix product of the inputs with themselves (of finite networks: of a matrix of n k
rows and 512 columns) and against `neural-tangents` 0.6.5 with its own version of JAX, the fastest of its algorithms,
all in one run. Times are the best of several, in seconds; errors are the largest seen on a block of pairs against
single pairs in float64, relative to the diagonal. Gradient flows stand beside the fastest solver of diffrax that is
at least as exact as ours, in seconds of processor time, their errors relative to the distance travelled. Curvature is
told in gradients of the same loss, what watches a training in shares of its time. A factor above 1 in the column
*peer / ours* says how many times faster this package is. `benchmarks/README.md` says how to run them again.
"""
COLUMNS = (
    ("work", lambda row: row["name"]),
    ("product", lambda row: _seconds(row.get("product_s"))),
    ("ours", lambda row: _seconds(row.get("ours_s"))),
    ("peer", lambda row: _seconds(row.get("peer_s"))),
    ("ours / product", lambda row: _factor(row.get("ours_over_product"))),
    ("peer / ours", lambda row: _factor(row.get("peer_over_ours"))),
    ("our error", lambda row: _error(row.get("ours_error"))),
    ("error of the peer", lambda row: _error(row.get("peer_error"))),
    ("in gradients", lambda row: _factor(row.get("product_over_gradient", row.get("gradient_equivalents")))),
    ("share of the training", lambda row: _share(row.get("own_share"))),
)


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _factor(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"


def _error(value: float | None) -> str:
    return "" if value is None else f"{value:.0e}"


def table(found: dict) -> str:
    """One run in MyST: where it ran, a table with a line for each kind of work, and what has no column."""
    told, rows = found["machine"], found["rows"]
    where = f"{told['processor']}, {told['cores']} cores, Python {told['python']}, JAX {told['jax']}"
    shown = [(name, [value(row) for row in rows]) for name, value in COLUMNS]
    kept = [(name, values) for name, values in shown if any(values)]
    lines = [[name for name, _ in kept], ["---"] * len(kept), *zip(*(values for _, values in kept), strict=True)]
    memory = [
        f"{row['name']}: peak memory {row['ours_peak_memory_bytes'] / 2**30:.2f} GiB "
        f"for two matrices of {row['n']:,} inputs."
        for row in rows
        if "ours_peak_memory_bytes" in row
    ]
    return "\n".join([where + ".", "", *(f"| {' | '.join(line)} |" for line in lines), "", *memory, ""])


def page(results: Path) -> str:
    """The whole page; without results it says how to get them."""
    files = sorted(results.glob("*.json"))
    parts = [
        f"## {file.stem.replace('_', ' ').capitalize()}\n\n{table(json.loads(file.read_text('utf-8')))}"
        for file in files
    ]
    return "\n".join([INTRODUCTION, *(parts or ["Nothing has been measured in this copy.\n"])])


def write(source: Path) -> None:
    """Write the page; untouched where nothing changed, so that nothing is built twice."""
    text, file = page(source.parent / "benchmarks" / "results"), source / "benchmarks.md"
    if not file.exists() or file.read_text("utf-8") != text:
        file.write_text(text, "utf-8")


def setup(app):
    app.connect("builder-inited", lambda app: write(Path(app.srcdir)))
    return {"parallel_read_safe": True}
