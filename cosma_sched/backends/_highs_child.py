"""The program that runs HiGHS: one request on standard input, log lines and one result on what was standard output.

HiGHS prints to file descriptor 1 whatever it is told, and cannot be interrupted; so it lives in a process of its own, which ends when its
standard input does. This file is run by its path and imports nothing of the package.
"""

from __future__ import annotations

import datetime
import json
import math
import os
import sys
import threading
import time
from typing import Any

MARK = "\x1e"
"""First character of the line that holds the result; all other lines are HiGHS's log."""


def main() -> None:
    """Read a request, solve it, write the result."""
    reply = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    request = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.path.extend(entry for entry in request["path"] if entry not in sys.path)
    try:
        result = _solve(request, reply)
    except ImportError as error:
        result = {"missing": str(error)}
    except AttributeError as error:  # OR-Tools 9.15 hides every refusal of HiGHS behind one
        result = {"refused": str(error.__context__ or error)}
    reply.write(MARK + json.dumps(result) + "\n")
    reply.flush()


def _end_with_parent() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)


def _solve(request: dict[str, Any], reply: Any) -> dict[str, Any]:
    from ortools.math_opt.python import mathopt

    model = mathopt.Model.from_model_proto(_model(request))
    variables = list(model.variables())
    hints = []
    if request["start"] is not None:
        hints.append(mathopt.SolutionHint(variable_values=dict(zip(variables, request["start"], strict=True))))
    limit = None if request["deadline"] is None else datetime.timedelta(seconds=max(0.0, request["deadline"] - time.time()))
    parameters = mathopt.SolveParameters(
        time_limit=limit, node_limit=request["node_limit"], random_seed=request["seed"], relative_gap_tolerance=request["gap"]
    )
    for key, value in request["parameters"].items():
        _set(parameters.highs, key, value)
    result = mathopt.solve(
        model,
        mathopt.SolverType.HIGHS,
        params=parameters,
        model_params=mathopt.ModelSolveParameters(solution_hints=hints),
        msg_cb=lambda lines: reply.write("".join(f"{line}\n" for line in lines)),
    )
    bound = result.termination.objective_bounds.dual_bound
    return {
        "reason": result.termination.reason.name,
        "detail": result.termination.detail,
        "bound": bound if math.isfinite(bound) else None,
        "nodes": result.solve_stats.node_count,
        "values": list(result.variable_values(variables)) if result.has_primal_feasible_solution() else None,
    }


def _set(options: Any, key: str, value: bool | int | float | str) -> None:
    table = {bool: options.bool_options, int: options.int_options, float: options.double_options, str: options.string_options}
    table[type(value)][key] = value


def _model(request: dict[str, Any]) -> Any:
    """Fill the message directly: exact numbers, no names, and faster than an expression at a time."""
    from ortools.math_opt import model_pb2

    message = model_pb2.ModelProto()
    variables, rows, matrix = message.variables, message.linear_constraints, message.linear_constraint_matrix
    count = len(request["lows"])
    variables.ids.extend(range(count))
    variables.lower_bounds.extend(request["lows"])
    variables.upper_bounds.extend(request["highs"])
    variables.integers.extend([True] * count)
    message.objective.linear_coefficients.ids.extend(request["objective_columns"])
    message.objective.linear_coefficients.values.extend(request["objective_coefficients"])
    for number, (low, high, columns, coefficients) in enumerate(request["rows"]):
        rows.ids.append(number)
        rows.lower_bounds.append(-math.inf if low is None else low)
        rows.upper_bounds.append(math.inf if high is None else high)
        matrix.row_ids.extend([number] * len(columns))
        matrix.column_ids.extend(columns)
        matrix.coefficients.extend(coefficients)
    return message


if __name__ == "__main__":
    main()
