"""``cosma-sched solve``: order, addresses, spills and retrieves, with a proven bound."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    ratio,
    seconds,
    size,
    whole,
)
from cosma_sched.cli.boundary import complain
from cosma_sched.cli.output import Action, Output, table_width
from cosma_sched.cli.solve_options import (
    AllowRelocation,
    Gap,
    Method,
    Order,
    Pin,
    Placement,
    Profile,
    RequireOptimal,
    Scratchpad,
    Seed,
    Solver,
    Workers,
    WriteModel,
    offsets,
)
from cosma_sched.cli.watch import watching
from cosma_sched.errors import UsageError
from cosma_sched.units import parse_size

if TYPE_CHECKING:
    from cosma_sched.memory.plan import MemoryPlan

NAME = "solve"
_BUDGETS = ("M_R", "M_H", "M_P")


def command(
    model: Model,
    scratchpad: Scratchpad,
    order: Order = "free",
    method: Method = "auto",
    placement: Placement = None,
    time_limit: TimeLimit = "60s",
    gap: Gap = "0",
    require_optimal: RequireOptimal = False,
    tensors: Tensors = "activations",
    align: Align = "1",
    reserve: Reserve = "0",
    pin: Pin = None,
    allow_relocation: AllowRelocation = False,
    solver: Solver = "cpsat",
    profile: Profile = "default",
    workers: Workers = None,
    seed: Seed = "0",
    write_model: WriteModel = None,
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
    unit, reserved, pins = size("--align", align), size("--reserve", reserve, may_be_zero=True), offsets(pin)
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
                placement=placement,
                tensors=tensors,
                align=unit,
                reserve=reserved,
                pins=pins,
                allow_relocation=allow_relocation,
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
    from cosma_sched.report.table import UNANSWERED, reason_lines
    from cosma_sched.result import Status, Termination

    refused = plan.status == Status.UNKNOWN and any(reason.rule in UNANSWERED for reason in plan.reasons)
    if plan.status == Status.INFEASIBLE or refused:
        for reason in plan.reasons:
            complain("\n".join(reason_lines(reason)))
        return 4 if refused else 3
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
