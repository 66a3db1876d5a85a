"""``cosma-sched backends``: which solvers are here and what each can do."""

from __future__ import annotations

from cosma_sched.cli.arguments import Debug, Json
from cosma_sched.cli.output import Action, Output

NAME = "backends"


def command(json: Json = False, debug: Debug = False) -> Action:
    """List the solvers: version, whether each can be used here, what it can do. Imports none of them.

    Example: cosma-sched backends
    """
    del debug

    def run() -> int:
        from cosma_sched.backends import available
        from cosma_sched.report.table import backend_lines

        rows = available()
        document = {
            "schema": "cosma-sched/backends/1",
            "backends": [
                {
                    "name": row.name,
                    "solver": row.solver,
                    "package": row.package,
                    "version": row.version,
                    "available": row.available,
                    "reason": row.reason or None,
                    "capabilities": sorted(row.capabilities),
                }
                for row in rows
            ],
        }
        Output(json).deliver(document, backend_lines(rows))
        return 0

    return run
