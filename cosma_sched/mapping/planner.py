"""A network's mappings: solve each distinct layer once, sweep the network's trade-off, put the answer together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from cosma_sched.accelerator import Accelerator
from cosma_sched.errors import Defect, InputError, shown
from cosma_sched.mapping.answer import LayerMapping, MappingResult, NetworkBounds, TradeOff, VectorCost
from cosma_sched.mapping.cost import Machine, machine_of
from cosma_sched.mapping.layer import Layer, VectorOperator, Workload
from cosma_sched.mapping.network import Support, Sweep, layerwise, sweep
from cosma_sched.mapping.parallel import search_in_processes
from cosma_sched.mapping.sampling import sample_layer
from cosma_sched.mapping.scoring import score
from cosma_sched.mapping.search import LayerSearch, misfits, search_layer
from cosma_sched.mapping.space import parse
from cosma_sched.mapping.verify import vector_cost
from cosma_sched.progress import Progress
from cosma_sched.result import Provenance, Reason, Status, Termination, relative_gap

METHODS = ("exact", "random", "genetic", "bayesian", "gradient")
OBJECTIVES = ("edp", "energy", "latency")
DEFAULT_EVALUATIONS = 10_000
_STOPGAP_SAMPLES = 512
"""Random mappings of a layer whose space there was no time for."""


@dataclass(frozen=True, slots=True)
class MapOptions:
    """How to map.

    Parameters
    ----------
    objective
        ``edp``, ``energy`` or ``latency``.
    method
        One of `METHODS`.
    halo
        Window rule, ``parity`` or ``reuse``.
    charged
        Charge vector operators.
    evaluations
        Mappings of each layer that a baseline may score; None for its default.
    workers
        Processes.
    seed
        Of a baseline.
    tradeoffs
        Keep the trade-off points.
    """

    objective: str = "edp"
    method: str = "exact"
    halo: str = "parity"
    charged: bool = False
    evaluations: int | None = None
    workers: int = 1
    seed: int = 0
    tradeoffs: bool = False


def map_workload(
    workload: Workload, accelerator: Accelerator, options: MapOptions, progress: Progress, provenance: Provenance
) -> MappingResult:
    """Map every layer.

    Parameters
    ----------
    workload, accelerator
        What is mapped on what.
    options
        How.
    progress
        Clock and observers.
    provenance
        Goes into the result.

    Raises
    ------
    InputError
        If the accelerator is not of the kind that is mapped on, or the network holds operators that cannot be expressed.
    """
    machine = machine_of(accelerator)
    blank = _blank(accelerator, machine, options, provenance)
    reasons = _misfits(workload, machine, accelerator.name)
    if reasons:
        return blank.replace(status=Status.INFEASIBLE, termination=Termination.PROVED, seconds=progress.clock.seconds, reasons=reasons)
    problems = tuple(dict.fromkeys(layer.problem for layer in workload.layers))
    found = _search(problems, machine, options, progress)
    vectors = [_charged(vector, machine, options.charged) for vector in workload.vector_operators]
    return _answer(blank, workload, machine, found, vectors, options, progress)


def _blank(accelerator: Accelerator, machine: Machine, options: MapOptions, provenance: Provenance) -> MappingResult:
    rules = {
        "halo": options.halo,
        "psum_words": int(machine.psum_words),
        "vector_ops": "charged" if options.charged else "free",
        "space": "gemmini",
    }
    return MappingResult(
        status=Status.UNKNOWN,
        termination=Termination.EXHAUSTED,
        seconds=0.0,
        verified=False,
        provenance=provenance,
        accelerator=accelerator,
        objective=options.objective,
        method=options.method,
        options=rules,
    )


def _misfits(workload: Workload, machine: Machine, accelerator: str) -> tuple[Reason, ...]:
    """Return why some layer fits in no way: of each rule the layer with the greatest demand."""
    worst: dict[str, Reason] = {}
    for layer in workload.layers:
        for reason in misfits(layer, machine, accelerator):
            if reason.rule not in worst or (reason.demand or 0) > (worst[reason.rule].demand or 0):
                worst[reason.rule] = reason
    return tuple(worst.values())


def _charged(vector: VectorOperator, machine: Machine, charged: bool) -> VectorCost:
    energy, cycles = vector_cost(vector.words, machine) if charged and vector.folded_into is None else (0, 0)
    return VectorCost(vector.name, vector.type, vector.words, vector.folded_into, energy, cycles)


# Searching


@dataclass(frozen=True, slots=True)
class _Found:
    """What is known of each distinct layer, and whether the user stopped the search."""

    searches: Mapping[Layer, LayerSearch]
    interrupted: bool
    remarks: tuple[str, ...] = ()


def _search(problems: Sequence[Layer], machine: Machine, options: MapOptions, progress: Progress) -> _Found:
    if options.method == "random":
        return _sampled(problems, machine, options, progress)
    if options.method == "gradient":
        from cosma_sched.mapping.gradient import descend_layers

        descent = descend_layers(problems, machine, options.halo, options.evaluations, options.seed, progress)
        remark = f"{100 * descent.valid_share:.0f} % of the rounded tilings fitted before they were repaired"
        return _Found(descent.searches, descent.interrupted, (remark,))
    if options.method in {"genetic", "bayesian"}:
        from cosma_sched.mapping.metaheuristics import search_by_trial

        searches, interrupted = search_by_trial(
            problems, machine, options.halo, options.method, options.evaluations, options.seed, progress
        )
        return _Found(searches, interrupted)
    if options.workers > 1 and len(problems) > 1:
        searches, interrupted = search_in_processes(problems, machine, options.halo, options.workers, options.tradeoffs, progress)
    else:
        searches, interrupted = _in_turn(problems, machine, options, progress)
    return _Found({problem: _filled(problem, searches.get(problem), machine, options) for problem in problems}, interrupted)


def _in_turn(problems: Sequence[Layer], machine: Machine, options: MapOptions, progress: Progress) -> tuple[dict[Layer, LayerSearch], bool]:
    searches: dict[Layer, LayerSearch] = {}
    for index, problem in enumerate(problems):
        progress.report("layers", note=f"layer {index + 1} of {len(problems)}: {problem}")
        searches[problem] = search_layer(problem, machine, options.halo, clock=progress.clock, with_bytes=options.tradeoffs)
        if searches[problem].interrupted:
            return searches, True
    return searches, False


def _filled(problem: Layer, search: LayerSearch | None, machine: Machine, options: MapOptions) -> LayerSearch:
    """Return a search that holds at least one mapping: where the space was not finished, some random ones join."""
    if search is not None and search.complete:
        return search
    sample = sample_layer(problem, machine, options.halo, samples=_STOPGAP_SAMPLES, seed=(options.seed, 0))
    if search is None:
        return replace(sample, sized=sample.points if options.tradeoffs else None)
    evaluations = search.evaluations + sample.evaluations
    return replace(search, points=tuple(sorted({*search.points, *sample.points})), evaluations=evaluations)


def _sampled(problems: Sequence[Layer], machine: Machine, options: MapOptions, progress: Progress) -> _Found:
    samples = options.evaluations or DEFAULT_EVALUATIONS
    searches: dict[Layer, LayerSearch] = {}
    interrupted = False
    for index, problem in enumerate(problems):
        progress.report("layers", note=f"layer {index + 1} of {len(problems)}: {problem}")
        hurried = interrupted or progress.clock.expired
        try:
            search = sample_layer(
                problem,
                machine,
                options.halo,
                samples=min(samples, _STOPGAP_SAMPLES) if hurried else samples,
                seed=(options.seed, index),
            )
        except KeyboardInterrupt:
            interrupted = True
            search = sample_layer(problem, machine, options.halo, samples=min(samples, _STOPGAP_SAMPLES), seed=(options.seed, index))
        searches[problem] = search
    return _Found(searches, interrupted)


# The network


def _answer(
    blank: MappingResult,
    workload: Workload,
    machine: Machine,
    found: _Found,
    vectors: Sequence[VectorCost],
    options: MapOptions,
    progress: Progress,
) -> MappingResult:
    searches = [found.searches[layer.problem] for layer in workload.layers]
    counts = [layer.count for layer in workload.layers]
    extra = (sum(vector.energy_pj for vector in vectors), sum(vector.latency_cycles for vector in vectors))
    held = sweep(layerwise([*map(_pairs, searches), [extra]], [*counts, 1]))
    best = held.best(options.objective)
    bounds = NetworkBounds()
    if options.method == "exact":
        complete = all(search.complete for search in searches)
        floors = held if complete else sweep(layerwise([*map(_floors, searches), [extra]], [*counts, 1]))
        bounds = NetworkBounds(floors.edp_bound, floors.energy_bound, floors.latency_bound)
    layers = tuple(
        _layer_answer(layer, search, choice, machine, options)
        for layer, search, choice in zip(workload.layers, searches, best.choice[:-1], strict=True)
    )
    result = blank.replace(
        energy_pj=best.energy,
        latency_cycles=best.latency,
        edp=best.energy * best.latency,
        bounds=bounds,
        evaluations=sum(search.evaluations for search in found.searches.values()),
        layers=layers,
        vector_operators=tuple(vectors),
        skipped=workload.unsupported,
        remarks=(*workload.remarks, *found.remarks),
        tradeoffs=_network_points(held) if options.tradeoffs else None,
    )
    return _with_status(result, found, progress)


def _pairs(search: LayerSearch) -> list[tuple[int, int]]:
    return [(point.energy_pj, point.latency_cycles) for point in search.points]


def _floors(search: LayerSearch) -> list[tuple[int, int]]:
    """Return points that bound a layer's (energy, latency) from below: its own where its space is finished."""
    return _pairs(search) if search.complete else [search.floor]


