"""Tile loops: a body of computation nodes that runs many times, in several passes with fresh inputs and outputs.

A pass brings its inputs on chip, runs the body `iterations` times, and writes its outputs back. Tiles of scope ``iteration`` are new in
each iteration (weights, intermediates), those of scope ``pass`` last for the whole of one (its inputs, its accumulators).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from cosma_sched.multicore.platform import Platform
from cosma_sched.multicore.problem import Node, ScheduleProblem, Semantics, Tile, TileKind


@dataclass(frozen=True, slots=True)
class BodyTile:
    """A tile of one iteration, or of one pass.

    Parameters
    ----------
    name
        Unique in the body.
    in_each
        ``iteration`` or ``pass``.
    """

    name: str
    size_bytes: int
    kind: TileKind
    in_each: str = "iteration"
    is_output: bool = False


@dataclass(frozen=True, slots=True)
class BodyNode:
    """A computation node of one iteration, on the core that every iteration runs it on.

    Parameters
    ----------
    core
        The core it runs on.
    cycles, energy_pj
        By core, for every core that it might run on: the bounds are over all of them.
    """

    name: str
    layer: str
    core: str
    cycles: Mapping[str, int]
    energy_pj: Mapping[str, int]
    reads: tuple[str, ...]
    writes: str


@dataclass(frozen=True)
class TileLoop:
    """A loop over tiles.

    Parameters
    ----------
    name
        For people.
    platform
        Where it runs.
    nodes
        The body, in a topological order; several writers of one tile run one after the other.
    tiles
        By the nodes' names for them.
    iterations
        How often a pass runs the body.
    passes
        How many passes there are, one after the other.
    """

    name: str
    platform: Platform
    nodes: tuple[BodyNode, ...]
    tiles: tuple[BodyTile, ...]
    iterations: int
    passes: int = 1
    semantics: Semantics = field(default_factory=Semantics)

    @cached_property
    def tile(self) -> dict[str, BodyTile]:
        """Tiles by name."""
        return {tile.name: tile for tile in self.tiles}

    @cached_property
    def writers(self) -> dict[str, list[BodyNode]]:
        """Writers of each tile in one iteration."""
        found: dict[str, list[BodyNode]] = {tile.name: [] for tile in self.tiles}
        for node in self.nodes:
            found[node.writes].append(node)
        return found

    @cached_property
    def readers(self) -> dict[str, list[BodyNode]]:
        """Readers of each tile in one iteration."""
        found: dict[str, list[BodyNode]] = {tile.name: [] for tile in self.tiles}
        for node in self.nodes:
            for tile in node.reads:
                found[tile].append(node)
        return found

    def unrolled(self, *, iterations: int | None = None, passes: int | None = None) -> ScheduleProblem:
        """Return the nodes and tiles one by one, of all passes and iterations or of the first ones."""
        rounds, laps = self.passes if passes is None else passes, self.iterations if iterations is None else iterations
        tiles = [
            Tile(name_in(tile, lap, number), tile.size_bytes, tile.kind, tile.is_output, tile.name)
            for lap in range(rounds)
            for tile in self.tiles
            for number in range(laps if tile.in_each == "iteration" else 1)
        ]
        at = {tile.name: position for position, tile in enumerate(tiles)}
        nodes: list[Node] = []
        last_writer: dict[int, int] = {}  # the others come before it, one after the other
        for lap in range(rounds):
            for number in range(laps):
                for node in self.nodes:
                    reads = tuple(at[name_in(self.tile[tile], lap, number)] for tile in node.reads)
                    writes = at[name_in(self.tile[node.writes], lap, number)]
                    needs = {last_writer[tile] for tile in (*reads, writes) if tile in last_writer}
                    last_writer[writes] = len(nodes)
                    name = run_name(node.name, lap, number)
                    nodes.append(Node(name, node.layer, node.cycles, node.energy_pj, reads, tuple(sorted(needs)), writes))
        return ScheduleProblem(self.name, tuple(nodes), tuple(tiles), self.platform, self.semantics)


def name_in(tile: BodyTile, lap: int, number: int) -> str:
    """Return the name of a tile in an iteration of a pass."""
    return f"{tile.name}[{lap}.{number}]" if tile.in_each == "iteration" else f"{tile.name}[{lap}]"


def run_name(name: str, lap: int, number: int) -> str:
    """Return the name of a node in an iteration of a pass."""
    return f"{name}[{lap}.{number}]"
