"""The public call: from a profile to a checked placement, with baselines, bounds and held-out figures."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import metadata
from typing import Any

import numpy as np

import cosma_sched
from cosma_sched.backends import SolverOptions
from cosma_sched.errors import Defect, InputError, UsageError, VerificationError, shown, suggestion
from cosma_sched.experts.bounds import copies_bounds, group_bound, improve_diagonal, kept_bounds, off_diagonal, scenario_load_bound
from cosma_sched.experts.eplb import contiguous, rebalance
from cosma_sched.experts.evaluate import Judge, traffic_value
from cosma_sched.experts.flow import regular_subgraph
from cosma_sched.experts.joint import Found, SearchOptions, layer_traffic
from cosma_sched.experts.joint import solve as solve_joint
from cosma_sched.experts.load import LoadReport, duplicate_slots, layer_peaks
from cosma_sched.experts.migration import moved_experts, relabel
from cosma_sched.experts.placement import (
    Baseline,
    Bounds,
    Certificates,
    Gaps,
    LayerFigures,
    Placement,
    TopologyFacts,
    as_rows,
)
from cosma_sched.experts.problem import PlacementProblem, TrafficModel
from cosma_sched.experts.profile import Profile
from cosma_sched.experts.statistics import Numbers
from cosma_sched.experts.steptime import StepConstants, step_seconds, worth
from cosma_sched.experts.traffic import TrafficReport
from cosma_sched.experts.two_stage import two_stage
from cosma_sched.experts.verify import checksums, verify
from cosma_sched.progress import Clock, Observer, Progress
from cosma_sched.result import Provenance, Reason, Status, Termination

METHODS = ("joint", "two-stage", "eplb", "contiguous")
_MOST_FLOW_EXPERTS = 64
"""Experts up to which the flow bound of every boundary takes well under a second."""
_BASELINE_SHARE = 0.1
_PROVENANCE_PACKAGES = ("numpy", "ortools")


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """What `place` is asked, files already read.

    Parameters
    ----------
    problem
        Profile, topology, slots, traffic model and objective.
    method
        One of `METHODS`.
    held_out
        Tokens to judge by, or None.
    current
        The placement that runs now [L, S], or None.
    most_moved
        Largest number of experts that may move, or None.
    expert_groups
        Groups of experts for hierarchical EPLB, or None.
    static
        Replica choice of the engine: a rank keeps to its own replica.
    expert_bytes, gpu_memory
        Sizes, or None.
    batch_tokens
        Tokens of a decoding batch, or None.
    constants
        For the step-time model, or None.
    search
        Seed, iterations, workers.
    solver, time_limit
        Back end of stage 1, and seconds in all (None for no limit).
    options
        Every option that shapes the answer by its command-line name, for the provenance.
    """

    problem: PlacementProblem
    method: str = "joint"
    held_out: Profile | None = None
    current: Numbers | None = None
    most_moved: int | None = None
    expert_groups: int | None = None
    static: bool = False
    expert_bytes: int | None = None
    batch_tokens: int | None = None
    constants: StepConstants | None = None
    search: SearchOptions = field(default_factory=SearchOptions)
    solver: str = "cpsat"
    time_limit: float | None = 30.0
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UsageError(f"method must be one of {', '.join(METHODS)}, got {shown(self.method)}{suggestion(self.method, METHODS)}")
        if self.most_moved is not None and self.current is None:
            raise UsageError("--max-moved needs --current FILE, the placement to start from")
        if self.most_moved is not None and self.method != "joint":
            raise UsageError(f"--max-moved is for --method joint, got {self.method}")
        if self.most_moved is not None and self.current is not None and self.current.shape[1] != self.problem.num_slots:
            slots = f"{self.current.shape[1]} slots per layer, the new one {self.problem.num_slots}"
            raise UsageError(f"--max-moved: the current placement has {slots}; give --slots {self.current.shape[1] // self.problem.gpus}")


@dataclass(slots=True)
class _Answer:
    slots: Numbers
    proved_by: tuple[str, ...] = ()
    best_loads: Numbers | None = None
    objective: float | None = None
    interrupted: bool = False
    timed: bool = False
    notes: tuple[str, ...] = ()


def place(request: Request, observers: Sequence[Observer] = ()) -> Placement:
    """Return a checked placement.

    Raises
    ------
    InfeasibleError
        If the budget of moves or the divisibility that a method needs cannot be met.
    VerificationError
        If the placement does not pass the checker: a bug.
    """
    clock = Clock(request.time_limit)
    progress = Progress(clock, tuple(observers))
    problem = request.problem
    judge = Judge(problem.profile, request.held_out, problem.topology, problem.traffic, request.static, request.batch_tokens)
    progress.report("baselines")
    baselines, interrupted = _baselines(request, judge, clock)
    if interrupted:
        request = replace(request, search=replace(request.search, iterations=0))
    certificates = _certificates(problem)
    answer = _solve(request, progress, clock)
    answer.interrupted |= interrupted
    progress.report("bounds")
    load, traffic = judge.judge(answer.slots)
    per_layer = _layer_figures(problem, answer, certificates)
    bounds = _bounds(request, answer, per_layer)
    gap = _gaps(bounds, load.profile, traffic.profile, problem)
    placement = Placement(
        **_identity(request),
        **_outcome(request, answer, clock, bounds, load.profile, traffic.profile),
        slots=as_rows(answer.slots),
        load=load,
        traffic=traffic,
        bounds=bounds,
        gap=gap,
        baselines=baselines,
        duplicate_slots=duplicate_slots(answer.slots, problem.num_experts, problem.gpus),
        **_movement(request, answer.slots),
        per_layer=per_layer,
        certificates=certificates,
        checksums=tuple(checksums(answer.slots)),
        worth=_worth(request, baselines, load.profile, traffic.profile),
        notes=(*problem.profile.notes, *answer.notes),
        seconds=0.0,
        verified=True,
    )
    progress.report("check")
    violations = verify(problem.profile, placement, request.held_out)
    if violations:
        raise VerificationError(violations)
    return placement.replace(seconds=round(clock.seconds, 3))


def infeasible(request: Request, reasons: Sequence[Reason], seconds: float) -> Placement:
    """Return the answer that there is none, with the reasons."""
    return Placement(
        **_identity(request),
        status=Status.INFEASIBLE,
        termination=Termination.PROVED,
        provenance=_provenance(request, ()),
        seconds=round(seconds, 3),
        verified=True,
        reasons=tuple(reasons),
    )


def check_current(current: Numbers, problem: PlacementProblem, path: str) -> Numbers:
    """Return the current placement if it fits the model and the GPUs.

    Raises
    ------
    InputError
        If it has other layers, misses an expert, or its slots do not divide by the GPUs; names layer and expert.
    """
    layers, experts = problem.num_layers, problem.num_experts
    if current.ndim != 2 or len(current) != layers:
        raise InputError(path, f"has {len(current)} layers, the profile has {layers} MoE layers")
    if current.shape[1] % problem.gpus:
        raise InputError(path, f"has {current.shape[1]} slots per layer, which {problem.gpus} GPUs cannot share evenly")
    defects = []
    for layer, row in zip(problem.profile.layers, current, strict=True):
        wrong = row[(row < 0) | (row >= experts)]
        if len(wrong):
            defects.append(Defect(f"layer {layer}", f"expert {wrong[0]} does not exist, the profile has {experts}"))
        missing = np.setdiff1d(np.arange(experts), row)
        if len(missing) and not len(wrong):
            defects.append(Defect(f"layer {layer}", f"expert {missing[0]} is in no slot"))
    if defects:
        raise InputError(path, defects)
    return current


# methods


def _solve(request: Request, progress: Progress, clock: Clock) -> _Answer:
    problem = request.problem
    if request.method == "contiguous":
        return _Answer(_renamed(request, contiguous(problem.num_layers, problem.num_experts, problem.num_slots)))
    if request.method == "eplb":
        return _Answer(_renamed(request, _eplb(request)))
    if request.method == "two-stage":
        progress.report("two-stage")
        return _two_stage(request, clock)
    joint = partial(solve_joint, problem, progress=progress, current=request.current, most_moved=request.most_moved)
    try:
        found: Found = joint(options=request.search)
    except KeyboardInterrupt:  # outside the searches, which keep what they hold
        found = joint(options=replace(request.search, iterations=0))
        found.interrupted = True
    proved = (found.proven,) if found.proven else ()
    timed = found.counter.steps > 0 and request.search.iterations is None
    return _Answer(found.slots, proved, found.best_loads, found.objective, found.interrupted, timed)


def _two_stage(request: Request, clock: Clock) -> _Answer:
    options = SolverOptions(request.solver, seed=request.search.seed, deterministic_limit=_work_limit(request))
    done = two_stage(request.problem, options=options, clock=_clock(request, clock, 0.8), seed=request.search.seed)
    notes = ["two-stage: each stage by itself; the pair of stages is not optimal"]
    if request.problem.has_replicas:
        notes.append("two-stage: replicas are not in the paper; stage 1 packs the replicas of water-filled counts, nothing is proven")
    elif done.deviation is not None:
        notes.append(f"two-stage: stage 1 deviation {done.deviation:g} (sum of G |T - mean|), bound {done.deviation_bound:g}")
    if done.labels is not None:
        notes.append(f"two-stage: stage 2 cost {done.labels.cost:g}, bound {done.labels.bound:g}")
    return _Answer(_renamed(request, done.slots), interrupted=done.interrupted, notes=tuple(notes))


def _clock(request: Request, clock: Clock, share: float) -> Clock:
    """Return the clock of an integer program: none where steps are counted, so that the answer repeats."""
    return Clock(None) if request.search.iterations is not None else clock.within(share)


def _work_limit(request: Request) -> float | None:
    return (0.05 if request.solver == "cpsat" else 50) if request.search.iterations is not None else None


def _eplb(request: Request) -> Numbers:
    problem = request.problem
    groups, nodes = (request.expert_groups, problem.topology.nodes) if request.expert_groups else (1, 1)
    slots: Numbers = rebalance(problem.profile.mean_shares(), problem.num_slots, groups, nodes, problem.gpus)[0]
    return slots


def _renamed(request: Request, slots: Numbers) -> Numbers:
    if request.current is None or request.method == "eplb":  # eplb is what the original gives, names included
        return slots
    problem = request.problem
    return relabel(slots, request.current, problem.num_experts, problem.topology, problem.traffic)


def _baselines(request: Request, judge: Judge, clock: Clock) -> tuple[dict[str, Baseline], bool]:
    """Return the other methods on the same profile, and whether Ctrl-C cut the rest of them off."""
    problem, search = request.problem, request.search
    found: dict[str, Baseline] = {}

    def add(name: str, slots: Numbers, note: str = "") -> None:
        if name != request.method:
            load, traffic = judge.judge(slots)
            found[name] = Baseline(load, traffic, duplicate_slots(slots, problem.num_experts, problem.gpus), note)

    try:
        add("contiguous", contiguous(problem.num_layers, problem.num_experts, problem.num_slots))
        add("eplb", _eplb(request))
        if request.method == "two-stage":
            return found, False
        options = SolverOptions(request.solver, seed=search.seed, deterministic_limit=_work_limit(request))
        done = two_stage(problem, options=options, clock=_clock(request, clock, _BASELINE_SHARE), seed=search.seed)
        add("two-stage", done.slots, "" if done.proven else "stage 1 not proven")
    except KeyboardInterrupt:
        return found, True
    return found, done.interrupted


# bounds


def _certificates(problem: PlacementProblem) -> Certificates:
    """Return what proves the traffic bounds; only without replicas, where the bounds hold."""
    if problem.has_replicas or problem.gpus == 1:
        return Certificates()
    transitions, pairs = problem.profile.pooled_transitions(), problem.profile.pooled_coactivation()
    prices = diagonals = None
    if transitions is not None and transitions.dtype.kind in "iu" and len(transitions) and problem.num_experts <= _MOST_FLOW_EXPERTS:
        proofs = [regular_subgraph(matrix, problem.slots_per_gpu)[1] for matrix in transitions]
        prices = tuple(tuple(tuple(int(v) for v in side) for side in proof) for proof in proofs)
    if pairs is not None and problem.num_experts <= _MOST_FLOW_EXPERTS and problem.slots_per_gpu > 1:
        improved = [improve_diagonal(off, problem.gpus) for off in off_diagonal(pairs)]
        diagonals = tuple(tuple(float(v) for v in row) for row in improved)
    return Certificates(prices, diagonals)


def _layer_figures(problem: PlacementProblem, answer: _Answer, certificates: Certificates) -> tuple[LayerFigures, ...]:
    peaks = layer_peaks(problem.weights_of_experts(), answer.slots, problem.gpus)
    floors = scenario_load_bound(problem.profile, problem.num_slots, problem.gpus)
    best = np.minimum(peaks, answer.best_loads) if answer.best_loads is not None else peaks
    if answer.proved_by and answer.best_loads is not None:
        floors = np.maximum(floors, answer.best_loads)
    traffic: Sequence[float | None] = [None] * problem.num_layers
    lowest: Sequence[float | None] = [None] * problem.num_layers
    if traffic_known(problem):
        values = layer_traffic(problem, answer.slots)
        stays = problem.traffic == TrafficModel.TOKEN_STAYS
        matrices = problem.profile.pooled_transitions()
        if stays and matrices is not None:
            values = values / matrices.sum(axis=(1, 2))
        traffic = [float(v) for v in values] + [None] * (problem.num_layers - len(values))
        lowest = _layer_bounds(problem, certificates)
    rows = zip(problem.profile.layers, peaks, floors, best, traffic, lowest, strict=True)
    return tuple(LayerFigures(layer, float(peak), float(floor), float(low), t, b) for layer, peak, floor, low, t, b in rows)


def _layer_bounds(problem: PlacementProblem, certificates: Certificates) -> list[float | None]:
    none: list[float | None] = [None] * problem.num_layers
    if not problem.topology.is_uniform:
        return none
    if problem.traffic == TrafficModel.TOKEN_STAYS:
        kept = kept_bounds(problem, None if certificates.prices is None else np.asarray(certificates.prices))
        matrices = problem.profile.pooled_transitions()
        if kept is None or matrices is None:
            return none
        price = float(problem.topology.costs().max())
        return [price * max(0.0, 1 - float(k) / float(m.sum())) for k, m in zip(kept, matrices, strict=True)] + [None]
    copies = copies_bounds(problem, None if certificates.diagonals is None else np.asarray(certificates.diagonals))
    return none if copies is None else [float(c) for c in copies]


def traffic_known(problem: PlacementProblem) -> bool:
    """Return whether the profile tells the traffic of the problem's model exactly."""
    profile = problem.profile
    if problem.traffic == TrafficModel.TOKEN_STAYS:
        return problem.num_layers > 1 and profile.pooled_transitions() is not None
    return profile.has_tokens or (profile.top_k == 2 and profile.pooled_coactivation() is not None)


