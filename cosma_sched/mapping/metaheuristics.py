"""Genetic and Bayesian search for the mappings of one layer: baselines that prove nothing.

A mapping is ten numbers: a divisor of each dim, one of C and one of K for the array, and the class of the L3 order. What does not fit is
shrunk until it does. Made least is the layer's own energy times latency; every mapping that was scored may join the front.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cosma_sched.mapping.batch import evaluate_chunks
from cosma_sched.mapping.cost import Machine, shape_of
from cosma_sched.mapping.evolution import MOST_TRIALS, Genetic, Integers, Space, evolve, tree_parzen
from cosma_sched.mapping.front import Front
from cosma_sched.mapping.layer import C, K, Layer
from cosma_sched.mapping.sampling import gemmini_batch, smallest_tiles
from cosma_sched.mapping.search import LayerSearch, floor_of
from cosma_sched.mapping.space import divisors, gemmini_nest, l3_orders
from cosma_sched.mapping.tilings import DivisorTable, Floats, Needs, tile
from cosma_sched.progress import Progress

TUNED = Genetic(population=100, crossover=0.8, by_blocks=True, mutation=None, near=0.5, tournament=3)
DEFAULT_EVALUATIONS = {"genetic": 10_000, "bayesian": 200}
METHODS = tuple(DEFAULT_EVALUATIONS)


class LayerJudge:
    """Decodes, repairs and scores mappings of one layer.

    Parameters
    ----------
    layer, machine, halo
        What is mapped on what, and the window rule.
    """

    def __init__(self, layer: Layer, machine: Machine, halo: str) -> None:
        self.layer, self.machine, self.halo = layer, machine, halo
        self.front = Front()
        self.evaluations = 0
        self._orders = tuple(l3_orders(halo).values())
        self._divisors = DivisorTable()
        choices = [np.array(divisors(extent), dtype=np.int64) for extent in layer.dims]
        for dim, limit in ((C, machine.rows), (K, machine.cols)):
            choices.append(choices[dim][choices[dim] <= limit])
        self._choices = choices
        self.sizes = np.array([*(len(values) for values in choices), len(self._orders)], dtype=np.int64)

    @property
    def space(self) -> Space:
        """Return what is searched; each gene is a block of its own."""
        blocks = tuple(slice(gene, gene + 1) for gene in range(self.sizes.size))
        return Space(self.sizes, blocks, self.judge, self._drawn)

    def _drawn(self, count: int, generator: np.random.Generator) -> Integers:
        return np.asarray(generator.integers(0, self.sizes, (count, self.sizes.size)))

    def judge(self, genes: Integers) -> Floats:
        """Return energy times latency of rows of numbers."""
        count = len(genes)
        wishes = np.stack([values[genes[:, gene]] for gene, values in enumerate(self._choices)]).astype(np.float64)
        tilings, _ = tile(self.machine, self._divisors, self._needs(count), wishes)
        spatial, inner, outer, order = tilings.spatial, tilings.inner, tilings.outer, genes[:, -1]
        batch = gemmini_batch(spatial, inner, outer, np.array(self._orders, dtype=np.int8)[order].T)
        values = np.empty(count)
        for rows, cost in evaluate_chunks(self.machine, shape_of(self.layer), batch, halo=self.halo):
            first = rows.start

            def name(row: int, first: int = first) -> str:
                at = first + row
                place = self._orders[int(order[at])]
                return str(gemmini_nest(int(spatial[0, at]), int(spatial[1, at]), inner[:, at].tolist(), outer[:, at].tolist(), place))

            energy, latency = np.rint(cost.energy_pj), np.ceil(cost.cycles)
            self.front.absorb(energy, latency, cost.scratchpad_bytes, cost.dram_words, name)
            values[rows] = energy * latency
        self.evaluations += count
        return values

    def _needs(self, count: int) -> Needs:
        layer = self.layer

        def row(value: float) -> NDArray[np.int64]:
            return np.full(count, int(value), dtype=np.int64)

        dims = np.repeat(np.array(layer.dims, dtype=np.int64)[:, None], count, axis=1)
        strides = (row(layer.stride_p), row(layer.stride_q), row(layer.dilation_p), row(layer.dilation_q))
        takes = np.ones(count, dtype=bool)
        w_bytes, i_bytes, _ = layer.element_bytes
        return Needs(dims, *strides, row(w_bytes), row(i_bytes), takes, takes, row(self.machine.scratchpad_bytes))


def search_by_trial(
    layers: Sequence[Layer], machine: Machine, halo: str, method: str, evaluations: int | None, seed: int, progress: Progress
) -> tuple[dict[Layer, LayerSearch], bool]:
    """Search every layer by one of `METHODS`; return what was found, and whether the user stopped it.

    Parameters
    ----------
    layers, machine, halo
        What is mapped on what, and the window rule.
    method
        One of `METHODS`.
    evaluations
        Mappings of each layer to score; None for the method's default, at most 2,000 for ``bayesian``.
    seed
        Of all chance.
    progress
        Clock and observers.

    Raises
    ------
    MissingError
        If pymoo or optuna is not installed.
    """
    budget = DEFAULT_EVALUATIONS[method] if evaluations is None else evaluations
    searches: dict[Layer, LayerSearch] = {}
    interrupted = False
    for index, layer in enumerate(layers):
        progress.report("layers", note=f"layer {index + 1} of {len(layers)}: {layer}")
        judge = LayerJudge(layer, machine, halo)
        if not interrupted and (index == 0 or not progress.clock.expired):
            quiet = Progress(progress.clock)
            if method == "genetic":
                interrupted = evolve(judge.space, TUNED, budget, seed, quiet)
            else:
                interrupted = tree_parzen(judge.space, min(budget, MOST_TRIALS), seed, quiet)
        points = judge.front.points or smallest_tiles(layer, machine, halo).points
        searches[layer] = LayerSearch(points, floor_of(layer, machine), judge.evaluations, False)
    return searches, interrupted
