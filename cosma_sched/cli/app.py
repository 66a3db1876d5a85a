"""The commands put together: from arguments to an action."""

from __future__ import annotations

import importlib.metadata
import sys
from typing import Annotated

import typer
import typer.core
import typer.main

from cosma_sched import __version__
from cosma_sched.cli import backends, bounds, curve, experts, fuse, inspection, pack, schedule, solve, verify, zoo
from cosma_sched.cli import map as mapping
from cosma_sched.cli.boundary import usage_line
from cosma_sched.cli.output import Action, show
from cosma_sched.errors import UsageError

_SOLVER_PACKAGES = ("ortools", "pulp", "onnx", "networkx", "numpy")

_ClickException: type[Exception] = typer.BadParameter.__mro__[2]
"""Of click, or of the copy of click inside newer releases of typer."""

_HELP = """Plan how a neural network runs on an accelerator whose on-chip memory is too small for it, and prove how good the plan is.

Example: cosma-sched solve densenet121 --scratchpad M_H
"""

app = typer.Typer(
    help=_HELP,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
)
for _command in (solve, bounds, curve, pack, mapping, fuse, schedule, experts, verify, zoo, inspection, backends):
    app.command(_command.NAME)(_command.command)


def _print_version(wanted: bool) -> None:
    if wanted:
        lines = [f"cosma-sched {__version__}", f"python {sys.version.split()[0]}"]
        lines += [f"{package} {_version_of(package)}" for package in _SOLVER_PACKAGES]
        show("\n".join(lines) + "\n")
        raise typer.Exit


def _version_of(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


@app.callback()
def _top(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the versions of this program and of the solvers."),
    ] = False,
) -> None:
    del version


def parse(arguments: list[str]) -> Action | int:
    """Turn the arguments into an action; what help and version leave is an exit code.

    The action runs outside typer, which would take an EOFError of a solver's pipe for a user's end of input.

    Raises
    ------
    UsageError
        If the arguments are none that the program knows.
    """
    try:
        parsed = typer.main.get_command(app).main(arguments, prog_name="cosma-sched", standalone_mode=False)
    except _ClickException as error:
        raise UsageError(usage_line(error)) from error
    except typer.Abort as error:
        raise KeyboardInterrupt from error
    except SystemExit:  # rich's way when the reader of the help has gone away
        return 0
    return parsed if callable(parsed) else int(parsed or 0)
