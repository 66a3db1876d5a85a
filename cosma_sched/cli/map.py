"""``cosma-sched map``: the best mapping of every layer, with a proof."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cosma_sched.cli import map_options as options
from cosma_sched.cli.arguments import (
    Debug,
    Dim,
    Dtype,
    Fold,
    Json,
    OutputFile,
    Quiet,
    TimeLimit,
    Verbose,
    Views,
    dimensions,
    seconds,
    whole,
)
from cosma_sched.cli.boundary import complain
from cosma_sched.cli.output import Action, Output, table_width
from cosma_sched.cli.watch import watching
from cosma_sched.errors import UsageError, shown, suggestion

if TYPE_CHECKING:
    from cosma_sched.graph import Graph
    from cosma_sched.mapping.answer import MappingResult
    from cosma_sched.mapping.layer import Layer, Workload

NAME = "map"


def command(
    accelerator: options.Accelerator,
    model: options.Model = None,
    objective: options.Objective = "edp",
    method: options.Method = "exact",
    evaluations: options.Evaluations = None,
    halo: options.Halo = "parity",
    vector_ops: options.VectorOps = "free",
    skip_unsupported: options.SkipUnsupported = False,
    time_limit: TimeLimit = "none",
    workers: options.Workers = None,
    seed: options.Seed = "0",
    layer: options.LayerName = None,
    tradeoffs: options.Tradeoffs = None,
    evaluate: options.Evaluate = None,
    dims: options.Dims = None,
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
    """Find the best mapping of every layer on an accelerator: tiles, loop orders, energy and cycles, with a proof.

    Example: cosma-sched map resnet18 --accelerator gemmini_small
    """
    del debug
    target = Output(json, output)
    reading = {"fold": fold, "views": views, "dtype": dtype, "dims": dimensions(dim)}
    how = {
        "objective": objective,
        "method": method,
        "evaluations": None if evaluations is None else whole("--evaluations", evaluations, least=1),
        "halo": halo,
        "vector_ops": vector_ops,
        "workers": None if workers is None else whole("--workers", workers, least=1),
        "seed": whole("--seed", seed, least=0),
        "time_limit": seconds("--time-limit", time_limit),
        "skip_unsupported": skip_unsupported,
        "tradeoffs": tradeoffs is not None,
    }
    if evaluate is not None:
        given = options.layer_of(dims)
        if model is not None:
            raise UsageError("--evaluate costs one mapping of the layer that --dims gives; it takes no MODEL")
        return lambda: _evaluate(evaluate, given, accelerator, halo, target)
    if model is None:
        raise UsageError("which model? give a MODEL, or one mapping with --evaluate and --dims")
    if dims is not None:
        raise UsageError("--dims belongs to --evaluate; --dim NAME=N gives the size of a symbolic dimension")
    return lambda: _map(_Request(model, reading, accelerator, how, layer, tradeoffs, quiet, verbose), target)


@dataclass(frozen=True, slots=True)
class _Request:
    """A parsed command line: how to read the model, how to map it, what to show."""

    model: str
    reading: Mapping[str, Any]
    accelerator: str
    how: Mapping[str, Any]
    layer: str | None
    tradeoffs: str | None
    quiet: bool
    verbose: int


def _map(request: _Request, target: Output) -> int:
    from cosma_sched.files import write_whole
    from cosma_sched.fusion.calls import fusion_ceiling
    from cosma_sched.mapping.calls import map_layers
    from cosma_sched.report.mapping import mapping_lines, tradeoff_csv

    target.check()
    if request.tradeoffs is not None:
        Output(path=request.tradeoffs).check()
    network, workload = _workload(request.model, request.reading, charged=request.how["vector_ops"] == "charged")
    if request.layer is not None:
        _check_layer(request.layer, workload)
    with watching(workload.name, quiet=request.quiet, verbose=request.verbose) as observers:
        result = map_layers(workload, request.accelerator, **request.how, observers=observers)
    if result.layers:
        ceiling = fusion_ceiling(network, result.accelerator, vector_ops=request.how["vector_ops"])
        result = result.replace(ceiling_edp=ceiling.edp)
    if request.layer is not None and result.layers:
        _show_layer(result, request.layer, target)
    else:
        lines = mapping_lines(result, workload.name, width=table_width(), all_rows=request.verbose > 0)
        target.deliver(result.to_json(), lines)
    if request.tradeoffs is not None and result.layers:
        write_whole(request.tradeoffs, tradeoff_csv(result))
    return _ending(result)


def _workload(model: str, reading: Mapping[str, Any], *, charged: bool) -> tuple[Graph | Workload, Workload]:
    """Return what was read, and its layers."""
    from cosma_sched import api
    from cosma_sched.mapping.extract import workload_of
    from cosma_sched.mapping.layer_table import read_layer_table

    if model.lower().endswith(".csv"):
        wrong = [name for name in ("dtype", "dims") if reading[name]]
        if wrong:
            raise UsageError(f"--{wrong[0].removesuffix('s')}: {shown(model)} is a layer table, whose numbers are taken as they are")
        table = read_layer_table(model)
        return table, table
    graph = api.load(model, **reading)
    return graph, workload_of(graph, charged=charged)


def _check_layer(name: str, workload: Workload) -> None:
    known = [layer.name for layer in workload.layers]
    if name not in known:
        listed = ", ".join(known[:8]) + (", ..." if len(known) > 8 else "")
        raise UsageError(f"--layer {shown(name)}: no such layer; layers are {listed}{suggestion(name, known)}")


def _show_layer(result: MappingResult, name: str, target: Output) -> None:
    from cosma_sched.mapping.calls import evaluate_mapping
    from cosma_sched.report.mapping import evaluation_lines, evaluation_to_json

    entry = next(entry for entry in result.layers if entry.layer.name == name)
    found = evaluate_mapping(entry.mapping, entry.layer, result.accelerator, halo=str(result.options["halo"]))
    target.deliver(evaluation_to_json(found), evaluation_lines(found))


def _evaluate(mapping: str, layer: Layer, accelerator: str, halo: str, target: Output) -> int:
    from cosma_sched.mapping.calls import evaluate_mapping
    from cosma_sched.report.mapping import evaluation_lines, evaluation_to_json

    target.check()
    found = evaluate_mapping(mapping, layer, accelerator, halo=halo)
    target.deliver(evaluation_to_json(found), evaluation_lines(found))
    return 0


def _ending(result: MappingResult) -> int:
    """Return the exit code of a result and say on standard error what is not said by it."""
    from cosma_sched.report.mapping import reason_lines
    from cosma_sched.result import Status, Termination

    if result.status == Status.INFEASIBLE:
        for reason in result.reasons:
            complain("\n".join(reason_lines(reason, result.accelerator.name)))
        return 3
    if result.termination == Termination.INTERRUPTED:
        complain("interrupted: this is the best that was found")
        return 130
    return 0
