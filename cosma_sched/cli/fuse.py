"""``cosma-sched fuse``: which layers to run tile by tile together, with a proof, and what no fusion can beat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cosma_sched.cli import fuse_options as options
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
from cosma_sched.errors import UsageError, shown

if TYPE_CHECKING:
    from cosma_sched.fusion.answer import FusionResult
    from cosma_sched.graph import Graph
    from cosma_sched.mapping.layer import Workload

NAME = "fuse"


def command(
    model: options.Model,
    accelerator: options.Accelerator,
    objective: options.Objective = "edp",
    method: options.Method = "exact",
    overlap: options.Overlap = "layer",
    vector_ops: options.VectorOps = "free",
    halo: options.Halo = "parity",
    max_group: options.MaxGroup = "5",
    tiles: options.Tiles = "all",
    modes: options.Modes = "recompute,h-cached,cached,sliced",
    groups: options.Groups = None,
    no_prune: options.NoPrune = False,
    no_chain: options.NoChain = False,
    solver: options.Solver = None,
    evaluations: options.Evaluations = None,
    seed: options.Seed = "0",
    skip_unsupported: options.SkipUnsupported = False,
    time_limit: TimeLimit = "none",
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
    """Fuse layers tile by tile: groups, tiles, what stays on chip, mappings, energy and cycles, with a proof and a ceiling.

    Example: cosma-sched fuse fsrcnn --accelerator gemmini_large --tiles strips
    """
    del debug
    target = Output(json, output)
    reading = {"fold": fold, "views": views, "dtype": dtype, "dims": dimensions(dim)}
    if no_chain and not _is_table(model):
        raise UsageError(f"--no-chain: {shown(model)} is no layer table; a graph says itself what reads what")
    how = {
        "objective": objective,
        "method": method,
        "overlap": overlap,
        "vector_ops": vector_ops,
        "halo": halo,
        "max_group": whole("--max-group", max_group, least=1),
        "tiles": tiles,
        "modes": [mode.strip() for mode in modes.split(",") if mode.strip()],
        "groups": groups,
        "prune": not no_prune,
        "chain": not no_chain,
        "solver": solver,
        "evaluations": None if evaluations is None else whole("--evaluations", evaluations, least=1),
        "seed": whole("--seed", seed, least=0),
        "skip_unsupported": skip_unsupported,
        "time_limit": seconds("--time-limit", time_limit),
    }
    return lambda: _fuse(model, reading, accelerator, how, target, quiet, verbose)


def _is_table(model: str) -> bool:
    return model.lower().endswith(".csv")


def _fuse(
    model: str, reading: Mapping[str, Any], accelerator: str, how: Mapping[str, Any], target: Output, quiet: bool, verbose: int
) -> int:
    from cosma_sched.fusion.calls import fuse
    from cosma_sched.report.fusion import fusion_lines

    target.check()
    network = _network(model, reading)
    with watching(network.name, quiet=quiet, verbose=verbose) as observers:
        result = fuse(network, accelerator, **how, observers=observers)
    target.deliver(result.to_json(), fusion_lines(result, network.name, width=table_width(), all_rows=verbose > 0))
    return _ending(result)


def _network(model: str, reading: Mapping[str, Any]) -> Graph | Workload:
    from cosma_sched import api
    from cosma_sched.mapping.layer_table import read_layer_table

    if not _is_table(model):
        return api.load(model, **reading)
    wrong = [name for name in ("dtype", "dims") if reading[name]]
    if wrong:
        raise UsageError(f"--{wrong[0].removesuffix('s')}: {shown(model)} is a layer table, whose numbers are taken as they are")
    return read_layer_table(model)


def _ending(result: FusionResult) -> int:
    """Return the exit code of a result and say on standard error what is not said by it."""
    from cosma_sched.report.fusion import group_reason_lines
    from cosma_sched.result import Status, Termination

    if result.status == Status.INFEASIBLE:
        for reason in result.reasons:
            complain("\n".join(group_reason_lines(reason, result.accelerator.name)))
        return 3
    if result.termination == Termination.INTERRUPTED:
        complain("interrupted: this is the best that was found")
        return 130
    if result.status == Status.UNKNOWN:
        complain("nothing was found within the limits; a longer --time-limit may help")
        return 4
    return 0