def _bounds(request: Request, answer: _Answer, per_layer: Sequence[LayerFigures]) -> Bounds:
    problem = request.problem
    load = float(np.mean([figures.load_bound for figures in per_layer]))
    copies = remote = cost = group = None
    if not (problem.has_replicas or request.static):
        copies, remote = _general_bounds(problem, per_layer)
    if answer.objective is not None and problem.weights is None:
        matrices = problem.profile.pooled_transitions()
        if problem.traffic == TrafficModel.TOKEN_STAYS and matrices is not None:
            cost = answer.objective
            if problem.topology.is_uniform:
                remote = cost / float(problem.topology.costs().max()) / float(matrices.sum())
        elif not problem.topology.node_premium:
            copies = answer.objective / problem.num_layers
    if request.expert_groups and request.expert_groups % problem.topology.nodes == 0:
        nodes = problem.topology.nodes
        peaks = np.max([group_bound(s.loads, request.expert_groups, nodes) for s in problem.profile.scenarios], axis=0)
        group = float(peaks.mean())
    return Bounds(load, copies, remote, cost, group)


def _general_bounds(problem: PlacementProblem, per_layer: Sequence[LayerFigures]) -> tuple[float | None, float | None]:
    """Return (copies, remote fraction): of the model that is minimised from the layers, of the other one without certificates."""
    copies, kept, matrices = copies_bounds(problem), kept_bounds(problem, None), problem.profile.pooled_transitions()
    lowest = [figures.traffic_bound for figures in per_layer if figures.traffic_bound is not None]
    found = None if copies is None else float(copies.mean())
    remote = None if kept is None or matrices is None else max(0.0, 1 - float(kept.sum()) / float(matrices.sum()))
    if lowest and problem.traffic == TrafficModel.DISPATCH_COMBINE:
        found = float(np.mean(lowest))
    elif lowest and matrices is not None:
        totals = matrices.sum(axis=(1, 2))
        price = float(problem.topology.costs().max())
        remote = float((np.asarray(lowest) * totals).sum()) / price / float(totals.sum())
    return found, remote