def _layer_answer(layer: Layer, search: LayerSearch, choice: int, machine: Machine, options: MapOptions) -> LayerMapping:
    point = search.points[choice]
    found = score(layer, parse(point.mapping), machine, options.halo)
    answer = LayerMapping.of(layer, point.mapping, found, machine)
    if not options.tradeoffs:
        return answer
    points = search.sized if search.sized is not None else search.points
    kept = [TradeOff(p.energy_pj, p.latency_cycles, p.scratchpad_bytes, p.mapping) for p in points]
    return replace(answer, tradeoffs=tuple(kept))


def _network_points(held: Sweep[tuple[int, ...]]) -> tuple[tuple[int, int], ...]:
    def pair(point: Support[tuple[int, ...]]) -> tuple[int, int]:
        return point.energy, point.latency

    return tuple(map(pair, held.points))


def _with_status(result: MappingResult, found: _Found, progress: Progress) -> MappingResult:
    proven = result.bound is not None and result.bound == result.value
    if proven:
        stopped = Termination.PROVED
    elif found.interrupted:
        stopped = Termination.INTERRUPTED
    else:
        stopped = Termination.TIME_LIMIT if progress.clock.expired else Termination.EXHAUSTED
    return result.replace(
        status=Status.OPTIMAL if proven else Status.FEASIBLE,
        termination=Termination.INTERRUPTED if found.interrupted else stopped,
        gap=relative_gap(result.value, result.bound),
        seconds=progress.clock.seconds,
    )


def require_supported(workload: Workload, *, skip: bool) -> Workload:
    """Return the workload if every operator could be expressed, or if those that could not may be left out.

    Raises
    ------
    InputError
        With every operator that could not, or if nothing is left.
    """
    if workload.unsupported and not skip:
        defects = [
            Defect(f"{operator.type} {shown(operator.name)}", f"cannot be mapped: {operator.reason}") for operator in workload.unsupported
        ]
        raise InputError(workload.name, [*defects, Defect("", "--skip-unsupported maps the rest and says what was left out")])
    if not workload.layers:
        raise InputError(workload.name, "holds no layer that can be mapped")
    return workload
