"""``cosma-sched verify``: check a saved result again, from the model and the file alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any

import typer

from cosma_sched.cli.arguments import Debug, Json
from cosma_sched.cli.boundary import complain
from cosma_sched.cli.output import Action, Output

NAME = "verify"
_VERIFICATION_FAILED = 7
_MOST_SHOWN = 100


def command(
    result: Annotated[str, typer.Argument(metavar="RESULT.json", help="A saved result; - for standard input.", show_default=False)],
    model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="The model it was made for, if not the one it names.", show_default=False)
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> Action:
    """Check every claim of a saved result: a memory plan against its model, a packing against its buffers' file, a mapping by itself.

    Example: cosma-sched verify plan.json
    """
    del debug

    def run() -> int:
        from cosma_sched import api

        loaded = api.load_result(result)
        violations: Sequence[Any] = api.recheck(loaded, model, result_path=result)
        document = {
            "schema": "cosma-sched/verification/1",
            "result": result,
            "verified": not violations,
            "violations": [asdict(violation) for violation in violations],
        }
        count = f"{len(violations)} violation{'' if len(violations) == 1 else 's'}"
        lines = [count, *(f"  {violation}" for violation in violations[:_MOST_SHOWN])]
        if len(violations) > _MOST_SHOWN:
            lines.append(f"  and {len(violations) - _MOST_SHOWN} more; --json lists all")
        Output(json).deliver(document, lines)
        if violations:
            complain(f"{result}: verification failed")
        return _VERIFICATION_FAILED if violations else 0

    return run
