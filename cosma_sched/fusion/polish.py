"""Exact mappings for groups and tiles that another method found: what a good mapper makes of its choice."""

from __future__ import annotations

from collections.abc import Sequence

from cosma_sched.fusion.choice import GroupCost, cost_group, group_steps
from cosma_sched.fusion.fronts import StepFronts
from cosma_sched.fusion.group import Group
from cosma_sched.fusion.problem import FusionProblem
from cosma_sched.mapping.network import layerwise, sweep


def polished(
    problem: FusionProblem, costs: Sequence[GroupCost], fronts: StepFronts, *, objective: str = "edp", overlap: str = "layer"
) -> tuple[GroupCost, ...]:
    """Return the same groups, tiles, modes and resident weights with the best mapping of every step.

    Best for the network where steps follow each other; with ``overlap="group"`` the mappings are those that are best without it.

    Parameters
    ----------
    problem, costs
        Network, and its decided groups.
    fronts
        Fronts of steps, kept from call to call.
    objective, overlap
        What is to be least.
    """
    groups = [Group(problem, cost.members) for cost in costs]
    planned = [group_steps(group, cost.tile, cost.mode, cost.resident) for group, cost in zip(groups, costs, strict=True)]
    choices, counts = [], []
    for steps, cost in zip(planned, costs, strict=True):
        for step, held in zip(steps, cost.steps, strict=True):
            options = () if step.problem is None else fronts.options(step.problem, step.room(fronts.machine))
            score = held.score
            points = [(point.energy, point.latency) for point in options] or [(score.energy_pj, score.latency_cycles)]
            choices.append((step, options, points, held.mapping))
            counts.append(step.multiplicity)
    best = sweep(layerwise([points for _, _, points, _ in choices], counts)).best(objective)
    mappings = iter(
        fronts.mapping(step.problem, options[place]) if options and step.problem is not None else held
        for (step, options, _, held), place in zip(choices, best.choice, strict=True)
    )
    return tuple(
        cost_group(
            group, cost.tile, cost.mode, cost.resident, [next(mappings) for _ in steps], fronts.machine, halo=fronts.halo, overlap=overlap
        )
        for group, cost, steps in zip(groups, costs, planned, strict=True)
    )
