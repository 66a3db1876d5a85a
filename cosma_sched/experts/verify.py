"""The checker: everything a placement claims, recomputed from the saved result and the profile alone.

It uses the definitions of `load`, `traffic` and `bounds` and none of the tables that the search keeps, and imports no solver. Bounds that
rest on a flow are evaluated from the saved prices (any prices give a valid bound); the proven search is run again where its states are few.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cosma_sched.experts.bounds import copies_bound, group_bound, kept_bounds, scenario_load_bound
from cosma_sched.experts.evaluate import Judge, traffic_value
from cosma_sched.experts.load import copies_on_gpus, duplicate_slots, layer_peaks
from cosma_sched.experts.placement import Measured, Placement
from cosma_sched.experts.problem import PlacementProblem, Topology, TrafficModel
from cosma_sched.experts.profile import Profile
from cosma_sched.experts.statistics import Numbers
from cosma_sched.result import Status

_TOLERANCE = 1e-9
_MOST_NAMED = 20


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken rule.

    Parameters
    ----------
    rule
        Name of the rule.
    message
        What is wrong, with the values.
    layer
        Absolute number of the layer concerned, or None.
    slot
        The slot concerned, or None.
    """

    rule: str
    message: str
    layer: int | None = None
    slot: int | None = None

    def __str__(self) -> str:
        place = [f"layer {self.layer}"] if self.layer is not None else []
        place += [f"slot {self.slot}"] if self.slot is not None else []
        return f"{self.rule}: {', '.join(place)}{': ' if place else ''}{self.message}"


def topology_of(placement: Placement) -> Topology:
    """Return the topology a placement was made for."""
    facts = placement.topology
    matrix = None if facts.matrix is None else np.asarray(facts.matrix)
    return Topology(placement.gpus, placement.nodes, facts.inside, facts.across, matrix, facts.forwarding)


def judge_of(placement: Placement, profile: Profile, held_out: Profile | None) -> Judge:
    """Return the judge whose figures the placement reports."""
    options = placement.provenance.options
    return Judge(
        profile,
        held_out,
        topology_of(placement),
        TrafficModel(placement.traffic_model),
        options.get("replica-choice") == "static",
        options.get("batch"),
    )


def verify(profile: Profile, placement: Placement, held_out: Profile | None = None) -> list[Violation]:
    """Return every rule that the placement breaks; an empty list means that it holds.

    Parameters
    ----------
    profile
        The profile it was made with, held-out tokens removed.
    held_out
        The tokens it was judged by, or None.
    """
    if placement.slots is None:
        return (
            [] if placement.status == Status.INFEASIBLE and placement.reasons else [Violation("placement", "is missing without a reason")]
        )
    shape = [*_shape(profile, placement)]
    if shape:
        return shape
    slots = placement.array
    topology = topology_of(placement)
    problem = PlacementProblem(
        profile, topology, placement.slots_per_gpu, TrafficModel(placement.traffic_model), placement.max_load, placement.weights
    )
    found = [*_checksums(placement, slots), *_residency(placement, slots)]
    judge = judge_of(placement, profile, held_out)
    found += _figures(placement, judge, slots)
    found += _moves(placement, slots)
    found += _layers(placement, problem, slots)
    found += _bounds(placement, problem)
    return found


def checksums(slots: Numbers) -> list[tuple[int, int]]:
    """Return for each layer the sum of its experts and the sum weighted by slot numbers from 1: together they locate one edited slot."""
    weights = np.arange(1, slots.shape[1] + 1)
    return [(int(row.sum()), int((row * weights).sum())) for row in slots]


