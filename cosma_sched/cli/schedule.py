"""``cosma-sched schedule``: a network in pieces on several cores."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cosma_sched.cli import schedule_options as options
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

if TYPE_CHECKING:
    from cosma_sched.graph import Graph
    from cosma_sched.multicore.schedule import Schedule

NAME = "schedule"
_MOST_WORKERS = 8


def command(
    model: Model,
    accelerator: options.Accelerator,
    objective: options.Objective = "latency",
    method: options.Method = "exact",
    split: options.Split = "AUTO",
    block: options.Block = None,
    costs: options.Costs = "analytic",
    pareto: options.Pareto = None,
    addresses: options.Addresses = False,
    time_limit: TimeLimit = "5m",
    inputs: options.Inputs = "fetched",
    weights: options.Weights = "fetched",
    outputs: options.Outputs = "written",
    partial_sum_factor: options.PartialSums = "1",
    softmax: options.Softmax = "inplace",
    timing: options.Timing = "strict",
    capacity: options.Capacity = None,
    capacity_rule: options.CapacityRule = None,
    memory_scope: options.MemoryScope = "total",
    gap: options.Gap = "0",
    workers: options.Workers = None,
    seed: options.Seed = "0",
    fold: Fold = "elementwise",
    views: Views = "free",
    dtype: Dtype = None,
    dim: Dim = None,
    parameters: options.Parameters = None,
    trace: options.Trace = None,
    memory_csv: options.MemoryCsv = None,
    mapping_yaml: options.MappingYaml = None,
    json: Json = False,
    output: OutputFile = None,
    quiet: Quiet = False,
    verbose: Verbose = 0,
    debug: Debug = False,
) -> Action:
    """Schedule a network in pieces on several cores: who runs where and when, what moves, what lies where, with a bound.

    Example: cosma-sched schedule attention-head:512x128 --accelerator duo --split rows=4
    """
    del debug
    how = {
        "objective": objective,
        "method": method,
        "split": split,
        "block": None if block is None else whole("--block", block, least=1),
        "costs": costs,
        "time_limit": seconds("--time-limit", time_limit),
        "inputs": inputs,
        "weights": weights,
        "outputs": outputs,
        "partial_sum_factor": whole("--partial-sum-factor", partial_sum_factor, least=1),
        "softmax": softmax,
        "timing": timing,
        "capacity": options.capacities(capacity),
        "capacity_rule": capacity_rule,
        "memory_scope": memory_scope,
        "gap": ratio("--gap", gap),
        "workers": min(_MOST_WORKERS, os.cpu_count() or 1) if workers is None else whole("--workers", workers, least=1),
        "seed": whole("--seed", seed, least=0),
    }
    named = "auto" if parameters is None else tuple(name for name in parameters.split(",") if name)
    reading: dict[str, Any] = {"fold": fold, "views": views, "dtype": dtype, "dims": dimensions(dim)}
    reading |= {"parameters": named, "functions": "keep"}
    points = None if pareto is None else whole("--pareto", pareto, least=2)
    for option, path in (("--trace", trace), ("--memory-csv", memory_csv), ("--mapping-yaml", mapping_yaml)):
        if path == "-":
            raise UsageError(f"{option}: needs the name of a file; standard output is for the result")
    files = {"trace": trace, "memory": memory_csv, "mapping": mapping_yaml}
    if points is not None:
        about_one = {"--trace": trace, "--memory-csv": memory_csv, "--mapping-yaml": mapping_yaml, "--addresses": addresses}
        _refuse_beside_front(about_one, gap=ratio("--gap", gap))
    request = _Request(model, reading, accelerator, how, points, addresses, files, quiet, verbose)
    return lambda: _run(request, Output(json, output))


def _refuse_beside_front(given: Mapping[str, object], *, gap: float) -> None:
    if gap:
        raise UsageError("--gap ends the search for one schedule; the schedules of --pareto are each searched without it")
    for option, value in given.items():
        if value and option == "--gap":
            raise UsageError("--gap does not apply to --pareto, whose schedules are each searched to the end of their time")
        if value:
            raise UsageError(f"{option} is about one schedule, and --pareto gives several; schedule the one you want with --capacity")


@dataclass(frozen=True, slots=True)
class _Request:
    """A parsed command line: how to read the model, how to schedule it, what to show and write."""

    model: str
    reading: Mapping[str, Any]
    accelerator: str
    how: Mapping[str, Any]
    points: int | None
    addresses: bool
    files: Mapping[str, str | None]
    quiet: bool
    verbose: int


def _run(request: _Request, target: Output) -> int:
    from cosma_sched import api
    from cosma_sched.multicore.calls import schedule, schedule_front
    from cosma_sched.multicore.front import ScheduleFront
    from cosma_sched.report.schedule import front_lines, schedule_lines
    from cosma_sched.result import Termination

    target.check()
    for path in request.files.values():
        Output(path=path).check()
    graph = api.load(request.model, **request.reading)
    with watching(graph.name, quiet=request.quiet, verbose=request.verbose) as observers:
        if request.points is not None:
            how = {name: value for name, value in request.how.items() if name != "gap"}
            front = schedule_front(graph, request.accelerator, request.points, **how, observers=observers)
            target = target if front or target.path == "-" else Output(target.json)  # no schedules replace no file
            target.deliver(ScheduleFront(front).to_json(), front_lines(front, graph.name, width=table_width()))
            if front:
                return _ending(next((one for one in front if one.termination == Termination.INTERRUPTED), front[0]))
            complain("nothing found within the time limit; try a longer --time-limit")
            return 4
        found = schedule(graph, request.accelerator, **request.how, addresses=request.addresses, observers=observers)
    if not found.nodes and target.path is not None and os.path.exists(target.path):
        target = Output(target.json)  # a file that is there is not replaced by no schedule
    target.deliver(found.to_json(), schedule_lines(found, graph.name, width=table_width(), all_rows=request.verbose > 0))
    _write(request.files, found, graph)
    return _ending(found)


def _write(paths: Mapping[str, str | None], found: Schedule, graph: Graph) -> None:
    from cosma_sched.files import write_whole
    from cosma_sched.report.stream import mapping_yaml
    from cosma_sched.report.trace import memory_csv, trace_json

    if not found.nodes:
        return
    if (trace := paths["trace"]) is not None:
        write_whole(trace, trace_json(found))
    if (memory := paths["memory"]) is not None:
        write_whole(memory, memory_csv(found))
    if (mapping := paths["mapping"]) is not None:
        write_whole(mapping, mapping_yaml(found, graph))


def _ending(found: Schedule) -> int:
    """Return the exit code of a schedule and say on standard error what is not said by it."""
    from cosma_sched.report.schedule import reason_lines
    from cosma_sched.result import Status, Termination

    if found.status == Status.INFEASIBLE:
        for reason in found.reasons:
            complain("\n".join(reason_lines(reason)))
        return 3
    if found.termination == Termination.INTERRUPTED:
        complain("interrupted: this is the best that was found" if found.nodes else "interrupted: nothing was found")
        return 130
    if found.status == Status.UNKNOWN:
        complain(f"nothing found within {found.seconds:.1f} s; try a longer --time-limit")
        return 4
    return 0