def _gaps(bounds: Bounds, load: LoadReport, traffic: TrafficReport, problem: PlacementProblem) -> Gaps:
    stays = problem.traffic == TrafficModel.TOKEN_STAYS
    value, bound = traffic.copies_per_token, bounds.copies_per_token
    if stays:
        value, bound = (
            (traffic.remote_fraction, bounds.remote_fraction)
            if problem.topology.is_uniform
            else (traffic.transition_cost, bounds.transition_cost)
        )
    elif problem.topology.node_premium:
        bound = None
    gap = None if value is None or bound is None else max(0.0, (value - bound) / value) if value > 0 else 0.0
    return Gaps((load.max_over_mean - bounds.load) / load.max_over_mean, gap)


# the rest of the result


def _outcome(request: Request, answer: _Answer, clock: Clock, bounds: Bounds, load: LoadReport, traffic: TrafficReport) -> dict[str, Any]:
    """Return status, termination and provenance: optimal only where the stated objective equals its bound."""
    known = traffic_value(traffic, request.problem.topology, request.problem.traffic) is not None
    meets = load.max_over_mean <= bounds.load * (1 + 1e-9)
    optimal = request.method == "joint" and (answer.objective is not None or (not known and meets))
    proved = answer.proved_by or (("load bound",) if optimal else ())
    if optimal:
        termination = Termination.PROVED  # an interrupt before the proof cost a baseline and no more
    elif answer.interrupted:
        termination = Termination.INTERRUPTED
    else:
        termination = Termination.TIME_LIMIT if clock.expired or answer.timed else Termination.EXHAUSTED
    status = Status.OPTIMAL if optimal else Status.FEASIBLE
    return {"status": status, "termination": termination, "provenance": _provenance(request, proved if optimal else ())}