def _shape(profile: Profile, placement: Placement) -> Iterator[Violation]:
    if (placement.layers, placement.experts) != (profile.layers, profile.num_experts):
        yield Violation(
            "profile", f"the result is for {len(placement.layers)} layers of {placement.experts} experts, the profile has others"
        )
        return
    if placement.gpus % placement.nodes:
        yield Violation("nodes", f"{placement.gpus} GPUs cannot be shared out to {placement.nodes} nodes")
    rows, wanted = placement.slots or (), placement.gpus * placement.slots_per_gpu
    if len(rows) != len(placement.layers):
        yield Violation("every layer", f"there are {len(rows)} rows for {len(placement.layers)} layers")
        return
    for layer, row in zip(placement.layers, rows, strict=True):
        if len(row) != wanted:
            yield Violation("equal slots", f"has {len(row)} slots, {placement.gpus} GPUs have {wanted}", layer)
        for slot, expert in enumerate(row):
            if not 0 <= expert < placement.experts:
                yield Violation("expert ids", f"expert {expert} does not exist, there are {placement.experts}", layer, slot)


def _checksums(placement: Placement, slots: Numbers) -> Iterator[Violation]:
    for layer, row, found, stated in zip(placement.layers, slots, checksums(slots), placement.checksums, strict=False):
        if found == stated:
            continue
        change, moment = found[0] - stated[0], found[1] - stated[1]
        slot = moment // change - 1 if change and moment % change == 0 else -1
        if 0 <= slot < len(row):
            yield Violation("checksum", f"holds expert {row[slot]}, was written with expert {row[slot] - change}", layer, slot)
        else:
            yield Violation("checksum", "is not the row that was written", layer)
    if len(placement.checksums) != len(slots):
        yield Violation("checksum", f"there are {len(placement.checksums)} for {len(slots)} layers")


def _residency(placement: Placement, slots: Numbers) -> Iterator[Violation]:
    copies = copies_on_gpus(slots, placement.experts, placement.gpus)
    for row, expert in np.argwhere(copies.sum(axis=1) == 0)[:_MOST_NAMED]:
        yield Violation("every expert", f"expert {expert} is in no slot", placement.layers[row])
    if placement.method != "eplb":
        for row, gpu, expert in np.argwhere(copies > 1)[:_MOST_NAMED]:
            first = int(gpu) * placement.slots_per_gpu
            own = [first + k for k in range(placement.slots_per_gpu) if slots[row, first + k] == expert]
            yield Violation("replicas apart", f"expert {expert} is on GPU {gpu} already", placement.layers[row], own[-1])
    count = duplicate_slots(slots, placement.experts, placement.gpus)
    if count != placement.duplicate_slots:
        yield Violation("duplicate_slots", f"is stated as {placement.duplicate_slots}, recomputed {count}")


def _figures(placement: Placement, judge: Judge, slots: Numbers) -> Iterator[Violation]:
    load, traffic = judge.judge(slots)
    for name, stated, found in (("load", placement.load, load), ("traffic", placement.traffic, traffic)):
        yield from _compare_measured(name, stated, found)
    from cosma_sched.experts.eplb import contiguous, rebalance

    profile = judge.profile
    groups = placement.provenance.options.get("expert-groups") or 1
    for name, baseline in placement.baselines.items():
        if name == "contiguous":
            rows = contiguous(len(slots), placement.experts, slots.shape[1])
        elif name == "eplb":
            nodes = placement.nodes if groups > 1 else 1
            rows = rebalance(profile.mean_shares(), slots.shape[1], groups, nodes, placement.gpus)[0]
        else:
            continue
        base_load, base_traffic = judge.judge(rows)
        yield from _compare_measured(f"baselines.{name}.load", baseline.load, base_load)
        yield from _compare_measured(f"baselines.{name}.traffic", baseline.traffic, base_traffic)


def _compare_measured(name: str, stated: Measured[Any] | None, found: Measured[Any]) -> Iterator[Violation]:
    if stated is None:
        yield Violation("figures", f"{name} is missing")
        return
    for side in ("profile", "held_out"):
        mine, theirs = getattr(stated, side), getattr(found, side)
        if (mine is None) != (theirs is None):
            yield Violation("figures", f"{name}.{side} is {'missing' if mine is None else 'stated without held-out tokens'}")
        elif mine is not None:
            yield from _compare(f"{name}.{side}", asdict(mine), asdict(theirs))


