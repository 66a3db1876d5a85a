"""What is asked of the multi-core scheduler: computation nodes, the tiles they read and write, a platform, and what counts as memory.

A tile is the unit of residency and transfer, a computation node (CN) the unit of work. `ScheduleProblem` is abstract: it knows neither
layers' loops nor splits, so that random instances, attention heads and whole networks are scheduled and checked by the same code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from cosma_sched.multicore.platform import Platform


class TileKind(StrEnum):
    """Where a tile comes from."""

    INPUT = "input"
    PARAMETER = "parameter"
    ACTIVATION = "activation"


class Objective(StrEnum):
    """What is made small; ties: latency, then off-chip bytes, then peak."""

    LATENCY = "latency"
    ENERGY = "energy"
    MEMORY = "memory"


@dataclass(frozen=True, slots=True)
class Semantics:
    """What counts as memory and time (multi-core terms; see docs/multicore.md).

    Parameters
    ----------
    inputs
        ``streamed``: takes no memory and no transfer. ``resident``: held from cycle 0 to its last reader, no transfer. ``fetched``: comes
        from off-chip by a transfer to each core that reads it (or from a core that has it).
    weights
        ``free`` (no memory, no transfer) or ``fetched``.
    outputs
        ``kept``: resident to the end. ``streamed``: freed when the node that completes it ends. ``written``: until its write-back ends.
    partial_sum_factor
        A tile with several writers counts this many times its size until the last of them has ended.
    softmax
        ``inplace``, ``node`` or ``expanded``; recorded here, acted upon where nodes are made.
    timing
        ``strict`` or ``stream`` (ports of the off-chip core unlimited).
    capacity_rule
        ``unified`` or ``split``; recorded here, acted upon where the platform is made.
    memory_scope
        ``total`` or ``worst-core``: what the objective ``memory`` minimises.
    """

    inputs: str = "fetched"
    weights: str = "fetched"
    outputs: str = "written"
    partial_sum_factor: int = 1
    softmax: str = "inplace"
    timing: str = "strict"
    capacity_rule: str = "unified"
    memory_scope: str = "total"


@dataclass(frozen=True, slots=True)
class Tile:
    """An output box of a layer, or a box of an input or parameter.

    Parameters
    ----------
    name
        Unique; the tensor's name and its box.
    size_bytes
        Its size once complete.
    kind
        Activations have writers; inputs and parameters start off-chip and have none.
    is_output
        Whether it belongs to an output of the network.
    tensor
        Name of the tensor that it is a part of.
    """

    name: str
    size_bytes: int
    kind: TileKind
    is_output: bool = False
    tensor: str = ""


@dataclass(frozen=True, slots=True)
class Node:
    """A computation node.

    Parameters
    ----------
    name
        Unique.
    layer
        Name of the layer that it is a part of.
    cycles, energy_pj
        By core id, for every core that it may run on; cycles are >= 1.
    reads
        Positions of the tiles that must be resident on its core while it runs.
    needs
        Positions of the nodes that must have ended (and, for the tiles among `reads`, whose tiles must have arrived) before it starts. The
        earlier writers of its own tile are among them.
    writes
        Position of its tile, which is resident on its core from its start. All writers of one tile run on one core, in the order of their
        positions.
    """

    name: str
    layer: str
    cycles: Mapping[str, int]
    energy_pj: Mapping[str, int]
    reads: tuple[int, ...]
    needs: tuple[int, ...]
    writes: int


@dataclass(frozen=True)
class ScheduleProblem:
    """Nodes in a topological order, their tiles, a platform, semantics and an objective."""

    name: str
    nodes: tuple[Node, ...]
    tiles: tuple[Tile, ...]
    platform: Platform
    semantics: Semantics = Semantics()
    objective: Objective = Objective.LATENCY

    @cached_property
    def writers(self) -> tuple[tuple[int, ...], ...]:
        """Positions of each tile's writers, in order."""
        found: list[list[int]] = [[] for _ in self.tiles]
        for position, node in enumerate(self.nodes):
            found[node.writes].append(position)
        return tuple(map(tuple, found))

    @cached_property
    def readers(self) -> tuple[tuple[int, ...], ...]:
        """Positions of each tile's readers, in order; its own writers are not among them."""
        found: list[list[int]] = [[] for _ in self.tiles]
        for position, node in enumerate(self.nodes):
            for tile in node.reads:
                found[tile].append(position)
        return tuple(map(tuple, found))

    def memory_of(self, tile: int, core: str) -> str:
        """Return the memory in which a tile lies when it is on a core; equal memories hold one copy together."""
        facts = self.platform.cores[core]
        if facts.weight_memory is not None and self.tiles[tile].kind is TileKind.PARAMETER:
            return facts.weight_memory
        return facts.memory

    def takes_memory(self, tile: Tile) -> bool:
        """Return whether a tile counts: streamed inputs and free weights do not."""
        if tile.kind is TileKind.INPUT:
            return self.semantics.inputs != "streamed"
        return tile.kind is not TileKind.PARAMETER or self.semantics.weights == "fetched"

    def is_fetched(self, tile: Tile) -> bool:
        """Return whether a tile starts off-chip and must be brought to each core that reads it."""
        if tile.kind is TileKind.INPUT:
            return self.semantics.inputs == "fetched"
        return tile.kind is TileKind.PARAMETER and self.semantics.weights == "fetched"

    def is_written_back(self, tile: Tile) -> bool:
        """Return whether a tile must be transferred off-chip once complete."""
        return tile.is_output and self.semantics.outputs == "written"
