"""Where the command line begins and ends: arguments, errors, exit status."""

import os
import platform
import sys
import traceback
from collections.abc import Sequence

import jax
import tyro

from widthwise._version import __version__
from widthwise.numerics import reject

from .check import check_claims
from .console import say, write_line
from .critical import write_critical
from .kernel import write_kernels
from .list import list_claims
from .report import write_report

DESCRIPTION = """\
What the theory of wide neural networks says about your network and your data, and whether it is so.

Begin with `widthwise report`: it trains a network on a built-in data set and writes a page about it.
`widthwise COMMAND --help` explains a command; `widthwise --version` names the version.

Exit status: 0 done, 1 a claim is violated, 2 the input cannot be used, 130 interrupted.
"""
COMMANDS = {
    "report": write_report,
    "list": list_claims,
    "check": check_claims,
    "kernel": write_kernels,
    "critical": write_critical,
}
_UNUSABLE, _INTERRUPTED = 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line on ``argv``, by default the arguments of the process, and return the exit status.

    >>> main(["check", "no-such-claim"])
    2
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments == ["--version"]:
        write_line(f"widthwise {__version__} (JAX {jax.__version__}, Python {platform.python_version()})")
        return 0
    jax.config.update("jax_enable_x64", True)
    try:
        status = tyro.extras.subcommand_cli_from_dict(
            COMMANDS, prog="widthwise", description=DESCRIPTION, args=arguments or ["--help"]
        )
        sys.stdout.flush()  # a pipe that broke shows here
        return status
    except KeyboardInterrupt:
        say("Interrupted. What was finished before is whole, and nothing is half-written.", style="yellow")
        return _INTERRUPTED
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except ValueError as refusal:
        if not _is_refusal(refusal):
            raise
        say(f"widthwise: {refusal}", style="bold red")
        return _UNUSABLE


def _is_refusal(error: ValueError) -> bool:
    """Tell what `reject` says to the user from a defect, which keeps its traceback."""
    return any(frame.f_code.co_name == reject.__name__ for frame, _ in traceback.walk_tb(error.__traceback__))