def _compare(name: str, stated: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[Violation]:
    for key in {**stated, **found}:
        mine, theirs = stated.get(key), found.get(key)
        if isinstance(theirs, Mapping) and isinstance(mine, Mapping):
            yield from _compare(f"{name}.{key}", mine, theirs)
        elif not _same(mine, theirs):
            yield Violation("figures", f"{name}.{key} is stated as {mine}, recomputed {theirs}")


def _same(mine: Any, theirs: Any) -> bool:
    if isinstance(mine, tuple | list) and isinstance(theirs, tuple | list):
        return len(mine) == len(theirs) and all(_same(a, b) for a, b in zip(mine, theirs, strict=True))
    if mine is None or theirs is None or isinstance(mine, str):
        return bool(mine == theirs)
    return bool(abs(mine - theirs) <= _TOLERANCE * max(1.0, abs(theirs)))


def _moves(placement: Placement, slots: Numbers) -> Iterator[Violation]:
    if placement.current is None:
        if placement.moved_experts is not None:
            yield Violation("moved_experts", "is stated without a current placement")
        return
    after = copies_on_gpus(slots, placement.experts, placement.gpus) > 0
    before = copies_on_gpus(np.asarray(placement.current), placement.experts, placement.gpus) > 0
    moved = int((after & ~before).sum())
    if moved != placement.moved_experts:
        yield Violation("moved_experts", f"is stated as {placement.moved_experts}, recomputed {moved}")
    most = placement.provenance.options.get("max-moved")
    if most is not None and moved > most:
        yield Violation("moved_experts", f"{moved} experts move, --max-moved allows {most}")
    size = placement.provenance.options.get("expert-bytes")
    if size is not None and placement.moved_bytes != moved * size:
        yield Violation("moved_bytes", f"is stated as {placement.moved_bytes}, {moved} experts of {size} bytes have {moved * size}")


def _layers(placement: Placement, problem: PlacementProblem, slots: Numbers) -> Iterator[Violation]:
    peaks = layer_peaks(problem.weights_of_experts(), slots, placement.gpus)
    floors = scenario_load_bound(problem.profile, slots.shape[1], placement.gpus)
    if len(placement.per_layer) != len(slots):
        yield Violation("per_layer", f"there are {len(placement.per_layer)} entries for {len(slots)} layers")
        return
    capped = placement.method == "joint" and placement.max_load is not None and placement.provenance.options.get("max-moved") is None
    for figures, peak, floor in zip(placement.per_layer, peaks, floors, strict=True):
        if not _same(figures.load, float(peak)):
            yield Violation("per_layer", f"load is stated as {figures.load}, recomputed {float(peak)}", figures.layer)
        if figures.load_bound > float(floor) * (1 + _TOLERANCE) and placement.status != Status.OPTIMAL:
            yield Violation("per_layer", f"load_bound is stated as {figures.load_bound}, what is proven is {float(floor)}", figures.layer)
        if capped and peak > figures.best_load * float(placement.max_load or 1) * (1 + _TOLERANCE):
            yield Violation("max load", f"load {float(peak)} exceeds {placement.max_load} x {figures.best_load}", figures.layer)


def _bounds(placement: Placement, problem: PlacementProblem) -> Iterator[Violation]:
    bounds, load, traffic = placement.bounds, placement.load, placement.traffic
    if bounds is None or load is None or traffic is None:
        yield Violation("bounds", "are missing")
        return
    proven = _proven(placement, problem)
    for name, stated in asdict(bounds).items():
        if stated is None:
            continue
        if name not in proven or stated > proven[name] + _TOLERANCE * max(1.0, abs(proven[name])):
            yield Violation("bounds", f"{name} is stated as {stated}, what can be proven is {proven.get(name)}")
    values = {**asdict(traffic.profile), "load": load.profile.max_over_mean}
    static = placement.provenance.options.get("replica-choice") == "static"
    for name, stated in asdict(bounds).items():
        value = None if name == "group_load" or (static and name == "copies_per_token") else values.get(name)
        if stated is not None and value is not None and stated > value * (1 + _TOLERANCE):
            yield Violation("bounds", f"{name} {stated} exceeds the value {value}")
    if placement.gap is None or not _same(placement.gap.load, (load.profile.max_over_mean - bounds.load) / load.profile.max_over_mean):
        yield Violation("gap", "load is not (value - bound) / value")
    if placement.status == Status.OPTIMAL and not _is_optimal(placement, problem, proven):
        yield Violation("status", "is optimal, but the stated objective does not meet its bound")


def _proven(placement: Placement, problem: PlacementProblem) -> dict[str, float]:
    """Return the bounds that numpy alone can prove from the profile, the saved prices and, where it fits, the proven search."""
    profile, options = problem.profile, placement.provenance.options
    proven = {"load": float(scenario_load_bound(profile, problem.num_slots, problem.gpus).mean())}
    certificates = placement.certificates
    matrices = profile.pooled_transitions()
    kept = kept_bounds(problem, None if certificates.prices is None else np.asarray(certificates.prices))
    if kept is not None and matrices is not None:
        proven["remote_fraction"] = max(0.0, 1 - float(kept.sum()) / float(matrices.sum()))
    copies = copies_bound(problem, None if certificates.diagonals is None else np.asarray(certificates.diagonals))
    if copies is not None:
        proven["copies_per_token"] = copies
    groups = options.get("expert-groups")
    if groups and groups % problem.topology.nodes == 0:
        proven["group_load"] = float(
            np.max([group_bound(s.loads, groups, problem.topology.nodes) for s in profile.scenarios], axis=0).mean()
        )
    if placement.status == Status.OPTIMAL:
        proven |= _searched(placement, problem)
    return proven


def _searched(placement: Placement, problem: PlacementProblem) -> dict[str, float]:
    from cosma_sched.experts import replicas, viterbi

    if "enumeration" in placement.provenance.proved_by and problem.slots_per_gpu == 2:
        counts, enumerated = replicas.search_counts(problem.profile.mean_shares(), problem.gpus, 0, lambda: 1.0)
        work = problem.weights_of_experts()
        best = np.stack([replicas.pair_load(row[None], count[None]) for row, count in zip(work[0], counts, strict=True)])
        return {"load": float(best.mean())} if enumerated and len(work) == 1 else {}
    if not viterbi.fits(problem):
        return {}
    optimum = viterbi.joint_optimum(problem)
    found: dict[str, float] = {"load": float(optimum.best_loads.mean()), "objective": optimum.objective}
    if problem.weights is None and problem.traffic == TrafficModel.TOKEN_STAYS:
        matrices = problem.profile.pooled_transitions()
        total = 1.0 if matrices is None else float(matrices.sum())
        found["transition_cost"] = optimum.objective
        if problem.topology.is_uniform:
            found["remote_fraction"] = optimum.objective / float(problem.topology.costs().max()) / total
    elif problem.weights is None and not problem.topology.node_premium:
        found["copies_per_token"] = optimum.objective / problem.num_layers
    return found


def _is_optimal(placement: Placement, problem: PlacementProblem, proven: Mapping[str, float]) -> bool:
    if placement.load is None or placement.traffic is None:
        return False
    load = placement.load.profile.max_over_mean
    if "objective" not in proven:
        return _same(load, proven["load"])
    value = traffic_value(placement.traffic.profile, problem.topology, problem.traffic)
    if value is None:
        return False
    stays = problem.traffic == TrafficModel.TOKEN_STAYS
    matrices = problem.profile.pooled_transitions()
    if problem.weights is None:
        scale = float(matrices.sum()) if stays and matrices is not None else problem.num_layers
        return _same(value * scale / max(1.0, abs(proven["objective"])), proven["objective"] / max(1.0, abs(proven["objective"])))
    alpha, beta = problem.weights
    traffic = sum(figures.traffic or 0.0 for figures in placement.per_layer)
    return _same(alpha * load * problem.num_layers + beta * traffic, proven["objective"])
