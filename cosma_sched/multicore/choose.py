"""``--split AUTO``: cut the layers so that a quick schedule does best, by the objective, among a family of splits.

Every candidate is scheduled by list, so that what is chosen is known to fit. The choice is a heuristic: what is proven afterwards holds for
the chosen split.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cosma_sched.errors import InfeasibleError, InputError
from cosma_sched.multicore.attention import best_split, head_of
from cosma_sched.multicore.nodes import layer_extents
from cosma_sched.multicore.planner import schedule_problem
from cosma_sched.multicore.problem import Objective, ScheduleProblem
from cosma_sched.multicore.request import Request
from cosma_sched.multicore.schedule import Schedule
from cosma_sched.multicore.splits import Cut, Split
from cosma_sched.progress import Clock

MOST_NODES = 20_000
"""Nodes of a candidate that is looked at."""

SHARE = 0.5
"""How much of the time limit choosing may take."""

_HEAD_PARTS = 8
"""Parts of every dimension that is cut, where the 243 splits of a head are searched and no block is given."""

_ROWS = (1, 2, 4, 8, 16, 32, 64)
_RULES = {Objective.LATENCY: ("list-latency", "critical-path"), Objective.ENERGY: ("list-latency",), Objective.MEMORY: ("list-memory",)}


@dataclass(frozen=True)
class Choice:
    """A split, what the scheduler is asked for it, and the schedule that spoke for it."""

    split: Split
    problem: ScheduleProblem
    start: Schedule | None
    peak_bound: int | None = None
    """No split that `AUTO` looks at has a lower peak on all cores; None where that is not known."""


def choose(request: Request, block: int | None, clock: Clock) -> Choice:
    """Return the best candidate.

    Parameters
    ----------
    request
        Network, accelerator, costs, rules, objective.
    block
        Indices of each piece; None tries several numbers of parts.
    clock
        Of the whole call; choosing takes at most half of what is left.

    Raises
    ------
    InfeasibleError
        If no candidate fits, with the reasons of the finest one.
    """
    if request.objective is Objective.MEMORY and head_of(request.graph) is not None:
        best = best_split(request.graph, request.semantics, size=block, parts=None if block else _HEAD_PARTS)
        return Choice(best.split, request.problem(best.split), None, best.bound_bytes)
    return _by_list(request, block, clock)


def _by_list(request: Request, block: int | None, clock: Clock) -> Choice:
    extents = layer_extents(request.graph, request.semantics.softmax)
    share = None if clock.remaining is None else SHARE * clock.remaining
    timer = Clock(share)
    best: Choice | None = None
    refused: InfeasibleError | None = None
    for split in _candidates(request, extents, block):
        if best is not None and timer.expired:
            break
        try:
            best = _better(best, _scheduled(request, split))
        except InfeasibleError as error:
            refused = error
    if best is None:
        if refused is not None:
            raise refused
        raise InputError(request.graph.name, f"every way to cut it makes more than {MOST_NODES:,} computation nodes; give a --split")
    return best


def _scheduled(request: Request, split: Split) -> Choice:
    problem = request.problem(split)
    found: Schedule | None = None
    for rule in _RULES[request.objective]:
        answer = schedule_problem(problem, method=rule, time_limit=None)
        if found is None or _rank(answer) < _rank(found):
            found = answer
    return Choice(split, problem, found)


def _better(one: Choice | None, other: Choice) -> Choice:
    if one is None or one.start is None:
        return other
    return other if other.start is not None and _rank(other.start) < _rank(one.start) else one


def _rank(answer: Schedule) -> tuple[float, int, int]:
    value = math.inf if answer.value is None else answer.value
    return value, answer.latency_cycles or 0, answer.peak_total_bytes or 0


def _candidates(request: Request, extents: Mapping[str, Mapping[str, int]], block: int | None) -> Iterator[Split]:
    """Yield splits from coarse to fine; with a block, one dimension of every layer is cut, rows first."""
    if block is not None:
        for dims in (("rows",), ("columns",), ("channels",), ("contraction",), ("rows", "columns"), ("rows", "channels")):
            split = Split(tuple(Cut(dim, size=block) for dim in dims))
            if any(dim in extent for extent in extents.values() for dim in dims) and _count(split, extents) <= MOST_NODES:
                yield split
        return
    cores = sum(core.is_compute for core in request.accelerator.cores)
    across = sorted({1, cores, 2} if cores > 1 else {1})
    for rows in _ROWS:
        for columns in across:
            for dim in ("columns", "channels") if columns > 1 else ("columns",):
                cuts = [Cut("rows", rows)] if rows > 1 else []
                cuts += [Cut(dim, columns)] if columns > 1 else []
                split = Split(tuple(cuts))
                if _count(split, extents) <= MOST_NODES and (columns == 1 or any(dim in extent for extent in extents.values())):
                    yield split


def _count(split: Split, extents: Mapping[str, Mapping[str, int]]) -> int:
    """Return how many nodes a split makes."""
    total = 0
    for name, extent in extents.items():
        total += math.prod(len(cut.bounds(extent[cut.dim])) - 1 for cut in split.of(name, extent))
    return total
