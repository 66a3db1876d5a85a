"""Searches over rows of whole numbers that know nothing but values: random, genetic (pymoo) and Bayesian (optuna).

Baselines: they prove nothing. Every value asked for is one evaluation, whoever asks.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cosma_sched.extras import need
from cosma_sched.progress import Progress

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]

MOST_TRIALS = 2_000
"""Evaluations beyond which the Bayesian search takes longer to think than to evaluate."""
_BATCH = 256


@dataclass(frozen=True, slots=True)
class Genetic:
    """Settings of the genetic search.

    Parameters
    ----------
    population
        Rows alive.
    crossover
        Probability that two parents are crossed.
    by_blocks
        Cross whole blocks of genes (a layer, a node, an edge) uniformly; else two points.
    mutation
        Probability that a gene changes; None for a few genes of each row.
    near
        Share of changes that go to a neighbouring value.
    tournament
        Rows that compete to be a parent.
    """

    population: int = 50
    crossover: float = 0.8
    by_blocks: bool = False
    mutation: float | None = 0.1
    near: float = 0.0
    tournament: int = 3


PUBLISHED = Genetic()
"""As studies of mapping by genetic search set it."""


@dataclass(frozen=True, slots=True)
class Space:
    """What is searched.

    Parameters
    ----------
    sizes
        How many values each gene has.
    blocks
        Slices of genes that belong together.
    judge
        Values of rows, to be made least.
    draw
        Draws rows of a first population.
    """

    sizes: Integers
    blocks: tuple[slice, ...]
    judge: Callable[[Integers], Floats]
    draw: Callable[[int, np.random.Generator], Integers]

    def uniform(self, count: int, generator: np.random.Generator) -> Integers:
        """Draw rows uniformly."""
        return np.asarray(generator.integers(0, self.sizes, (count, self.sizes.size)))


def draw_rows(space: Space, evaluations: int, seed: int, progress: Progress) -> bool:
    """Judge random rows; return whether the user stopped it.

    Parameters
    ----------
    space
        What is searched.
    evaluations
        Rows to judge; fewer where the clock ends.
    seed
        Of the draw.
    progress
        Clock and observers.
    """
    generator = np.random.default_rng([seed, 1])
    done = 0
    try:
        while done < evaluations and (done == 0 or not progress.clock.expired):
            progress.report("random", note=f"evaluation {done} of {evaluations}")
            rows = min(_BATCH, evaluations - done)
            space.judge(space.uniform(rows, generator))
            done += rows
    except KeyboardInterrupt:
        return True
    return False


def evolve(space: Space, settings: Genetic, evaluations: int, seed: int, progress: Progress) -> bool:
    """Run a genetic search; return whether the user stopped it.

    Parameters
    ----------
    space, settings
        What is searched how.
    evaluations
        Rows to judge; fewer where the clock ends.
    seed
        Of all chance.
    progress
        Clock and observers.

    Raises
    ------
    MissingError
        If pymoo is not installed.
    """
    algorithm, evaluate = _genetic(space, settings, seed)
    done = 0
    try:
        while done < evaluations and (done == 0 or not progress.clock.expired):
            progress.report("genetic", note=f"evaluation {done} of {evaluations}")
            rows = algorithm.ask()
            if rows is None or len(rows) == 0:
                break
            rows = rows[: evaluations - done]
            evaluate(rows)
            algorithm.tell(infills=rows)
            done += len(rows)
    except KeyboardInterrupt:
        return True
    return False


def _genetic(space: Space, settings: Genetic, seed: int) -> tuple[Any, Callable[[Any], None]]:
    """Return pymoo's algorithm, and the function that gives its rows their values."""
    need("pymoo", extra="baselines")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pymoo and what it imports warn of their own affairs
        from pymoo.algorithms.soo.nonconvex.ga import GA, comp_by_cv_and_fitness
        from pymoo.core.crossover import Crossover
        from pymoo.core.mutation import Mutation
        from pymoo.core.problem import Problem
        from pymoo.operators.crossover.pntx import TwoPointCrossover
        from pymoo.operators.selection.tournament import TournamentSelection
        from pymoo.termination.max_gen import MaximumGenerationTermination
    generator = np.random.default_rng([seed, 2])

    class Reset(Mutation):  # type: ignore[misc]
        """Give some genes another value, a neighbour or any."""

        def _do(self, problem: Any, X: Integers, **_: Any) -> Integers:  # noqa: ARG002, N803 - pymoo's names
            return _mutated(X, space.sizes, settings, generator)

    class Blocks(Crossover):  # type: ignore[misc]
        """Exchange whole blocks."""

        def _do(self, problem: Any, X: Integers, **_: Any) -> Integers:  # noqa: ARG002, N803 - pymoo's names
            return _exchanged(X, space.blocks, generator)

    crossing = Blocks(2, 2, prob=settings.crossover) if settings.by_blocks else TwoPointCrossover(prob=settings.crossover)
    problem = Problem(n_var=space.sizes.size, n_obj=1, xl=0, xu=space.sizes - 1, vtype=int)
    algorithm = GA(
        pop_size=settings.population,
        sampling=space.draw(settings.population, generator),
        selection=TournamentSelection(func_comp=comp_by_cv_and_fitness, pressure=settings.tournament),
        crossover=crossing,
        mutation=Reset(prob=1.0),
        eliminate_duplicates=True,
    )
    algorithm.setup(problem, termination=MaximumGenerationTermination(2**31), seed=seed, verbose=False)

    def evaluate(rows: Any) -> None:
        values = np.log(space.judge(np.asarray(rows.get("X"), dtype=np.int64)))
        rows.set("F", values[:, None])
        for row in rows:
            row.evaluated.update({"F", "G", "H"})
            row.set("G", np.empty(0))
            row.set("H", np.empty(0))

    return algorithm, evaluate


