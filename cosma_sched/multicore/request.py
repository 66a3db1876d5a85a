"""What is asked in a user's terms: a network, an accelerator, costs and rules; and the same again from a saved answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from cosma_sched.accelerator import Accelerator
from cosma_sched.errors import Defect, InputError
from cosma_sched.graph import Graph
from cosma_sched.multicore.cost_table import TableCosts
from cosma_sched.multicore.costs import CostProvider, NodeCost, provider
from cosma_sched.multicore.nodes import Expansion, assumptions_of, expand
from cosma_sched.multicore.platform import Platform
from cosma_sched.multicore.platforms import default_capacity_rule, platform_of
from cosma_sched.multicore.problem import Objective, ScheduleProblem, Semantics
from cosma_sched.multicore.schedule import Schedule
from cosma_sched.multicore.splits import Split

TILE_LOOP = "tile_loop"
"""Key of `Schedule.split` where a tile loop was scheduled instead of single nodes."""


@dataclass(frozen=True)
class Request:
    """A network on an accelerator under given rules.

    Parameters
    ----------
    graph, accelerator, costs
        The network, the cores, and what a computation node costs.
    semantics
        Complete: the capacity rule is the one in effect.
    capacities
        Bytes by core id, memory or ``*`` in place of the file's.
    """

    graph: Graph
    accelerator: Accelerator
    costs: CostProvider
    semantics: Semantics
    objective: Objective = Objective.LATENCY
    capacities: Mapping[str, int] | None = None

    def platform(self) -> Platform:
        """Return the cores, memories and routes under the rules."""
        rules = self.semantics
        return platform_of(self.accelerator, capacity_rule=rules.capacity_rule, timing=rules.timing, capacities=self.capacities)

    def expansion(self, split: Split) -> Expansion:
        """Return the network, cut."""
        return expand(self.graph, split, self.semantics, self.costs)

    def problem(self, split: Split) -> ScheduleProblem:
        """Return what the scheduler is asked for one split."""
        return self.expansion(split).problem(self.platform(), self.semantics, self.objective)

    def describe(self, schedule: Schedule, split: Mapping[str, Any]) -> Schedule:
        """Return an answer with all that is needed to check it again, but the graph."""
        costs: dict[str, Any] = {"provider": self.costs.name, "assumptions": list(self.costs.assumptions)}
        if isinstance(self.costs, TableCosts):
            costs["table"] = {key: {core: list(cost) for core, cost in row.items()} for key, row in self.costs.table.items()}
        read = self.graph.origin.warnings if self.graph.origin is not None else ()
        warnings = (*read, *schedule.warnings, *self.costs.warnings, *assumptions_of(self.graph, self.semantics.softmax))
        return schedule.replace(accelerator=self.accelerator.to_json(), costs=costs, split=split, warnings=warnings)


def rules(semantics: Semantics, accelerator: Accelerator) -> Semantics:
    """Return the semantics with the capacity rule of the accelerator where none is given."""
    return semantics if semantics.capacity_rule else replace(semantics, capacity_rule=default_capacity_rule(accelerator))


def asked_again(graph: Graph, schedule: Schedule, path: str = "schedule") -> Request:
    """Return the request that a saved answer was made for.

    Raises
    ------
    InputError
        If its accelerator or costs cannot be read.
    """
    accelerator = Accelerator.from_json(schedule.accelerator, path)
    costs = _costs(schedule.costs, accelerator, path)
    capacities = schedule.provenance.options.get("capacity")
    return Request(graph, accelerator, costs, schedule.semantics, schedule.objective, capacities)


def _costs(document: Mapping[str, Any], accelerator: Accelerator, path: str) -> CostProvider:
    name = document.get("provider")
    table = document.get("table")
    if isinstance(table, Mapping):
        rows = {key: {core: NodeCost(*cost) for core, cost in row.items()} for key, row in table.items()}
        return TableCosts(str(name).removeprefix("table "), rows, accelerator)
    if name not in ("analytic", "mapping"):
        raise InputError(path, [Defect("costs.provider", f"must be analytic, mapping, or a table that comes with it, got {name!r}")])
    return provider(str(name), accelerator)
