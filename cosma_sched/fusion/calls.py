"""The fusion planner's public calls: from a network and an accelerator to a checked result."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata

import cosma_sched
from cosma_sched.accelerator import Accelerator, load_accelerator
from cosma_sched.backends.options import SolverOptions
from cosma_sched.errors import Defect, InputError, UsageError, VerificationError, shown, suggestion
from cosma_sched.fusion.answer import FusionResult
from cosma_sched.fusion.baselines import METHODS as BASELINES
from cosma_sched.fusion.baselines import fuse_by_trial
from cosma_sched.fusion.exact import ExactOptions
from cosma_sched.fusion.floor import Ceiling, ceiling
from cosma_sched.fusion.given import groups_of, tiles_of
from cosma_sched.fusion.group import MODES as TILED
from cosma_sched.fusion.group import Mode
from cosma_sched.fusion.planner import FuseOptions, blank, fuse_exactly, layer_reasons
from cosma_sched.fusion.pricing import TileSpace
from cosma_sched.fusion.problem import FusionProblem
from cosma_sched.fusion.reading import chain_problem, fusion_problem
from cosma_sched.fusion.verify import verify
from cosma_sched.graph import Graph
from cosma_sched.mapping.calls import VECTOR_OPS
from cosma_sched.mapping.cost import HALOS, Machine, machine_of
from cosma_sched.mapping.layer import Workload
from cosma_sched.mapping.planner import OBJECTIVES
from cosma_sched.mapping.verify import Violation
from cosma_sched.progress import Clock, Observer, Progress
from cosma_sched.result import Provenance, Status, Termination

OVERLAPS = ("layer", "group")
MODES = tuple(str(mode) for mode in Mode)

Method = Callable[[FusionResult, FusionProblem, Machine, FuseOptions, Progress], FusionResult]
METHODS: Mapping[str, Method] = {"exact": fuse_exactly, **dict.fromkeys(BASELINES, fuse_by_trial)}


def fuse(  # noqa: PLR0913 - the options of the command, by name
    network: Graph | Workload,
    accelerator: str | os.PathLike[str] | Accelerator,
    *,
    objective: str = "edp",
    method: str = "exact",
    overlap: str = "layer",
    vector_ops: str = "free",
    halo: str = "parity",
    max_group: int = 5,
    tiles: str = "all",
    modes: Sequence[str] = MODES,
    groups: str | Sequence[Sequence[str]] | None = None,
    prune: bool = True,
    chain: bool = True,
    solver: str | None = None,
    evaluations: int | None = None,
    seed: int = 0,
    time_limit: float | None = None,
    skip_unsupported: bool = False,
    observers: Sequence[Observer] = (),
) -> FusionResult:
    """Find which layers to fuse, in which tiles and with which mappings, with a proof for the declared space, checked.

    Parameters
    ----------
    network
        A graph with shapes, or the layers of a table (`read_layer_table`).
    accelerator
        A built-in name, a YAML file, or an accelerator.
    objective
        ``edp`` (energy times latency of the network), ``energy`` or ``latency``.
    method
        ``exact``: the whole declared space. Baselines: ``random``, ``genetic``, ``bayesian``, ``gradient``, ``gradient-optimistic``,
        ``gradient-fixed``.
    overlap
        ``layer``: steps follow each other; ``group``: array, accumulator, scratchpad and DRAM work side by side through a whole group.
    vector_ops
        ``free``, or ``charged`` for element-wise operators, pooling and the like.
    halo
        ``parity``: input windows as Timeloop counts them; ``reuse``: true reuse.
    max_group
        Most layers of a group of several tiles; groups of one tile may have any length.
    tiles
        ``all`` divisors, ``strips`` (whole rows), or a JSON file ``{"rows": [...], "columns": [...]}``.
    modes
        What may become of overlaps: of ``recompute``, ``h-cached``, ``cached``; and ``sliced``: pairs of products whose intermediate runs
        slice by slice.
    groups
        Fixes the grouping: lists of names, or a JSON file with such a list (a saved result is one); what is in none runs alone.
    prune
        False prices every tile of every group; the answer is the same.
    chain
        Take the rows of a layer table as a chain.
    solver
        Back end of the set partitioning; None takes cheapest paths where they are few enough, else ``cpsat``.
    evaluations
        Networks that a baseline may score; None for its default.
    seed
        Of the back end, or of a baseline.
    time_limit
        Seconds, or None. What is proven by then carries an honest gap.
    skip_unsupported
        Take operators that cannot be expressed as barriers that cost nothing, and say so, instead of refusing the network.
    observers
        Called with every `Event` of progress.

    Returns
    -------
    FusionResult
        With status ``infeasible`` and reasons where some layer, or a group that was given, fits in no way; Ctrl-C returns what is held.

    Raises
    ------
    InputError
        If the accelerator, the network or a file is not usable.
    UsageError
        If an option value is unknown.
    VerificationError
        If the answer does not pass the checker: a bug.
    """
    known = {"objective": OBJECTIVES, "method": tuple(METHODS), "overlap": OVERLAPS, "vector_ops": VECTOR_OPS, "halo": HALOS}
    for name, value in (("objective", objective), ("method", method), ("overlap", overlap), ("vector_ops", vector_ops), ("halo", halo)):
        _check(name, value, known[name])
    if max_group < 1:
        raise UsageError(f"max_group must be >= 1, got {max_group}")
    if evaluations is not None and evaluations < 1:
        raise UsageError(f"evaluations must be >= 1, got {evaluations}")
    if evaluations is not None and method == "exact":
        raise UsageError("evaluations limit a baseline; the exact method prices the whole space")
    if solver is not None and method != "exact":
        raise UsageError(f"solver is the back end of the exact method; {method} uses none")
    clock = Clock(time_limit)
    if not isinstance(network, Graph | Workload):
        raise UsageError(f"a network is fused, not a {type(network).__name__}; read it with cs.load(...)")
    device = load_accelerator(accelerator)
    machine = machine_of(device)
    problem = problem_of(network, charged=vector_ops == "charged", chain=chain, skip_unsupported=skip_unsupported)
    if method != "exact" and tuple(modes) == MODES:
        modes = [str(mode) for mode in TILED]  # searches by trial slice no products
    space = TileSpace(*tiles_of(tiles), _modes(modes), max_group)
    backend = None if solver is None else SolverOptions(solver=solver, seed=seed)
    exact = ExactOptions(space, halo, prune, backend, None if groups is None else groups_of(problem, groups))
    options = FuseOptions(objective, overlap, exact, evaluations, seed)
    named: dict[str, object] = {"accelerator": device.name, "objective": objective, "method": method, "overlap": overlap}
    named |= {"vector-ops": vector_ops, "halo": halo, "max-group": max_group, "tiles": tiles, "modes": list(space.modes), "chain": chain}
    named |= {"prune": prune, "groups": groups if groups is None or isinstance(groups, str) else [list(names) for names in groups]}
    named |= {"time-limit": time_limit, "evaluations": evaluations, "skip-unsupported": skip_unsupported}
    result = blank(problem, device, machine, options, method, _provenance(problem, named, solver, seed))
    reasons = layer_reasons(problem, machine, device.name)
    if reasons:
        return result.replace(status=Status.INFEASIBLE, termination=Termination.PROVED, seconds=clock.seconds, reasons=reasons)
    result = METHODS[method](result, problem, machine, options, Progress(clock, tuple(observers)))
    violations = verify(result, network, unfused_edp=result.unfused_edp)
    if violations:
        raise VerificationError(violations)
    return result.replace(verified=True, seconds=round(clock.seconds, 3))


def problem_of(network: Graph | Workload, *, charged: bool, chain: bool = True, skip_unsupported: bool = False) -> FusionProblem:
    """Return the fusion graph of a network.

    Raises
    ------
    InputError
        With every operator that cannot be expressed, unless those may be skipped.
    """
    if isinstance(network, Workload):
        problem = chain_problem(network, chain=chain)
        return FusionProblem(problem.name, problem.nodes, charged, problem.remarks, (), problem.origin)
    problem = fusion_problem(network, charged=charged)
    if problem.skipped and not skip_unsupported:
        defects = [Defect(f"{entry.type} {shown(entry.name)}", f"cannot be mapped: {entry.reason}") for entry in problem.skipped]
        raise InputError(problem.name, [*defects, Defect("", "--skip-unsupported maps the rest and says what was left out")])
    if not problem.layers:
        raise InputError(problem.name, "holds no layer that can be mapped")
    return problem


def fusion_ceiling(
    network: Graph | Workload, accelerator: str | os.PathLike[str] | Accelerator, *, vector_ops: str = "free", overlap: str = "layer"
) -> Ceiling:
    """Return what no fusion of a network can beat, in well under a second.

    Parameters
    ----------
    network, accelerator
        As `fuse` takes them.
    vector_ops, overlap
        The accounting.
    """
    problem = problem_of(network, charged=vector_ops == "charged", skip_unsupported=True)
    return ceiling(problem, machine_of(load_accelerator(accelerator)), overlap=overlap)


def check(network: Graph | Workload, result: FusionResult) -> list[Violation]:
    """Check a fusion result against its network, from scratch."""
    return verify(result, network)


def _modes(names: Sequence[str]) -> tuple[Mode, ...]:
    for name in names:
        _check("modes", name, MODES)
    if not names:
        raise UsageError(f"modes must name at least one of {', '.join(MODES)}")
    return tuple(mode for mode in Mode if str(mode) in set(names))


def _check(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise UsageError(f"{name} must be one of {', '.join(known)}, got {shown(value)}{suggestion(value, known)}")


def _provenance(problem: FusionProblem, options: Mapping[str, object], solver: str | None, seed: int) -> Provenance:
    origin = problem.origin
    packages = {name: _version(name) for name in ("numpy", *(("ortools", "pulp") if solver is not None else ()))}
    return Provenance(
        version=cosma_sched.__version__,
        model=(origin.model or None) if origin is not None else None,
        sha256=origin.sha256 if origin is not None else "",
        solver=solver or "none",
        seed=seed,
        options={**(dict(origin.options) if origin is not None else {}), **options},
        versions={"python": ".".join(map(str, sys.version_info[:3])), **{name: found for name, found in packages.items() if found}},
    )


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