def _mutated(rows: Integers, sizes: Integers, settings: Genetic, generator: np.random.Generator) -> Integers:
    rows = np.asarray(rows, dtype=np.int64)
    if settings.mutation is None:
        # One gene, or two, or four, ...: late in a search single changes help most, early ones may be bold.
        share = 2.0 ** generator.integers(0, 5, (len(rows), 1)) / sizes.size
    else:
        share = np.full((len(rows), 1), settings.mutation)
    change = generator.random(rows.shape) < share
    anywhere = generator.integers(0, sizes, rows.shape)
    beside = np.clip(rows + generator.choice([-1, 1], rows.shape), 0, sizes - 1)
    return np.where(change, np.where(generator.random(rows.shape) < settings.near, beside, anywhere), rows)


def _exchanged(parents: Integers, blocks: tuple[slice, ...], generator: np.random.Generator) -> Integers:
    """Return children: ``parents[parent, mating, gene]`` with about every second block, or every few, exchanged."""
    children = np.array(parents, dtype=np.int64)
    rate = generator.choice([0.5, 0.1], (parents.shape[1], 1))
    swap = generator.random((parents.shape[1], len(blocks))) < rate
    lengths = [block.stop - block.start for block in blocks]
    genes = np.repeat(swap, lengths, axis=1)
    children[0][genes], children[1][genes] = parents[1][genes], parents[0][genes]
    return children


def tree_parzen(space: Space, evaluations: int, seed: int, progress: Progress) -> bool:
    """Run optuna's tree-structured Parzen estimator over categorical genes; return whether the user stopped it.

    Parameters
    ----------
    space
        What is searched.
    evaluations
        Rows to judge; fewer where the clock ends.
    seed
        Of the sampler.
    progress
        Clock and observers.

    Raises
    ------
    MissingError
        If optuna is not installed.
    """
    optuna: Any = need("optuna", extra="baselines")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the multivariate sampler is called experimental
        sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, n_startup_trials=min(_STARTUP, max(1, evaluations // 4)))
    study = optuna.create_study(sampler=sampler, direction="minimize")
    choices = {f"g{gene}": optuna.distributions.CategoricalDistribution(range(size)) for gene, size in enumerate(space.sizes.tolist())}
    done = 0
    try:
        while done < evaluations and (done == 0 or not progress.clock.expired):
            progress.report("bayesian", note=f"evaluation {done} of {evaluations}")
            trial = study.ask(choices)
            row = np.array([[trial.params[name] for name in choices]], dtype=np.int64)
            study.tell(trial, float(np.log(space.judge(row)[0])))
            done += 1
    except KeyboardInterrupt:
        return True
    return False


_STARTUP = 50
"""Random rows before the estimator is asked."""
