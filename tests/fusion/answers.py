"""Fusion results built by hand from groups, tiles, modes and weights, with any mapping that fits for each step."""

from __future__ import annotations

from collections.abc import Sequence

from cosma_sched.accelerator import Accelerator, load_accelerator
from cosma_sched.fusion.answer import FusionResult
from cosma_sched.fusion.assemble import fused_group, fused_layers
from cosma_sched.fusion.choice import cost_group, group_steps
from cosma_sched.fusion.fronts import StepFronts
from cosma_sched.fusion.group import Group, Mode
from cosma_sched.fusion.limits import ceiling_edp, unfused
from cosma_sched.fusion.reading import fusion_problem
from cosma_sched.fusion.topology import members_of
from cosma_sched.graph import Graph
from cosma_sched.mapping.cost import machine_of
from cosma_sched.result import Provenance, Status, Termination

Wish = tuple[tuple[str, ...], tuple[int, int, int] | None, str, tuple[str, ...]]
"""Members, tile (None for the whole extent), mode, and those whose weights stay."""


def result_of(
    graph: Graph, accelerator: str | Accelerator, wishes: Sequence[Wish], *, charged: bool = False, overlap: str = "layer"
) -> FusionResult:
    """Return a feasible result; every member that no wish names runs by itself."""
    problem, device = fusion_problem(graph, charged=charged), load_accelerator(accelerator)
    machine = machine_of(device)
    names = [node.name for node in problem.nodes]
    fronts, own = StepFronts(machine, "parity"), members_of(graph)
    alone = unfused(own.values(), machine, "parity", "edp", charged=charged)
    words = {names.index(name): count for name, count in alone.words.items()}
    wished = {name: wish for wish in wishes for name in wish[0]}
    groups = []
    for name in names:
        members, size, mode, resident = wished.get(name, ((name,), None, "recompute", ()))
        if name != members[-1]:
            continue
        group = Group(problem, tuple(names.index(member) for member in members))
        tile, stays = size or group.sink.extent, tuple(names.index(member) for member in resident)
        mappings = []
        for step in group_steps(group, tile, Mode(mode), stays):
            options = fronts.options(step.problem, step.room(machine)) if step.problem is not None else ()
            mappings.append(fronts.mapping(step.problem, options[0]) if step.problem is not None else None)
        cost = cost_group(group, tile, Mode(mode), stays, mappings, machine, overlap=overlap)
        groups.append(fused_group(problem, cost, words))
    energy, latency = sum(group.energy_pj for group in groups), sum(group.latency_cycles for group in groups)
    return FusionResult(
        status=Status.FEASIBLE,
        termination=Termination.EXHAUSTED,
        seconds=0.0,
        verified=False,
        provenance=Provenance("0", None, graph.sha256, "none"),
        accelerator=device,
        objective="edp",
        method="exact",
        options={"halo": "parity", "psum_words": 1, "vector_ops": "charged" if charged else "free", "overlap": overlap, "space": ""},
        energy_pj=energy,
        latency_cycles=latency,
        edp=energy * latency,
        unfused_energy_pj=alone.energy_pj,
        unfused_latency_cycles=alone.latency_cycles,
        unfused_edp=alone.energy_pj * alone.latency_cycles,
        ceiling_edp=ceiling_edp(own, machine, overlap=overlap),
        groups=tuple(groups),
        layers=fused_layers(problem, groups),
    )
