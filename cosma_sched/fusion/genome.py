"""A fused network as a row of whole numbers, and what the numbers stand for: the space that all methods of trial share.

    layer   a divisor of each of N K C P Q R S, one of C for the array's rows and one of K for its columns, the class of the L3 order,
            and whether the weights stay where the layer is fused
    node    the tile of its result (batch, rows, columns) and the mode, used where the node ends a group
    edge    one bit: producer and reader shall run in one group

Decoding repairs: what is no group is cut, tiles shrink until every capacity holds, a group that never fits is split. Each decoded and
scored row is one evaluation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cosma_sched.fusion.choice import GroupCost, cost_group, group_steps
from cosma_sched.fusion.group import MODES, Group, Mode, Tile
from cosma_sched.fusion.grouping import Grouper, Partitioner, Way
from cosma_sched.fusion.problem import FusionProblem
from cosma_sched.fusion.rows import Field, RowScorer, Scored
from cosma_sched.mapping.cost import Machine
from cosma_sched.mapping.layer import C, K
from cosma_sched.mapping.space import divisors
from cosma_sched.mapping.tilings import WISHES, Floats, Integers
from cosma_sched.progress import Clock

MOST_GROUP = 5


class Plans(NamedTuple):
    """Wishes for many networks; the first axis counts them.

    Parameters
    ----------
    wishes
        ``wishes[plan, layer, 9]``, as `tilings.tile` takes them.
    orders, stays
        ``[plan, layer]``: class of the L3 order; whether the weights stay.
    tiles, modes
        ``[plan, node, 3]`` and ``[plan, node]``.
    fused
        ``[plan, edge]``.
    """

    wishes: Floats
    orders: Integers
    stays: NDArray[np.bool_]
    tiles: Integers
    modes: Integers
    fused: NDArray[np.bool_]


class Genome:
    """Numbers of a network.

    Parameters
    ----------
    problem, machine
        Network and accelerator.
    edges
        (producer, reader) pairs that may be fused.
    orders
        How many classes of L3 orders there are.

    Attributes
    ----------
    sizes
        ``sizes[gene]``: how many values each gene has.
    blocks
        For each layer, node and edge, the slice of its genes.
    factor_values, tile_values
        For each layer its nine lists of divisors, for each node its three.
    """

    def __init__(self, problem: FusionProblem, machine: Machine, edges: Sequence[tuple[int, int]], orders: int) -> None:
        self.layers = problem.layers
        self.factor_values: list[list[NDArray[np.int64]]] = []
        self.tile_values: list[list[NDArray[np.int64]]] = []
        sizes: list[int] = []
        for index in self.layers:
            choices = _factor_choices(problem, index, machine)
            self.factor_values.append(choices)
            sizes += [*(len(values) for values in choices), orders, 2]
        for node in problem.nodes:
            lengths = [np.array(divisors(extent), dtype=np.int64) for extent in node.extent]
            self.tile_values.append(lengths)
            sizes += [*(len(values) for values in lengths), len(MODES)]
        sizes += [2] * len(edges)
        self.sizes = np.array(sizes, dtype=np.int64)
        ends = [
            0,
            *np.cumsum([WISHES + 2] * len(self.layers) + [4] * len(problem.nodes) + [1] * len(edges)).tolist(),
        ]
        self.blocks = tuple(slice(start, end) for start, end in pairwise(ends))
        self._edges = len(edges)

    def __len__(self) -> int:
        return int(self.sizes.size)

    @property
    def edge_genes(self) -> slice:
        """Where the bits of the edges are."""
        return slice(len(self) - self._edges, len(self))

    def draw(self, count: int, generator: np.random.Generator) -> Integers:
        """Draw rows uniformly."""
        return np.asarray(generator.integers(0, self.sizes, (count, len(self))))

    def plans(self, genes: Integers) -> Plans:
        """Return what rows of numbers stand for."""
        count, layers, nodes = len(genes), len(self.layers), len(self.tile_values)
        own = genes[:, : layers * (WISHES + 2)].reshape(count, layers, WISHES + 2)
        tiled = genes[:, layers * (WISHES + 2) :][:, : nodes * 4].reshape(count, nodes, 4)
        wishes = np.empty((count, layers, WISHES))
        for layer, choices in enumerate(self.factor_values):
            for factor, values in enumerate(choices):
                wishes[:, layer, factor] = values[own[:, layer, factor]]
        tiles = np.empty((count, nodes, 3), dtype=np.int64)
        for node, lengths in enumerate(self.tile_values):
            for axis, values in enumerate(lengths):
                tiles[:, node, axis] = values[tiled[:, node, axis]]
        return Plans(wishes, own[:, :, WISHES], own[:, :, WISHES + 1] > 0, tiles, tiled[:, :, 3], genes[:, self.edge_genes] > 0)


def _factor_choices(problem: FusionProblem, index: int, machine: Machine) -> list[NDArray[np.int64]]:
    layer = problem.nodes[index].layer
    if layer is None:
        raise ValueError(f"node {index} is no layer")
    choices = [np.array(divisors(extent), dtype=np.int64) for extent in layer.dims]
    for dim, limit in ((C, machine.rows), (K, machine.cols)):
        choices.append(choices[dim][choices[dim] <= limit])
    return choices


@dataclass(frozen=True, slots=True)
class Decoded:
    """Scored plans.

    Parameters
    ----------
    energy, latency
        ``[plan]``, whole numbers.
    valid
        Plans that needed no repair.
    ways
        The groups of each plan.
    scored, starts
        All rows, and where each plan's begin.
    """

    energy: Floats
    latency: Floats
    valid: NDArray[np.bool_]
    ways: tuple[tuple[Way, ...], ...]
    scored: Scored
    starts: NDArray[np.int64]

    @property
    def edp(self) -> Floats:
        """Energy times latency, in double precision."""
        return self.energy * self.latency

    def values(self, objective: str) -> Floats:
        """Return what is to be least."""
        return {"edp": self.edp, "energy": self.energy, "latency": self.latency}[objective]


@dataclass(frozen=True, slots=True)
class Better:
    """A new best answer: evaluations and seconds until then, energy and latency."""

    evaluations: int
    seconds: float
    energy_pj: int
    latency_cycles: int


@dataclass(slots=True)
class Tally:
    """Evaluations, and the best answers as they came."""

    evaluations: int = 0
    valid: int = 0
    betters: list[Better] = field(default_factory=list)


class Judge:
    """Decodes, repairs, scores and counts: the one evaluator of all methods.

    Parameters
    ----------
    problem, machine
        Network and accelerator.
    halo, overlap, objective
        Window rule, how steps overlap, what is to be least.
    max_group
        Most layers of a group of several tiles.
    clock
        Of the search.
    """

    def __init__(
        self,
        problem: FusionProblem,
        machine: Machine,
        *,
        halo: str = "parity",
        overlap: str = "layer",
        objective: str = "edp",
        max_group: int = MOST_GROUP,
        clock: Clock | None = None,
    ) -> None:
        self.problem, self.machine = problem, machine
        self.halo, self.overlap, self.objective = halo, overlap, objective
        self.clock = clock if clock is not None else Clock()
        self.scorer = RowScorer(problem, machine, halo)
        self.partitioner = Partitioner(problem)
        self.genome = Genome(problem, machine, self.partitioner.edges, len(self.scorer.orders))
        self.tally = Tally()
        self._grouper = Grouper(self.scorer, self.partitioner, max_group)
        self._layer_place = np.full(len(problem.nodes), -1, dtype=np.int64)
        self._layer_place[list(problem.layers)] = np.arange(len(problem.layers))
        self._best: tuple[Decoded, int] | None = None

    def judge(self, genes: Integers) -> Floats:
        """Return the objective's value of rows of numbers, and remember the best."""
        return self.decode(self.genome.plans(genes)).values(self.objective)

    def decode(self, plans: Plans) -> Decoded:
        """Return scored plans, and remember the best."""
        chosen = [self._ways(plans, row) for row in range(len(plans.fused))]
        matrices = [way.matrix for ways, _ in chosen for way in ways]
        matrix = np.concatenate(matrices, axis=1)
        lengths = np.array([sum(way.matrix.shape[1] for way in ways) for ways, _ in chosen])
        owner = np.repeat(np.arange(lengths.size), lengths)
        layer = self._layer_place[matrix[Field.NODE]]
        scored = self.scorer.score(matrix, plans.wishes[owner, layer].T, plans.orders[owner, layer])
        times = matrix[Field.TIMES].astype(np.float64)
        fixed = np.array([[sum(way.fixed[part] for way in ways) for part in (0, 1)] for ways, _ in chosen])
        energy = np.bincount(owner, scored.energy * times, lengths.size) + fixed[:, 0]
        if self.overlap == "layer":
            latency = np.bincount(owner, scored.latency * times, lengths.size) + fixed[:, 1]
        else:
            latency = self._overlapped(chosen, scored.roofs * times)
        whole = np.array([same for _, same in chosen])
        valid = whole & (np.bincount(owner, ~scored.fitting, lengths.size) == 0)
        starts = np.concatenate([[0], np.cumsum(lengths)])
        found = Decoded(energy, latency, valid, tuple(ways for ways, _ in chosen), scored, starts)
        self._count(found)
        return found

    def by_layer(self, found: Decoded) -> tuple[Floats, Floats]:
        """Return ``energy[plan, layer]`` and ``latency[plan, layer]`` of scored plans."""
        matrix = np.concatenate([way.matrix for ways in found.ways for way in ways], axis=1)
        owner = np.repeat(np.arange(len(found.ways)), np.diff(found.starts))
        count = len(self.problem.layers)
        place = owner * count + self._layer_place[matrix[Field.NODE]]
        times = matrix[Field.TIMES].astype(np.float64)

        def summed(values: Floats) -> Floats:
            return np.asarray(np.bincount(place, values * times, len(found.ways) * count), dtype=np.float64).reshape(-1, count)

        return summed(found.scored.energy), summed(found.scored.latency)

    def _overlapped(self, chosen: Sequence[tuple[tuple[Way, ...], bool]], busy: Floats) -> Floats:
        """Return latencies where the four units work side by side through each group."""
        totals = []
        start = 0
        for ways, _ in chosen:
            total = 0.0
            for way in ways:
                end = start + way.matrix.shape[1]
                units = busy[:, start:end].sum(axis=1) + np.array([0.0, 0.0, way.fixed[2], way.fixed[3]])
                total, start = total + np.ceil(units.max()), end
            totals.append(total)
        return np.array(totals)

    def _ways(self, plans: Plans, row: int) -> tuple[tuple[Way, ...], bool]:
        groups, same = self.partitioner.groups(np.flatnonzero(plans.fused[row]).tolist())
        tiles, modes, extents = plans.tiles[row], plans.modes[row], self.problem.nodes

        def wished(sink: int) -> tuple[Tile, Mode]:
            n, p, q = tiles[sink].tolist()
            batch, rows, columns = extents[sink].extent
            mode = MODES[int(modes[sink])]
            if q == columns and mode == Mode.H_CACHED:
                mode = Mode.RECOMPUTE
            return (n, p, q), Mode.RECOMPUTE if (n, p, q) == (batch, rows, columns) else mode

        stays = plans.stays[row]
        ways: list[Way] = []
        for members in groups:
            resident: tuple[int, ...] = ()
            if len(members) > 1:
                resident = tuple(index for index in members if self._layer_place[index] >= 0 and stays[self._layer_place[index]])
            found, kept = self._grouper.ways(members, wished, resident)
            ways += found
            same = same and kept
        return tuple(ways), same

    def _count(self, found: Decoded) -> None:
        values = found.values(self.objective)
        self.tally.valid += int(found.valid.sum())
        # Several rows are judged at once; the count at which the best one came is its own.
        for row in np.flatnonzero(values < np.minimum.accumulate([np.inf, *values[:-1]])).tolist():
            held = self.tally.betters[-1] if self.tally.betters else None
            if held is not None and values[row] >= _value(held, self.objective):
                continue
            evaluations = self.tally.evaluations + row + 1
            self.tally.betters.append(Better(evaluations, self.clock.seconds, int(found.energy[row]), int(found.latency[row])))
            self._best = (found, row)
        self.tally.evaluations += values.size

    def answer(self) -> tuple[GroupCost, ...]:
        """Return the best plan's groups, costed anew one by one; none where nothing was judged, as an early interrupt leaves it."""
        if self._best is None:
            return ()
        return self.costed(*self._best)

    def costed(self, found: Decoded, row: int) -> tuple[GroupCost, ...]:
        """Return the groups of a decoded plan, costed anew one by one."""
        place = int(found.starts[row])
        groups = []
        for way in found.ways[row]:
            group = Group(self.problem, way.members)
            mappings: list[str | None] = []
            for step in group_steps(group, way.tile, way.mode, way.resident):
                if step.problem is None:
                    mappings.append(None)
                else:
                    mappings.append(self.scorer.mapping(found.scored, place))
                    place += 1
            groups.append(cost_group(group, way.tile, way.mode, way.resident, mappings, self.machine, halo=self.halo, overlap=self.overlap))
        return tuple(groups)


def _value(better: Better, objective: str) -> float:
    values = {"edp": float(better.energy_pj) * float(better.latency_cycles), "energy": better.energy_pj, "latency": better.latency_cycles}
    return values[objective]
