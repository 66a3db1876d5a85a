"""``cosma-sched bounds``: M_R, M_P, M_H and the order whose peak is M_P."""

from __future__ import annotations

from cosma_sched.cli.arguments import (
    Align,
    Debug,
    Dim,
    Dtype,
    Fold,
    Json,
    Model,
    OutputFile,
    Quiet,
    Reserve,
    Tensors,
    TimeLimit,
    Verbose,
    Views,
    dimensions,
    seconds,
    size,
)
from cosma_sched.cli.boundary import complain
from cosma_sched.cli.output import Action, Output, table_width
from cosma_sched.cli.watch import watching

NAME = "bounds"


def command(
    model: Model,
    time_limit: TimeLimit = "60s",
    tensors: Tensors = "activations",
    align: Align = "1",
    reserve: Reserve = "0",
    fold: Fold = "elementwise",
    views: Views = "free",
    dtype: Dtype = None,
    dim: Dim = None,
    json: Json = False,
    output: OutputFile = None,
    quiet: Quiet = False,
    verbose: Verbose = 0,
    debug: Debug = False,
) -> Action:
    """Print the scratchpad sizes that mark a network: M_R (necessary), M_P (least peak over all orders), M_H (half way).

    Example: cosma-sched bounds densenet121
    """
    del debug
    dims, limit = dimensions(dim), seconds("--time-limit", time_limit)
    unit, reserved = size("--align", align), size("--reserve", reserve, may_be_zero=True)
    target = Output(json, output)

    def run() -> int:
        from cosma_sched import api
        from cosma_sched.report.table import bounds_lines
        from cosma_sched.result import Termination

        target.check()
        graph = api.load(model, fold=fold, views=views, dtype=dtype, dims=dims)
        with watching(graph.name, quiet=quiet, verbose=verbose):
            bounds = api.memory_bounds(graph, tensors=tensors, align=unit, reserve=reserved, time_limit=limit)
        target.deliver(bounds.to_json(), bounds_lines(bounds, graph, width=table_width(), all_rows=verbose > 0))
        if bounds.termination == Termination.INTERRUPTED:
            complain("interrupted: M_P is the best peak that was found")
            return 130
        return 0

    return run
