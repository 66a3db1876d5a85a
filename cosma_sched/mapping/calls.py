"""The mapping planner's public calls: from a network and an accelerator to a checked result."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata

import cosma_sched
from cosma_sched.accelerator import Accelerator, load_accelerator
from cosma_sched.errors import UsageError, VerificationError, shown, suggestion
from cosma_sched.graph import Graph
from cosma_sched.mapping.answer import MappingResult
from cosma_sched.mapping.cost import HALOS, Machine, machine_of
from cosma_sched.mapping.extract import workload_of
from cosma_sched.mapping.layer import Layer, Workload
from cosma_sched.mapping.planner import METHODS, OBJECTIVES, MapOptions, map_workload, require_supported
from cosma_sched.mapping.scoring import BrokenRule, Score, broken_rules, score
from cosma_sched.mapping.space import LoopNest, parse, tilings
from cosma_sched.mapping.verify import QUICK_WALK_LIMIT, Violation, differences, verify
from cosma_sched.progress import Clock, Observer, Progress
from cosma_sched.result import Provenance

VECTOR_OPS = ("free", "charged")
_MOST_WORKERS = 8
_TILINGS_PER_WORKER = 1_000_000
"""A process takes a fraction of a second to start, as long as it takes to score so many."""


def map_layers(  # noqa: PLR0913 - the options of the command, by name
    network: Graph | Workload,
    accelerator: str | os.PathLike[str] | Accelerator,
    *,
    objective: str = "edp",
    method: str = "exact",
    evaluations: int | None = None,
    halo: str = "parity",
    vector_ops: str = "free",
    workers: int | None = 1,
    seed: int = 0,
    time_limit: float | None = None,
    skip_unsupported: bool = False,
    tradeoffs: bool = False,
    observers: Sequence[Observer] = (),
) -> MappingResult:
    """Find the best mapping of every layer of a network, with a proof, checked.

    Parameters
    ----------
    network
        A graph with shapes, or the layers of a table (`read_layer_table`).
    accelerator
        A built-in name, a YAML file, or an accelerator.
    objective
        ``edp`` (energy times latency of the network), ``energy`` or ``latency``.
    method
        ``exact``: the whole space of every layer; ``random``, ``genetic``, ``bayesian`` and ``gradient``: the baselines.
    evaluations
        Mappings of each layer that a baseline may score; None takes its default.
    halo
        ``parity``: input windows as Timeloop counts them; ``reuse``: true reuse.
    vector_ops
        ``free``, or ``charged`` for element-wise operators, pooling and the like.
    workers
        Processes over which layers are spread; the answer is the same. None takes as many as help, at most the cores and 8. More than one
        needs a main module that can be imported again.
    seed
        Of a baseline.
    time_limit
        Seconds, or None. What is proven by then carries an honest gap.
    skip_unsupported
        Leave out operators that cannot be expressed, and say so, instead of refusing the network.
    tradeoffs
        Keep the trade-off points of every layer and of the network.
    observers
        Called with every `Event` of progress.

    Returns
    -------
    MappingResult
        With status ``infeasible`` and reasons where some layer fits in no way; Ctrl-C returns what is held by then.

    Raises
    ------
    InputError
        If the accelerator or the network is not usable.
    UsageError
        If an option value is unknown.
    VerificationError
        If the answer does not pass the checker: a bug.
    """
    _check("objective", objective, OBJECTIVES)
    _check("method", method, METHODS)
    _check("halo", halo, HALOS)
    _check("vector_ops", vector_ops, VECTOR_OPS)
    if evaluations is not None and method == "exact":
        raise UsageError("evaluations limit a baseline; the exact method scores the whole space")
    for name, value in (("workers", workers), ("evaluations", evaluations)):
        if value is not None and value < 1:
            raise UsageError(f"{name} must be >= 1, got {value}")
    clock = Clock(time_limit)
    device = load_accelerator(accelerator)
    charged = vector_ops == "charged"
    workload = network if isinstance(network, Workload) else workload_of(network, charged=charged)
    workload = require_supported(workload, skip=skip_unsupported)
    workers = workers or _helpful_workers(workload, machine_of(device))
    options = MapOptions(objective, method, halo, charged, evaluations, workers, seed, tradeoffs)
    named: dict[str, object] = {
        "accelerator": device.name,
        "objective": objective,
        "method": method,
        "halo": halo,
        "vector-ops": vector_ops,
    }
    named |= {"evaluations": evaluations, "time-limit": time_limit, "skip-unsupported": skip_unsupported}
    provenance = _provenance(workload, named, method, seed, workers)
    result = map_workload(workload, device, options, Progress(clock, tuple(observers)), provenance)
    violations = verify(result, walk_limit=QUICK_WALK_LIMIT)
    if violations:
        raise VerificationError(violations)
    return result.replace(verified=True, seconds=round(clock.seconds, 3))


def _helpful_workers(workload: Workload, machine: Machine) -> int:
    """Return how many processes are worth starting."""
    sizes = [tilings(problem.dims, int(machine.rows), int(machine.cols)) for problem in {layer.problem for layer in workload.layers}]
    return max(1, min(_MOST_WORKERS, os.cpu_count() or 1, len(sizes), sum(sizes) // _TILINGS_PER_WORKER))


def _check(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise UsageError(f"{name} must be one of {', '.join(known)}, got {shown(value)}{suggestion(value, known)}")


def _provenance(workload: Workload, options: dict[str, object], method: str, seed: int, workers: int) -> Provenance:
    packages = ("numpy", *(("jax",) if method == "gradient" else ()))
    found = {name: _version(name) for name in packages}
    origin = workload.origin
    return Provenance(
        version=cosma_sched.__version__,
        model=(origin.model or None) if origin is not None else None,
        sha256=origin.sha256 if origin is not None else "",
        solver="none",
        seed=seed,
        workers=workers,
        options={**(dict(origin.options) if origin is not None else {}), **options},
        proved_by=("enumeration",) if method == "exact" else (),
        versions={"python": ".".join(map(str, sys.version_info[:3])), **{name: version for name, version in found.items() if version}},
    )


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def verify_mapping(result: MappingResult, network: Graph | Workload | None = None) -> list[Violation]:
    """Check a mapping result from itself alone, and its layers against those of its network if that is given."""
    violations = verify(result)
    if network is None:
        return violations
    charged = result.options["vector_ops"] == "charged"
    workload = network if isinstance(network, Workload) else workload_of(network, charged=charged)
    return violations + differences(result, workload.layers)


def check(network: Graph | Workload | None, result: MappingResult) -> list[Violation]:
    """Check a mapping result as `verify_mapping` does, with the arguments in the order of every planner's check."""
    return verify_mapping(result, network)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One given mapping: its cost, and every rule it breaks."""

    layer: Layer
    nest: LoopNest
    accelerator: Accelerator
    machine: Machine
    halo: str
    score: Score
    broken: tuple[BrokenRule, ...]


def evaluate_mapping(mapping: str, layer: Layer, accelerator: str | os.PathLike[str] | Accelerator, *, halo: str = "parity") -> Evaluation:
    """Cost one given mapping, valid or not.

    Raises
    ------
    InputError
        If the string is malformed; says where.
    """
    _check("halo", halo, HALOS)
    device = load_accelerator(accelerator)
    machine = machine_of(device)
    nest = parse(mapping)
    found = score(layer, nest, machine, halo)
    return Evaluation(layer, nest, device, machine, halo, found, tuple(broken_rules(layer, nest, machine, found)))
