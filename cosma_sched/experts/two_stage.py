"""The two-stage integer programs of MoETuner (arXiv 2502.06643), as far as they can be settled: a baseline.

Stage 1 groups the experts of each layer into G clusters of least absolute deviation from the mean load; stage 2 puts the clusters of all
layers on GPUs for the least traffic between layers. The programs as printed have gaps; this is the reading that is implemented:

- nothing forces an expert into one cluster only: sum over c of x[c,e,l] = 1 is added;
- cluster sizes are free (at least 1), which no public engine can load: equal sizes E/G here; ``sizes="paper"`` is for evaluation;
- the maximum of stage 2 is over a scalar: it is taken over ordered pairs of GPUs (``pair-max``), or dropped (``sum``, the default);
- the cost inside a GPU is not stated: 0; the second factor's x[.,.,l] is x[.,.,l+1]; the sum ends at the last boundary;
- row (13) couples all layers and holds by itself for equal sizes; it is not imposed for the paper's sizes;
- transitions count all k*k pairs of a token; stage 1 stops at a gap of 2.5 % or at a deviation of 0.1 % of the layer's tokens, since a
  relative gap means nothing where the optimum is near 0.

With replicas, which the paper has not, stage 1 packs the replicas of water-filled counts by exchange sweeps, and nothing is proven.
Each stage may be optimal; the pair of stages is not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from cosma_sched.backends import Outcome, SolverOptions, solve_linear
from cosma_sched.backends.linear import Program
from cosma_sched.experts.balance import balance
from cosma_sched.experts.chain import Labels, label_clusters
from cosma_sched.experts.eplb import rebalance
from cosma_sched.experts.problem import PlacementProblem, TrafficModel
from cosma_sched.experts.replicas import place_replicas, water_fill
from cosma_sched.experts.statistics import Numbers
from cosma_sched.experts.traffic import flows
from cosma_sched.progress import Clock
from cosma_sched.result import Status, Termination

GAP = 0.025
"""MoETuner's tolerance for both stages."""
TOLERANCE = 0.001
"""Deviation, as a share of a layer's tokens, that counts as none."""
_STEPS = 1_000
"""Steps of the exchange sweeps where there is no clock."""
MOST_EXPERTS, MOST_GPUS = 64, 16
"""Largest layer for which stage 1 is solved as an integer program."""


@dataclass(frozen=True, slots=True, eq=False)
class TwoStage:
    """The outcome of both stages.

    Parameters
    ----------
    slots
        [L, S].
    deviation
        Stage 1: sum over layers of G times the absolute deviation from the mean, in tokens; None with replicas.
    deviation_bound
        A proven lower bound on that; None where nothing is proven.
    labels
        Stage 2; None where there are no transitions.
    proven
        Whether both stages are proven to their tolerances.
    interrupted
        Whether Ctrl-C ended stage 1; the layers that were left keep their start.
    """

    slots: Numbers
    deviation: float | None
    deviation_bound: float | None
    labels: Labels | None
    proven: bool
    interrupted: bool = False


