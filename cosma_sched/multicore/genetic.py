"""The genetic baseline: NSGA-II over allocations, decoded by list scheduling (pymoo, extra ``baselines``).

A gene is the core of all computation nodes of a layer, or of one row band of it where there are few nodes. Population, generations and
rates default to the settings of Stream's study of 2023: 128 individuals, 5 generations, two-point crossover with rate 0.3, mutation with
rate 0.7, of which three quarters redraw one gene and one quarter swaps two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cosma_sched.errors import InfeasibleError, Reason
from cosma_sched.extras import need
from cosma_sched.multicore.draft import Draft
from cosma_sched.multicore.figures import energy_of
from cosma_sched.multicore.list_scheduler import list_schedule
from cosma_sched.multicore.problem import Objective, ScheduleProblem
from cosma_sched.multicore.tables import Tables
from cosma_sched.progress import Clock

MOST_SINGLE = 64
"""With so many nodes or fewer, each has a gene of its own."""

_REFUSED = 1e30


@dataclass(frozen=True, slots=True)
class Settings:
    """Of NSGA-II."""

    population: int = 128
    generations: int = 5
    crossover: float = 0.3
    mutation: float = 0.7
    redraw: float = 0.75


@dataclass(frozen=True)
class Found:
    """The schedule that is best by the objective, the non-dominated (energy, latency) pairs, and how many allocations were decoded."""

    best: Draft
    front: tuple[tuple[int, int], ...]
    evaluations: int


def genetic_schedule(problem: ScheduleProblem, *, seed: int = 0, clock: Clock | None = None, settings: Settings | None = None) -> Found:
    """Return what NSGA-II finds.

    Parameters
    ----------
    problem
        What to schedule.
    seed
        Of everything that is drawn.
    clock
        When to stop; the best so far is kept.
    settings
        Population, generations, rates.

    Raises
    ------
    MissingError
        If pymoo is not installed.
    InfeasibleError
        If no allocation that was tried could be scheduled.
    """
    need("pymoo", extra="baselines")
    decoder = _Decoder(problem, Clock(None) if clock is None else clock)
    decoder.start()
    _evolve(decoder, seed, settings or Settings())
    if decoder.best is None:
        raise InfeasibleError([Reason("memory", problem.name, "no allocation that was tried could be scheduled")])
    return Found(decoder.best, tuple(sorted(decoder.front)), decoder.evaluations)


class _Decoder:
    """From genes to schedules; remembers the best one and the front."""

    def __init__(self, problem: ScheduleProblem, clock: Clock) -> None:
        self.problem, self.clock = problem, clock
        self.tables = Tables.of(problem)
        self.genes = _genes(problem, self.tables)
        self.choices = [_common(self.tables.allowed, nodes) for nodes in self.genes]
        self.best: Draft | None = None
        self.front: set[tuple[int, int]] = set()
        self.evaluations = 0
        self._best_rank: tuple[int, ...] = ()
        self._seen: dict[tuple[int, ...], tuple[float, float]] = {}

    def start(self) -> None:
        """Take the list scheduler's own allocation as the first incumbent."""
        self._offer(list_schedule(self.problem, tables=self.tables))

    def objectives(self, genome: Sequence[int]) -> tuple[float, float]:
        """Return energy and latency of a genome; both huge where it cannot be scheduled, or where time is over."""
        key = tuple(int(gene) for gene in genome)
        if key not in self._seen:
            if self.clock.expired and self.best is not None:
                return _REFUSED, _REFUSED
            cores = [0] * len(self.problem.nodes)
            for nodes, allowed, gene in zip(self.genes, self.choices, key, strict=True):
                for node in nodes:
                    cores[node] = allowed[gene % len(allowed)]
            self.evaluations += 1
            self._seen[key] = self._offer(list_schedule(self.problem, cores=cores, tables=self.tables))
        return self._seen[key]

    def _offer(self, draft: Draft | None) -> tuple[float, float]:
        if draft is None:
            return _REFUSED, _REFUSED
        energy = energy_of(self.problem, draft.runs(self.problem), draft.transfers(self.problem)).total
        latency = draft.latency(self.problem)
        if self.problem.objective is Objective.MEMORY:
            rank: tuple[int, ...] = (draft.figures(self.problem).peak_total_bytes, latency, energy)
        else:
            rank = (energy, latency) if self.problem.objective is Objective.ENERGY else (latency, energy)
        if self.best is None or rank < self._best_rank:
            self.best, self._best_rank = draft, rank
        if not any(other[0] <= energy and other[1] <= latency for other in self.front):
            self.front = {other for other in self.front if other[0] < energy or other[1] < latency} | {(energy, latency)}
        return float(energy), float(latency)


def _genes(problem: ScheduleProblem, tables: Tables) -> list[list[int]]:
    """Return the nodes of each gene: all of a layer that may run on the same cores, or single ones."""
    if len(problem.nodes) <= MOST_SINGLE:
        return [[node] for node in range(len(problem.nodes))]
    groups: dict[tuple[str, tuple[int, ...]], list[int]] = {}
    for position, node in enumerate(problem.nodes):
        groups.setdefault((node.layer, tables.allowed[position]), []).append(position)
    return list(groups.values())


def _common(allowed: Sequence[Sequence[int]], nodes: Sequence[int]) -> list[int]:
    return [core for core in allowed[nodes[0]] if all(core in allowed[node] for node in nodes)]


def _evolve(decoder: _Decoder, seed: int, settings: Settings) -> None:
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.problem import ElementwiseProblem
    from pymoo.operators.crossover.pntx import TwoPointCrossover
    from pymoo.operators.sampling.rnd import IntegerRandomSampling
    from pymoo.optimize import minimize

    most = np.array([len(choices) - 1 for choices in decoder.choices])

    class Allocation(ElementwiseProblem):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(n_var=len(most), n_obj=2, xl=np.zeros_like(most), xu=most, vtype=int)

        def _evaluate(self, genome: Any, out: dict[str, Any], *args: Any, **kwargs: Any) -> None:
            del args, kwargs
            out["F"] = list(decoder.objectives(genome))

    algorithm = NSGA2(
        pop_size=settings.population,
        sampling=IntegerRandomSampling(),
        crossover=TwoPointCrossover(prob=settings.crossover),
        mutation=_mutation(settings, most, seed),
        eliminate_duplicates=True,
    )
    minimize(Allocation(), algorithm, ("n_gen", settings.generations + 1), seed=seed, verbose=False, save_history=False)


def _mutation(settings: Settings, most: Any, seed: int) -> Any:
    from pymoo.core.mutation import Mutation

    rng = np.random.default_rng(seed)

    class RedrawOrSwap(Mutation):  # type: ignore[misc]
        def _do(self, problem: Any, genomes: Any, **kwargs: Any) -> Any:
            del problem, kwargs
            changed = genomes.copy()
            for genome in changed:
                if rng.random() < settings.redraw or len(genome) < 2:
                    position = rng.integers(len(genome))
                    genome[position] = rng.integers(most[position] + 1)
                else:
                    one, other = rng.choice(len(genome), 2, replace=False)
                    genome[one], genome[other] = min(genome[other], most[one]), min(genome[one], most[other])
            return changed

    return RedrawOrSwap(prob=settings.mutation)