def _identity(request: Request) -> dict[str, Any]:
    problem, topology = request.problem, request.problem.topology
    matrix = None if topology.matrix is None else tuple(tuple(float(v) for v in row) for row in topology.matrix)
    return {
        "method": request.method,
        "gpus": problem.gpus,
        "nodes": topology.nodes,
        "slots_per_gpu": problem.slots_per_gpu,
        "layers": problem.profile.layers,
        "dense_layers": problem.profile.dense_layers,
        "experts": problem.num_experts,
        "top_k": problem.profile.top_k,
        "synthetic": problem.profile.synthetic,
        "traffic_model": str(problem.traffic),
        "scenarios": tuple(scenario.name for scenario in problem.profile.scenarios),
        "topology": TopologyFacts(topology.inside, topology.across, topology.forwarding, matrix),
        "max_load": problem.max_load if problem.weights is None else None,
        "weights": problem.weights,
    }


def _movement(request: Request, slots: Numbers) -> dict[str, Any]:
    if request.current is None:
        return {}
    problem = request.problem
    moved = moved_experts(slots, request.current, problem.num_experts, problem.gpus)
    size = request.expert_bytes
    return {"moved_experts": moved, "moved_bytes": None if size is None else moved * size, "current": as_rows(request.current)}


def _worth(request: Request, baselines: Mapping[str, Baseline], load: LoadReport, traffic: TrafficReport) -> dict[str, float] | None:
    if request.constants is None or "contiguous" not in baselines:
        return None
    before = baselines["contiguous"]
    pair = ((before.load.profile, before.traffic.profile), (load, traffic))
    figures = [_figures_of(request, request.constants, each_load, each_traffic) for each_load, each_traffic in pair]
    return worth(request.constants, figures[0], figures[1])


