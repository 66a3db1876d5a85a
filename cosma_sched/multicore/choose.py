"""``--split AUTO``: cut the layers so that a quick schedule does best, by the objective, among a family of splits.

Every candidate is scheduled by list, so that what is chosen is known to fit. First come cuts that are alike for all layers, no cut before
all others, and cuts by what weighs most in each layer; what does not fit is cut finer where it does not. Then the best one is changed layer
by layer while that helps. The choice is a heuristic: what is proven afterwards holds for the chosen split.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cosma_sched.errors import InfeasibleError, Lever
from cosma_sched.multicore.attention import best_split, head_of
from cosma_sched.multicore.cutting import Extents, Parts, Weights, by_weight, finer, neighbours, split_into, uniform, weights_of
from cosma_sched.multicore.list_scheduler import RULES, list_schedule
from cosma_sched.multicore.nodes import layer_extents
from cosma_sched.multicore.planner import schedule_problem
from cosma_sched.multicore.problem import Objective, ScheduleProblem
from cosma_sched.multicore.request import Request
from cosma_sched.multicore.schedule import Schedule
from cosma_sched.multicore.splits import Cut, Split
from cosma_sched.multicore.tables import Tables
from cosma_sched.progress import Clock

MOST_NODES = 20_000
"""Nodes of a candidate that is looked at."""

SHARE = 0.4
"""How much of the time limit choosing may take."""

MOST_SECONDS = 60.0
"""How long choosing may take whatever the limit; a list rule alone gets a quarter of it."""

_HEAD_PARTS = 8
"""Parts of every dimension that is cut, where the 243 splits of a head are searched and no block is given."""

_LEVER_SECONDS = 10.0
_MOST_REPAIRS = 40
_MOST_REPAIRED = 4_000
"""Nodes up to which cuts are made finer; with more, schedules by list take too long where memories are that tight."""

_MOST_LOOKS = 400
_ROWS = (1, 2, 4, 8, 16, 32, 64)
_RULES = {
    Objective.LATENCY: ("list-latency", "list-memory", "critical-path"),
    Objective.ENERGY: ("list-latency", "list-memory"),
    Objective.MEMORY: ("list-memory",),
}


class NothingFitsError(Exception):
    """No candidate that was looked at fits, and none finer is known not to."""


@dataclass(frozen=True)
class Choice:
    """A split, what the scheduler is asked for it, and the schedule that spoke for it."""

    split: Split
    problem: ScheduleProblem
    start: Schedule | None
    peak_bound: int | None = None
    """No split that `AUTO` looks at has a lower peak on all cores; None where that is not known."""
    interrupted: bool = False
    """Whether an interrupt ended the choice; `start` is then what there is."""


def choose(request: Request, block: int | None, clock: Clock, method: str = "exact") -> Choice:
    """Return the best candidate.

    Parameters
    ----------
    request
        Network, accelerator, costs, rules, objective.
    block
        Indices of each piece; None tries several numbers of parts.
    clock
        Of the whole call; choosing takes a share of what is left.
    method
        How the split will be scheduled: a list rule is judged by what that rule makes of it.

    Raises
    ------
    InfeasibleError
        If a layer fits nowhere however finely it is cut, with the reasons.
    NothingFitsError
        If no candidate fits within the nodes and the time that choosing may take.
    """
    if request.objective is Objective.MEMORY and head_of(request.graph) is not None:
        best = best_split(request.graph, request.semantics, size=block, parts=None if block else _HEAD_PARTS)
        return Choice(best.split, request.problem(best.split), None, best.bound_bytes)
    most = MOST_SECONDS if method == "exact" else MOST_SECONDS / 4
    left = clock.remaining
    timer = Clock(most if left is None else min(most, SHARE * left))
    patience = Clock(left if method == "exact" else MOST_SECONDS)  # a list rule takes what it takes
    search = _Search(request, method, timer, patience)
    interrupted = False
    try:
        search.blocks(block) if block is not None else search.run()
    except KeyboardInterrupt:
        if search.best is None:
            raise
        interrupted = True
    return search.choice(interrupted)


def that_fits(request: Request) -> Lever | None:
    """Return what to write for ``--split`` in place of a split that does not fit: a number of rows for all layers if one will do."""
    extents = layer_extents(request.graph, request.semantics.softmax)
    platform, timer = request.platform(), Clock(_LEVER_SECONDS)
    for name, wanted in _levers(extents):
        if timer.expired:
            return None
        parts = uniform(extents, wanted)
        if _count(split_into(parts), extents) > MOST_NODES:
            continue
        problem = request.expansion(split_into(parts)).problem(platform, request.semantics, request.objective)
        if finer(parts, problem, extents) is None:
            return Lever("--split", name, "every node then fits on a core")
    search = _Search(request, "exact", timer, timer)
    if search.repaired(uniform(extents, {})) is not None:
        return Lever("--split", "AUTO", "cuts each layer as finely as it must be to fit")
    return None


def _levers(extents: Extents) -> Iterator[tuple[str, dict[str, int]]]:
    most = max((has.get("rows", 1) for has in extents.values()), default=1)
    counts = [2**power for power in range(1, max(2, most.bit_length() + 1))]
    for rows in counts:
        yield f"rows={rows}", {"rows": rows}
    for dim in ("channels", "columns"):
        if any(dim in has for has in extents.values()):
            for rows in counts[:6]:
                for across in (2, 4, 8, 16):
                    yield f"rows={rows},{dim}={across}", {"rows": rows, dim: across}


class _Search:
    """The best candidate so far."""

    def __init__(self, request: Request, method: str, timer: Clock, patience: Clock) -> None:
        self.request, self.timer, self.patience = request, timer, patience
        self.rules: tuple[str, ...] = (method,) if method in RULES else _RULES[request.objective]
        self.extents = layer_extents(request.graph, request.semantics.softmax)
        self.platform = request.platform()
        self.across = max(1, sum(core.array is not None for core in request.accelerator.cores if core.is_compute))
        self.best: tuple[tuple[float, int], Split, ScheduleProblem, str] | None = None
        self.best_parts: Parts = {}
        self.refused: InfeasibleError | None = None
        self.seen: set[str] = set()
        self.pace = 0.0

    def choice(self, interrupted: bool = False) -> Choice:
        """Return the best split with its schedule, checked."""
        if self.best is None:
            if self.refused is not None:
                raise self.refused
            raise NothingFitsError
        _, split, problem, rule = self.best
        start = schedule_problem(problem, method=rule, time_limit=None)
        return Choice(split, problem, start if start.nodes else None, interrupted=interrupted)

    # what is looked at

    def blocks(self, size: int) -> None:
        """Look at cuts into pieces of one size, rows first."""
        for dims in (("rows",), ("columns",), ("channels",), ("contraction",), ("rows", "columns"), ("rows", "channels")):
            if any(dim in extent for extent in self.extents.values() for dim in dims) and not self._is_late():
                self.look(Split(tuple(Cut(dim, size=size) for dim in dims)))

    def run(self) -> None:
        """Look at cuts that are alike, at cuts by weight, and then around the best one."""
        weights = weights_of(self._problem(Split()))
        seeds = self.timer.within(0.5)
        for parts in self._seeds(weights):
            if self._is_late():
                return
            if self.best is not None and seeds.expired:
                break
            self.try_parts(parts, repair=True)
        if self.best is not None:
            self.rules = (self.best[3],)  # half the time; the other rule would seldom win now
        looks, improved = 0, True
        while improved and self.best is not None:
            improved = False
            for parts in neighbours(self.best_parts, self.extents, weights, self.across):
                looks += 1
                if self._is_late() or looks > _MOST_LOOKS:
                    return
                if self.try_parts(parts, repair=False):
                    improved = True
                    break

    def _is_late(self) -> bool:
        """Return whether to stop: with something in hand, when the share is used up."""
        return (self.patience if self.best is None else self.timer).expired

    def _seeds(self, weights: Mapping[str, Weights]) -> Iterator[Parts]:
        yield {}
        cores = self.across
        wide = [dim for dim in ("columns", "channels") if any(dim in extent for extent in self.extents.values())]
        if any(weight.weights for weight in weights.values()):
            for share in (2, 4, 8):
                yield by_weight(self.extents, weights, cores, share)
        most = max((extent.get("rows", 1) for extent in self.extents.values()), default=1)
        if most > max(_ROWS):
            for part in (4, 2, 1):  # a few rows at a time through all layers, where features are large
                yield uniform(self.extents, {"rows": most // part})
        for rows in _ROWS:
            for dim in wide:
                for columns in dict.fromkeys((1, cores)):
                    yield uniform(self.extents, {"rows": rows, dim: columns})

    # one candidate

    def try_parts(self, parts: Parts, *, repair: bool) -> bool:
        """Look at parts; where they do not fit, at the nearest finer ones that do. Return whether they are the best so far."""
        fitting = self.repaired(parts) if repair else parts
        if fitting is None or not self.look(split_into(fitting)):
            return False
        self.best_parts = fitting
        return True

    def repaired(self, parts: Parts) -> Parts | None:
        """Return the nearest finer parts that fit, or None."""
        most = max(_MOST_REPAIRED, min(MOST_NODES, _count(split_into(parts), self.extents)))
        for _ in range(_MOST_REPAIRS):
            if self._is_late() or _count(split_into(parts), self.extents) > most:
                return None
            after = finer(parts, self._problem(split_into(parts)), self.extents)
            if after is None:
                return parts
            if after == parts:
                self.look(split_into(parts))  # nothing is left to cut: keeps the reasons
                return None
            parts = after
        return None

    def look(self, split: Split) -> bool:
        """Schedule a split by list; return whether it is the best so far."""
        text = str(split.to_json())
        num_nodes = _count(split, self.extents)
        if text in self.seen or num_nodes > MOST_NODES or self._takes_too_long(num_nodes):
            return False
        self.seen.add(text)
        clock = Clock()
        try:
            problem = self._problem(split)
            tables = Tables.of(problem)
        except InfeasibleError as error:
            self.refused = error
            return False
        found = [(value, rule) for rule in self.rules if (value := self._value(problem, rule, tables)) is not None]
        self.pace = clock.seconds / max(1, len(problem.nodes))
        if not found:
            return False
        least, rule = min(found)
        key = least, len(problem.nodes)
        if self.best is not None and key >= self.best[0]:
            return False
        self.best = key, split, problem, rule
        return True

    def _takes_too_long(self, num_nodes: int) -> bool:
        """Return whether there is something to fall back on and no time for so many nodes."""
        left = self.timer.remaining
        return self.best is not None and left is not None and self.pace * num_nodes > left

    def _problem(self, split: Split) -> ScheduleProblem:
        return self.request.expansion(split).problem(self.platform, self.request.semantics, self.request.objective)

    def _value(self, problem: ScheduleProblem, rule: str, tables: Tables) -> float | None:
        draft = list_schedule(problem, rule=rule, tables=tables)
        if draft is None:
            return None
        if problem.objective is Objective.LATENCY:
            return draft.latency(problem)
        figures = draft.figures(problem)
        if problem.objective is Objective.ENERGY:
            return figures.energy.total
        if figures.offchip_bytes.spilled:
            return math.inf  # a peak with spills is no answer
        scope = problem.semantics.memory_scope
        return max(figures.peak_bytes.values(), default=0) if scope == "worst-core" else figures.peak_total_bytes


def _count(split: Split, extents: Extents) -> int:
    """Return how many nodes a split makes."""
    total = 0
    for name, extent in extents.items():
        total += math.prod(len(cut.bounds(extent[cut.dim])) - 1 for cut in split.of(name, extent))
    return total
