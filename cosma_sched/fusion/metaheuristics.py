"""Random, genetic and Bayesian search for fused networks: baselines that prove nothing, all on the shared genome.

``genetic`` runs with tuned settings; `mapping.evolution.PUBLISHED` are those of published studies, kept for comparison. The tuned ones
were chosen among a few on two chains like AlexNet and like a small Darknet, neither of which the benchmark holds.
"""

from __future__ import annotations

import numpy as np

from cosma_sched.fusion.genome import Genome, Judge
from cosma_sched.mapping.evolution import MOST_TRIALS, Genetic, Space, draw_rows, evolve, tree_parzen
from cosma_sched.mapping.tilings import WISHES, Integers
from cosma_sched.progress import Progress

TUNED = Genetic(population=100, crossover=0.8, by_blocks=True, mutation=None, near=0.5, tournament=3)
DEFAULT_EVALUATIONS = {"random": 20_000, "genetic": 20_000, "bayesian": 200}


def search(judge: Judge, method: str, evaluations: int | None, seed: int, progress: Progress, settings: Genetic = TUNED) -> bool:
    """Search; the answer is with the judge. Return whether the user stopped it.

    Parameters
    ----------
    judge
        The evaluator.
    method
        ``random``, ``genetic`` or ``bayesian``.
    evaluations
        Networks to score; None for the method's default, at most 2,000 for ``bayesian``.
    seed
        Of all chance.
    progress
        Clock and observers.
    settings
        Of ``genetic``.

    Raises
    ------
    MissingError
        If pymoo or optuna is not installed.
    """
    budget = DEFAULT_EVALUATIONS[method] if evaluations is None else evaluations
    space = space_of(judge, sparse=settings.by_blocks)
    if method == "random":
        return draw_rows(space, budget, seed, progress)
    if method == "bayesian":
        return tree_parzen(space, min(budget, MOST_TRIALS), seed, progress)
    return evolve(space, settings, budget, seed, progress)


def space_of(judge: Judge, *, sparse: bool) -> Space:
    """Return the genome as what is searched.

    Parameters
    ----------
    judge
        The evaluator.
    sparse
        Draw first populations in which each row fuses its own share of the edges and uses as much of the array as it may.
    """
    genome = judge.genome
    return Space(genome.sizes, genome.blocks, judge.judge, lambda count, generator: _drawn(genome, count, generator, sparse=sparse))


def _drawn(genome: Genome, count: int, generator: np.random.Generator, *, sparse: bool) -> Integers:
    rows = genome.draw(count, generator)
    if sparse:
        edges = genome.edge_genes
        share = generator.random((count, 1))
        rows[:, edges] = generator.random((count, edges.stop - edges.start)) < share
        for layer in range(len(genome.layers)):
            start = genome.blocks[layer].start
            wide = slice(start + WISHES - 2, start + WISHES)
            rows[:, wide] = np.where(generator.random((count, 2)) < _WIDE, genome.sizes[wide] - 1, rows[:, wide])
    return rows


_WIDE = 0.7
"""Share of a first population's layers that use the array as widely as they may."""