def _figures_of(request: Request, constants: StepConstants, load: LoadReport, traffic: TrafficReport) -> dict[str, float]:
    problem = request.problem
    figures = {"max_over_mean": load.max_over_mean}
    port = traffic.busiest_port if problem.traffic == TrafficModel.DISPATCH_COMBINE else None
    if problem.profile.top_k is not None:
        awake = float(problem.slots_per_gpu) if load.active_experts is None else load.active_experts
        seconds = step_seconds(
            constants,
            layers=problem.num_layers,
            gpus=problem.gpus,
            top_k=problem.profile.top_k,
            max_over_mean=load.max_over_mean,
            active_experts=awake,
            copies_at_port=port,
        )
        figures |= {} if seconds is None else {"step_seconds": seconds}
    return figures


def _provenance(request: Request, proved_by: tuple[str, ...]) -> Provenance:
    profile = request.problem.profile
    versions = {"python": ".".join(map(str, sys.version_info[:3])), **{name: metadata.version(name) for name in _PROVENANCE_PACKAGES}}
    return Provenance(
        version=cosma_sched.__version__,
        model=profile.source,
        sha256=profile.sha256,
        solver=request.solver,
        seed=request.search.seed,
        workers=request.search.workers,
        options=dict(request.options),
        proved_by=proved_by,
        versions=versions,
    )
