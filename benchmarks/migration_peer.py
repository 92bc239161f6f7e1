"""The rows of docs/migration.md by neural-tangents, in its own environment; tests compare ours with what is written."""

import json
import re
from pathlib import Path

import jax
import numpy as np

jax.config.update("jax_enable_x64", True)
from neural_tangents import stax  # noqa: E402  after the precision is set

ROOT = Path(__file__).parents[1]
page = (ROOT / "docs" / "migration.md").read_text("utf-8")
start, *_ = re.findall(r"^```\{code-cell\}\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
rows = re.findall(r"^## ([^\n]*)\n.*?^```\{code-block\} python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)

scope = {"stax": stax}
exec("\n".join(line for line in start.splitlines() if "widthwise" not in line), scope)
written = {}
for title, program in rows:
    exec(program, scope)
    found = scope["K"] if isinstance(scope["K"], list) else [scope["K"]]
    written[title] = [{name: np.asarray(getattr(one, name)).tolist() for name in ("nngp", "ntk")} for one in found]
(ROOT / "tests" / "networks" / "migration.json").write_text(json.dumps(written, indent=1) + "\n")
