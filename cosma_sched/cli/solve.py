"""``cosma-sched solve``: order, addresses, spills and retrieves, with a proven bound."""

from __future__ import annotations

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
    ratio,
    seconds,
    whole,
)
from cosma_sched.cli.boundary import complain
from cosma_sched.cli.output import Action, Output, table_width
from cosma_sched.cli.watch import watching
from cosma_sched.errors import UsageError
from cosma_sched.units import parse_size

if TYPE_CHECKING:
    from cosma_sched.memory.plan import MemoryPlan

NAME = "solve"
_SOLVING = "Solving"
_BUDGETS = ("M_R", "M_H", "M_P")


def command(
    model: Model,
    scratchpad: Annotated[
        str, typer.Option(metavar="SIZE", help="Bytes, 512KiB, 2MiB, or a budget of the network: M_R, M_H, M_P.", show_default=False)
    ],
    order: Annotated[str, typer.Option(metavar="free|given|min-peak", help="Which operator orders are allowed.")] = "free",
    method: Annotated[str, typer.Option(metavar="auto|exact", help="How to plan.")] = "auto",
    time_limit: TimeLimit = "60s",
    gap: Annotated[str, typer.Option(metavar="RATIO", help="Stop when (traffic - bound) / traffic is this small.")] = "0",
    require_optimal: Annotated[
        bool, typer.Option("--require-optimal", help="End with exit code 4 unless the plan is proven optimal.")
    ] = False,
    solver: Annotated[
        str, typer.Option(metavar="cpsat|cbc|highs", help="Back end of the linear programs.", rich_help_panel=_SOLVING)
    ] = "cpsat",
    profile: Annotated[
        str, typer.Option(metavar="NAME", help="Parameters of the back end, from solvers/.", rich_help_panel=_SOLVING)
    ] = "default",
    workers: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="Threads; the cores, at most 8, unless given. One repeats exactly.",
            rich_help_panel=_SOLVING,
            show_default=False,
        ),
    ] = None,
    seed: Annotated[str, typer.Option(metavar="N", help="Seed of the solver.", rich_help_panel=_SOLVING)] = "0",
    write_model: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Write the linear program as MPS.", rich_help_panel=_SOLVING, show_default=False),
    ] = None,
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
    """Plan the memory of a network: order, addresses, spills and retrieves, with the least DRAM traffic and the proof.

    Example: cosma-sched solve densenet121 --scratchpad M_H
    """
    del debug
    if scratchpad not in _BUDGETS:
        _check_size(scratchpad)
    dims, limit, least_gap = dimensions(dim), seconds("--time-limit", time_limit), ratio("--gap", gap)
    threads, number = None if workers is None else whole("--workers", workers, least=1), whole("--seed", seed, least=0)
    target = Output(json, output)

    def run() -> int:
        from cosma_sched import api
        from cosma_sched.report.table import plan_lines

        target.check()
        graph = api.load(model, fold=fold, views=views, dtype=dtype, dims=dims)
        with watching(graph.name, quiet=quiet, verbose=verbose) as observers:
            plan = api.plan_memory(
                graph,
                scratchpad=scratchpad,
                order=order,
                method=method,
                solver=solver,
                profile=profile,
                time_limit=limit,
                gap=least_gap,
                workers=threads,
                seed=number,
                write_model=write_model,
                observers=observers,
            )
        target.deliver(plan.to_json(), plan_lines(plan, graph, width=table_width(), all_rows=verbose > 0))
        return _ending(plan, require_optimal)

    return run


def _check_size(text: str) -> None:
    try:
        parse_size(text)
    except UsageError as error:
        raise UsageError(f"--scratchpad: {error}{', or a budget: M_R, M_H, M_P' if text[:1] in 'Mm' else ''}") from None


def _ending(plan: MemoryPlan, require_optimal: bool) -> int:
    """Return the exit code of a plan and say on standard error what is not said by the result."""
    from cosma_sched.report.table import reason_lines
    from cosma_sched.result import Status, Termination

    if plan.status == Status.INFEASIBLE:
        for reason in plan.reasons:
            complain("\n".join(reason_lines(reason)))
        return 3
    if plan.termination == Termination.INTERRUPTED:
        complain("interrupted: this is the best that was found" if plan.order is not None else "interrupted: nothing was found")
        return 130
    if plan.status == Status.UNKNOWN:
        complain(f"nothing found: no plan within {plan.seconds:.1f} s and none shown to be impossible; try a longer --time-limit")
        return 4
    if require_optimal and plan.status != Status.OPTIMAL:
        complain("not proven optimal, which --require-optimal asks for; try a longer --time-limit")
        return 4
    return 0
