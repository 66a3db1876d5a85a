"""``cosma-sched curve``: least traffic against scratchpad size, every break point."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cosma_sched.cli.arguments import (
    Debug,
    Dim,
    Dtype,
    Fold,
    Json,
    Model,
    OutputFile,
    Quiet,
    TimeLimit,
    Verbose,
    Views,
    dimensions,
    seconds,
    size,
    whole,
)
from cosma_sched.cli.boundary import complain
from cosma_sched.cli.output import Action, Output, table_width
from cosma_sched.cli.watch import watching

if TYPE_CHECKING:
    from cosma_sched.graph import Graph
    from cosma_sched.memory.curve_answer import MemoryCurve

NAME = "curve"


def command(
    model: Model,
    order: Annotated[str, typer.Option(metavar="free|given", help="Which operator orders are allowed.")] = "free",
    smallest: Annotated[
        str | None, typer.Option("--from", metavar="SIZE", help="Smallest scratchpad; M_R unless given.", show_default=False)
    ] = None,
    largest: Annotated[
        str | None, typer.Option("--to", metavar="SIZE", help="Largest scratchpad; where traffic ends unless given.", show_default=False)
    ] = None,
    time_limit: TimeLimit = "5m",
    solver: Annotated[str, typer.Option(metavar="cpsat|cbc|highs", help="Back end of the linear programs.")] = "cpsat",
    workers: Annotated[
        str | None, typer.Option(metavar="N", help="Threads; the cores, at most 8, unless given.", show_default=False)
    ] = None,
    seed: Annotated[str, typer.Option(metavar="N", help="Seed of the solver.")] = "0",
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
    """Print how much DRAM traffic each scratchpad size costs at least: every size at which it changes, with the proof.

    A run that was stopped goes on from its -o file.

    Example: cosma-sched curve densenet121
    """
    del debug
    dims, limit = dimensions(dim), seconds("--time-limit", time_limit)
    low = None if smallest is None else size("--from", smallest)
    high = None if largest is None else size("--to", largest)
    threads, number = None if workers is None else whole("--workers", workers, least=1), whole("--seed", seed, least=0)
    target = Output(json, output)

    def run() -> int:
        from cosma_sched import api
        from cosma_sched.report.curve import curve_lines
        from cosma_sched.result import Termination

        target.check()
        graph = api.load(model, fold=fold, views=views, dtype=dtype, dims=dims)
        with watching(graph.name, quiet=quiet, verbose=verbose) as observers:
            curve = api.memory_curve(
                graph,
                order=order,
                smallest=low,
                largest=high,
                solver=solver,
                time_limit=limit,
                workers=threads,
                seed=number,
                known=_earlier(output, graph, order),
                observers=observers,
            )
        if low is not None and low < curve.from_bytes:
            complain(f"--from {low} is below M_R; the curve starts at {curve.from_bytes}")
        target.deliver(curve.to_json(), curve_lines(curve, graph.name, width=table_width()))
        if curve.termination == Termination.INTERRUPTED:
            complain("interrupted: smaller sizes are missing")
            return 130
        return 0

    return run


def _earlier(path: str | None, graph: Graph, order: str) -> MemoryCurve | None:
    """Return the unfinished curve of the same network and order that the output file holds, if it does."""
    from cosma_sched import api
    from cosma_sched.errors import InputError
    from cosma_sched.memory.curve_answer import MemoryCurve
    from cosma_sched.result import Termination

    if path in {None, "-"} or not Path(str(path)).exists():
        return None
    try:
        earlier = api.load_result(str(path))
    except InputError:
        return None
    if not isinstance(earlier, MemoryCurve) or earlier.termination == Termination.PROVED:
        return None
    return earlier if (earlier.provenance.sha256, earlier.order) == (graph.sha256, order) else None