def cluster_program(loads: Numbers, gpus: int, *, sizes: str = "equal", least: int = 0) -> Program:
    """Return stage 1 of one layer as a linear program.

    Variables
        x[c,e]   binary    expert e is in cluster c
        d[c]     integer   G times the deviation of cluster c from the mean, in tokens
        total    integer   what is minimised: the sum of all d, at least `least`
    Subject to
        one cluster    sum over c of x[c,e] = 1                      expert e
        size           sum over e of x[c,e] = E / G                  cluster c (at least 1 with ``sizes="paper"``)
        deviation      d[c] >= +-(G sum over e of P[e] x[c,e] - sum of P)
        total          total >= sum of d
        symmetry       the hottest expert is in cluster 0

    Parameters
    ----------
    loads
        P of the layer [E], whole numbers.
    least
        Deviation below which nothing is gained; the search may stop there.
    """
    experts = len(loads)
    mass = int(loads.sum())
    program = Program("stage1")
    inside = {(c, e): program.binary(("x", c, e)) for c in range(gpus) for e in range(experts)}
    deviation = [program.integer(("d", c), 0, gpus * mass) for c in range(gpus)]
    total = program.integer("total", min(least, 2 * gpus * mass), 2 * gpus * mass)
    for e in range(experts):
        program.equal([(inside[c, e], 1) for c in range(gpus)], 1, "one cluster")
    for c in range(gpus):
        members = [(inside[c, e], 1) for e in range(experts)]
        if sizes == "equal":
            program.equal(members, experts // gpus, "size")
        else:
            program.at_least(members, 1, "size")
        work = [(inside[c, e], gpus * int(loads[e])) for e in range(experts)]
        program.at_least([(deviation[c], 1), *((x, -w) for x, w in work)], -mass, "deviation above")
        program.at_least([(deviation[c], 1), *work], mass, "deviation below")
    program.at_least([(total, 1), *((d, -1) for d in deviation)], 0, "total")
    program.equal([(inside[0, int(loads.argmax())], 1)], 1, "symmetry")
    program.minimise([(total, 1)])
    return program


def cluster_layer(
    loads: Numbers, start: Numbers, options: SolverOptions, *, sizes: str = "equal", tolerance: float = TOLERANCE
) -> tuple[Numbers, int, int | None, Outcome]:
    """Return the clusters of one layer: (cluster of each expert, G times the deviation, its bound, what the solver said).

    Parameters
    ----------
    loads
        P of the layer [E], whole numbers.
    start
        A cluster for each expert, with which the search starts.
    """
    gpus = int(start.max()) + 1
    least = int(tolerance * gpus * int(loads.sum()))
    program = cluster_program(loads, gpus, sizes=sizes, least=least)
    outcome = solve_linear(program, options=options, start=_start(loads, start, least))
    values = outcome.values
    cluster = start if values is None else np.asarray([next(c for c in range(gpus) if values["x", c, e]) for e in range(len(loads))])
    bound = None if outcome.bound is None else (outcome.bound if outcome.bound > least else 0)
    return cluster, deviation_of(loads, cluster, gpus), bound, outcome


def deviation_of(loads: Numbers, cluster: Numbers, gpus: int) -> int:
    """Return G times the sum over clusters of the absolute deviation from the mean load."""
    work = np.zeros(gpus, np.int64)
    np.add.at(work, cluster, loads.astype(np.int64))
    return int(np.abs(gpus * work - int(loads.sum())).sum())


def _start(loads: Numbers, start: Numbers, least: int) -> Mapping[object, int]:
    gpus = int(start.max()) + 1
    cluster = start.copy()
    hottest = int(cluster[int(loads.argmax())])
    cluster[start == hottest], cluster[start == 0] = 0, hottest
    work = np.zeros(gpus, np.int64)
    np.add.at(work, cluster, loads.astype(np.int64))
    deviation = np.abs(gpus * work - int(loads.sum()))
    values: dict[object, int] = {("x", c, e): int(cluster[e] == c) for c in range(gpus) for e in range(len(loads))}
    values |= {("d", c): int(deviation[c]) for c in range(gpus)}
    values["total"] = max(int(deviation.sum()), min(least, 2 * gpus * int(loads.sum())))
    return values


def two_stage(
    problem: PlacementProblem,
    *,
    options: SolverOptions,
    clock: Clock,
    seed: int = 0,
    objective: str = "sum",
    tolerance: float = TOLERANCE,
) -> TwoStage:
    """Return the placement of both stages.

    Parameters
    ----------
    options
        Back end and gap of stage 1; its time limit is shared out over the layers.
    clock
        When to stop; layers without time left keep the start.
    objective
        Of stage 2: ``sum`` or ``pair-max``.
    """
    loads = problem.profile.mean_shares()
    first = _stage_one(problem, loads, options, clock, seed, tolerance)
    clusters, deviation, bound, proven = first.clusters, first.deviation, first.bound, first.proven
    between = flows(problem.profile, clusters.reshape(problem.num_layers, -1), problem.gpus)
    if between is None:
        return TwoStage(clusters.reshape(problem.num_layers, -1), deviation, bound, None, proven, first.interrupted)
    whole = np.round(between)
    exact = np.abs(between - whole).max(initial=0.0) < 1e-6
    labels = label_clusters(whole.astype(np.int64) if exact else between, problem.topology, objective=objective)
    both = proven and labels.cost <= labels.bound * (1 + GAP)
    return TwoStage(labels.apply(clusters), deviation, bound, labels, both, first.interrupted)


@dataclass(slots=True)
class _Clusters:
    """What stage 1 leaves: [L, G, K], and what is known about it."""

    clusters: Numbers
    deviation: float | None = None
    bound: float | None = None
    proven: bool = False
    interrupted: bool = False


def _stage_one(problem: PlacementProblem, loads: Numbers, options: SolverOptions, clock: Clock, seed: int, tolerance: float) -> _Clusters:
    gpus, room = problem.gpus, problem.slots_per_gpu
    shape = (problem.num_layers, gpus, room)
    alone = replace(problem, traffic=TrafficModel.DISPATCH_COMBINE)
    if problem.has_replicas:
        counts = water_fill(loads, problem.num_slots, gpus)
        slots = place_replicas(loads / counts, counts, gpus)
        slots, interrupted = _balanced(alone, slots, seed, _spent(clock, 0.5))
        return _Clusters(slots.reshape(shape), interrupted=interrupted)
    start = rebalance(loads, problem.num_slots, 1, 1, gpus)[0]
    start, interrupted = _balanced(alone, start, seed, _spent(clock, 0.25))
    if problem.num_experts > MOST_EXPERTS or gpus > MOST_GPUS or gpus == 1:
        return _Clusters(start.reshape(shape), interrupted=interrupted)
    return _clustered(problem, loads, start.reshape(shape), options, Clock(0.0) if interrupted else clock, tolerance, interrupted)


def _balanced(problem: PlacementProblem, slots: Numbers, seed: int, fraction: Callable[[], float]) -> tuple[Numbers, bool]:
    """Return balanced slots and whether Ctrl-C ended that early, in which case they are the given ones."""
    try:
        return balance(problem, slots, seed, fraction)[0], False
    except KeyboardInterrupt:
        return slots, True


def _clustered(
    problem: PlacementProblem, loads: Numbers, start: Numbers, options: SolverOptions, clock: Clock, tolerance: float, interrupted: bool
) -> _Clusters:
    """Solve the integer program of every layer in turn, each with its share of the time that is left."""
    scale = 1.0 if loads.dtype.kind in "iu" else 1e6
    tokens = np.round(loads * scale).astype(np.int64)
    done = _Clusters(start.copy(), 0.0, 0.0, True, interrupted)
    for layer in range(problem.num_layers):
        before = np.empty(problem.num_experts, np.int64)
        before[start[layer].ravel()] = np.arange(problem.num_slots) // problem.slots_per_gpu
        left = 0.0 if done.interrupted else clock.remaining
        share = None if left is None else left / (problem.num_layers - layer)
        chosen = replace(options, gap=options.gap or GAP, time_limit=share)
        cluster, deviation, bound, outcome = cluster_layer(tokens[layer], before, chosen, tolerance=tolerance)
        done.clusters[layer] = np.argsort(cluster, kind="stable").reshape(start.shape[1:])
        done.deviation = (done.deviation or 0.0) + deviation / scale
        done.bound = (done.bound or 0.0) + (bound or 0) / scale
        done.proven &= outcome.status == Status.OPTIMAL or outcome.termination == Termination.GAP_REACHED
        done.interrupted |= outcome.termination == Termination.INTERRUPTED
    return done


def _spent(clock: Clock, share: float) -> Callable[[], float]:
    part, calls = clock.within(share), 0

    def fraction() -> float:
        nonlocal calls
        calls += 1
        if part.limit is None:
            return min(1.0, calls / _STEPS)
        return min(1.0, part.seconds / part.limit) if part.limit else 1.0

    return fraction
