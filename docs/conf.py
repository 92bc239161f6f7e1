"""How the documentation is built: offline, with every example executed and every warning an error."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))
sys.path.insert(0, str(Path(__file__).parents[1] / "src"))
# The kernels that run the examples start fresh: they need this package and this interpreter.
os.environ["PYTHONPATH"] = str(Path(__file__).parents[1] / "src")
os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"
# A plot of a page carries its script with it.
os.environ["PLOTLY_RENDERER"] = "notebook"

from widthwise._version import __version__

project = "widthwise"
author = "The widthwise developers"
copyright = "2026, The widthwise developers"
release = version = __version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinxcontrib.bibtex",
    # In docs/_ext: formulas as MathML, dollars in docstrings, theory pages, benchmarks, no request to other machines.
    "mathml",
    "docstrings",
    "theory_pages",
    "benchmark_page",
    "offline",
]
exclude_patterns = ["_build", "_ext", "jupyter_execute", ".jupyter_cache"]

html_theme = "furo"
html_title = f"widthwise {release}"
html_static_path = ["_static"]
html_math_renderer = "mathml"
html_theme_options = {"footer_icons": []}

myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_show_tb = True
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_merge_streams = True

autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
default_role = "code"

bibtex_bibfiles = ["../src/widthwise/claims/references.bib"]
bibtex_default_style = "plain"
