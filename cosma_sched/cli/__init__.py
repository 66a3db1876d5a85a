"""The command ``cosma-sched``: one module per subcommand, each of which parses, calls and prints.

Loading the commands loads typer and rich, nothing heavier; a command imports what it needs when it runs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from cosma_sched.cli.boundary import Boundary

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Parameters
    ----------
    argv
        The arguments after the program's name; those of the process by default.

    Returns
    -------
    int
        0 a verified result, 2 usage, 3 infeasible, 4 nothing found or proven within the limits, 5 bad input, 6 something is not installed,
        7 verification failed, 130 interrupted, 1 a bug.
    """
    arguments = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    with Boundary(debug="--debug" in arguments) as boundary:
        from cosma_sched.cli.app import parse  # inside, so that Ctrl-C while typer loads ends in one line too

        parsed = parse(arguments)
        boundary.exit_code = parsed() if callable(parsed) else parsed
    return boundary.exit_code
