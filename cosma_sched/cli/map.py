"""``cosma-sched map``: the best mapping of every layer, with a proof."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

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
    from cosma_sched.mapping.answer import MappingResult
    from cosma_sched.mapping.layer import Layer, Workload

NAME = "map"
_SEARCH = "Searching"
_ONE = "One mapping"


def command(
    accelerator: Annotated[str, typer.Option(metavar="ACC", help="A built-in name such as gemmini, or a YAML file.", show_default=False)],
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL]", help="A zoo name, an ONNX file, a graph JSON, a layer table (CSV), or - for graph JSON.", show_default=False
        ),
    ] = None,
    objective: Annotated[str, typer.Option(metavar="edp|energy|latency", help="What to minimise, for the whole network.")] = "edp",
    method: Annotated[
        str, typer.Option(metavar="exact|random|gradient", help="exact: the whole space of every layer; the others are baselines.")
    ] = "exact",
    evaluations: Annotated[
        str | None,
        typer.Option(metavar="N", help="Mappings of each layer that a baseline scores.", show_default=False, rich_help_panel=_SEARCH),
    ] = None,
    halo: Annotated[
        str, typer.Option(metavar="parity|reuse", help="Input windows: as Timeloop counts them, or true reuse.", rich_help_panel=_SEARCH)
    ] = "parity",
    vector_ops: Annotated[
        str, typer.Option(metavar="free|charged", help="Whether pooling, additions and the like cost.", rich_help_panel=_SEARCH)
    ] = "free",
    skip_unsupported: Annotated[
        bool,
        typer.Option("--skip-unsupported", help="Leave out operators that cannot be expressed, and say so.", rich_help_panel=_SEARCH),
    ] = False,
    time_limit: TimeLimit = "none",
    workers: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="Processes; the answer is the same. Default: as many as help, at most the cores and 8.",
            show_default=False,
            rich_help_panel=_SEARCH,
        ),
    ] = None,
    seed: Annotated[str, typer.Option(metavar="N", help="Of a baseline.", rich_help_panel=_SEARCH)] = "0",
    layer: Annotated[
        str | None, typer.Option(metavar="NAME", help="Print one layer in full.", show_default=False, rich_help_panel=_ONE)
    ] = None,
    tradeoffs: Annotated[
        str | None,
        typer.Option(metavar="FILE.csv", help="Write the trade-off points of the layers and of the network.", show_default=False),
    ] = None,
    evaluate: Annotated[
        str | None,
        typer.Option(metavar="MAPPING", help="Cost this mapping instead, valid or not.", show_default=False, rich_help_panel=_ONE),
    ] = None,
    dims: Annotated[
        str | None,
        typer.Option(
            metavar="K=..,C=..", help="The layer of --evaluate; also stride, repeat, dilation.", show_default=False, rich_help_panel=_ONE
        ),
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
    """Find the best mapping of every layer on an accelerator: tiles, loop orders, energy and cycles, with a proof.

    Example: cosma-sched map resnet18 --accelerator gemmini_small
    """
    del debug
    symbolic, limit = dimensions(dim), seconds("--time-limit", time_limit)
    samples = None if evaluations is None else whole("--evaluations", evaluations, least=1)
    processes, number = None if workers is None else whole("--workers", workers, least=1), whole("--seed", seed, least=0)
    target = Output(json, output)
    if evaluate is not None:
        given = _layer(dims)
        if model is not None:
            raise UsageError("--evaluate costs one mapping of the layer that --dims gives; it takes no MODEL")
        return lambda: _evaluate(evaluate, given, accelerator, halo, target)
    if model is None:
        raise UsageError("which model? give a MODEL, or one mapping with --evaluate and --dims")
    if dims is not None:
        raise UsageError("--dims belongs to --evaluate; --dim NAME=N gives the size of a symbolic dimension")

    def run() -> int:
        from cosma_sched.files import write_whole
        from cosma_sched.mapping.calls import map_layers
        from cosma_sched.report import mapping as report

        target.check()
        if tradeoffs is not None:
            Output(path=tradeoffs).check()
        reading = {"fold": fold, "views": views, "dtype": dtype, "dims": symbolic}
        workload = _workload(model, reading, charged=vector_ops == "charged")
        if layer is not None:
            _check_layer(layer, workload)
        with watching(workload.name, quiet=quiet, verbose=verbose) as observers:
            result = map_layers(
                workload,
                accelerator,
                objective=objective,
                method=method,
                evaluations=samples,
                halo=halo,
                vector_ops=vector_ops,
                workers=processes,
                seed=number,
                time_limit=limit,
                skip_unsupported=skip_unsupported,
                tradeoffs=tradeoffs is not None,
                observers=observers,
            )
        if layer is not None and result.layers:
            _show_layer(result, layer, target)
        else:
            target.deliver(result.to_json(), report.mapping_lines(result, workload.name, width=table_width(), all_rows=verbose > 0))
        if tradeoffs is not None and result.layers:
            write_whole(tradeoffs, report.tradeoff_csv(result))
        return _ending(result)

    return run


def _workload(model: str, reading: Mapping[str, Any], *, charged: bool) -> Workload:
    from cosma_sched import api
    from cosma_sched.mapping.extract import workload_of
    from cosma_sched.mapping.layer_table import read_layer_table

    if model.lower().endswith(".csv"):
        wrong = [name for name in ("dtype", "dims") if reading[name]]
        if wrong:
            raise UsageError(f"--{wrong[0].removesuffix('s')}: {shown(model)} is a layer table, whose numbers are taken as they are")
        return read_layer_table(model)
    return workload_of(api.load(model, **reading), charged=charged)


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


def _layer(dims: str | None) -> Layer:
    """Return the layer that ``--dims K=64,C=64,P=16,stride=2`` stands for; extents that are not given are 1."""
    from cosma_sched.mapping.layer import DIMS, Layer

    if dims is None:
        raise UsageError("--evaluate needs the layer: --dims K=64,C=64,P=16 (dims that are left out are 1)")
    options = ("stride", "stride_p", "stride_q", "dilation", "dilation_p", "dilation_q", "repeat")
    values: dict[str, int] = {}
    for part in dims.split(","):
        name, sign, digits = part.strip().partition("=")
        if name not in (*DIMS, *options) or not sign or not re.fullmatch("[0-9]{1,12}", digits, flags=re.ASCII) or int(digits) < 1:
            raise UsageError(f"--dims {shown(part)}: must be one of {', '.join((*DIMS, *options))} and a whole number >= 1, such as K=64")
        if name in values:
            raise UsageError(f"--dims {shown(part)}: {name} stands twice")
        values[name] = int(digits)
    both = {name: values.get(name, 1) for name in ("stride", "dilation")}
    return Layer(
        "given",
        tuple(values.get(name, 1) for name in DIMS),
        stride_p=values.get("stride_p", both["stride"]),
        stride_q=values.get("stride_q", both["stride"]),
        dilation_p=values.get("dilation_p", both["dilation"]),
        dilation_q=values.get("dilation_q", both["dilation"]),
        repeat=values.get("repeat", 1),
    )


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
