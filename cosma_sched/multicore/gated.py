"""Gated feed-forward layers (SwiGLU) as tile loops: Y = (silu(X W1) * (X W2)) W3, tile by tile on several cores.

The outermost loop runs over chunks of tokens (passes), the next one over blocks of the hidden dimension (iterations). In one iteration
each core makes its columns of gate and up, the vector core joins them to a block of h, and each core adds the block's share to its columns
of the output, which stay on chip for the pass. So each weight is read once per pass, and X and Y once in all.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from cosma_sched.errors import UsageError
from cosma_sched.multicore.costs import NodeCost
from cosma_sched.multicore.periodic import PeriodicPlan, plan_loop, unroll
from cosma_sched.multicore.platform import Platform
from cosma_sched.multicore.problem import Semantics, TileKind
from cosma_sched.multicore.tile_loop import BodyNode, BodyTile, TileLoop


@dataclass(frozen=True, slots=True)
class GatedLayer:
    """Shapes and the pieces that costs are given for.

    Parameters
    ----------
    tokens, embedding, hidden
        X is tokens x embedding, W1 and W2 embedding x hidden, W3 hidden x embedding.
    element_bytes
        Bytes of one element of every tensor.
    token_piece, embedding_piece, hidden_piece
        A costed gate or up piece is token_piece x embedding_piece x hidden_piece on one core; a down piece adds a block of one
        hidden_piece per core to embedding_piece columns of the output.
    """

    tokens: int
    embedding: int
    hidden: int
    element_bytes: int = 2
    token_piece: int = 16
    embedding_piece: int = 128
    hidden_piece: int = 32


@dataclass(frozen=True, slots=True)
class GatedCosts:
    """Cycles and picojoules of the pieces by core; silu and mul are those of one token_piece and the hidden columns of one vector core."""

    gate_up: Mapping[str, NodeCost]
    down: Mapping[str, NodeCost]
    silu: Mapping[str, NodeCost]
    mul: Mapping[str, NodeCost]


@dataclass(frozen=True, slots=True)
class Team:
    """Cores that share the hidden columns of a block; `vector` joins gate and up, None where each core does so for its own columns."""

    cores: tuple[str, ...]
    vector: str | None = None


@dataclass(frozen=True, slots=True)
class Tiling:
    """How much one iteration holds: tokens of a pass and team, tokens of a node, and the parts that weights come in."""

    chunk: int
    step: int
    weight_parts: int = 1
    output_parts: int = 1


def gated_loop(
    layer: GatedLayer, costs: GatedCosts, teams: Sequence[Team], tiling: Tiling, platform: Platform, semantics: Semantics
) -> TileLoop:
    """Return the tile loop of a layer on teams that take different tokens.

    Raises
    ------
    UsageError
        If the pieces do not divide the shapes.
    """
    width = len(teams[0].cores)
    _check(layer, tiling, len(teams), width)
    body = _Body(layer, costs, tiling, width)
    for number, team in enumerate(teams):
        body.add(number, team)
    name = f"swiglu {layer.tokens}x{layer.embedding}x{layer.hidden}"
    iterations = layer.hidden // (layer.hidden_piece * width)
    passes = layer.tokens // (len(teams) * tiling.chunk)
    return TileLoop(name, platform, tuple(body.nodes), tuple(body.tiles), iterations, passes, semantics)


def _check(layer: GatedLayer, tiling: Tiling, teams: int, width: int) -> None:
    parts = [
        ("tokens", layer.tokens, teams * tiling.chunk),
        ("the chunk", tiling.chunk, tiling.step),
        ("the step", tiling.step, layer.token_piece),
        ("hidden", layer.hidden, layer.hidden_piece * width),
        ("embedding", layer.embedding, layer.embedding_piece * tiling.weight_parts),
        ("the output columns of a core", layer.embedding // width, layer.embedding_piece * tiling.output_parts),
    ]
    for what, extent, piece in parts:
        if extent % piece:
            raise UsageError(f"{what} {extent}: must be a multiple of {piece}")


class _Body:
    def __init__(self, layer: GatedLayer, costs: GatedCosts, tiling: Tiling, width: int) -> None:
        self.layer, self.costs, self.tiling, self.width = layer, costs, tiling, width
        self.nodes: list[BodyNode] = []
        self.tiles: list[BodyTile] = []

    def add(self, number: int, team: Team) -> None:
        """Add what one team does in an iteration."""
        tag = f"t{number}"
        self._inputs_and_weights(tag, team)
        for step in range(self.tiling.chunk // self.tiling.step):
            for core in team.cores:
                for tensor in ("gate", "up"):
                    self._tile(f"{tag} {tensor} c{core} s{step}", self.tiling.step * self.layer.hidden_piece)
        for tensor in ("gate", "up"):
            self._project(tag, team, tensor)
        for step in range(self.tiling.chunk // self.tiling.step):
            self._join(tag, team, step)
        self._down(tag, team)

    def _inputs_and_weights(self, tag: str, team: Team) -> None:
        layer, tiling = self.layer, self.tiling
        for step in range(tiling.chunk // tiling.step):
            self._tile(f"{tag} x s{step}", tiling.step * layer.embedding, TileKind.INPUT, "pass")
        for core in team.cores:
            for tensor in ("w1", "w2"):
                for part in range(tiling.weight_parts):
                    size = layer.embedding // tiling.weight_parts * layer.hidden_piece
                    self._tile(f"{tag} {tensor} c{core} p{part}", size, TileKind.PARAMETER)
            columns = layer.embedding // self.width // tiling.output_parts
            for part in range(tiling.output_parts):
                self._tile(f"{tag} w3 c{core} p{part}", layer.hidden_piece * self.width * columns, TileKind.PARAMETER)
                for step in range(tiling.chunk // tiling.step):
                    self._tile(f"{tag} y c{core} p{part} s{step}", tiling.step * columns, TileKind.ACTIVATION, "pass", is_output=True)

    def _project(self, tag: str, team: Team, tensor: str) -> None:
        layer, tiling = self.layer, self.tiling
        weight = {"gate": "w1", "up": "w2"}[tensor]
        pieces = tiling.step // layer.token_piece * (layer.embedding // layer.embedding_piece // tiling.weight_parts)
        for part in range(tiling.weight_parts):
            for step in range(tiling.chunk // tiling.step):
                for core in team.cores:
                    reads = (f"{tag} x s{step}", f"{tag} {weight} c{core} p{part}")
                    name = f"{tag} {tensor} c{core} s{step} p{part}"
                    self._node(name, tensor, core, pieces, self.costs.gate_up, reads, f"{tag} {tensor} c{core} s{step}")

    def _join(self, tag: str, team: Team, step: int) -> None:
        pieces = self.tiling.step // self.layer.token_piece
        shares = [(team.vector, team.cores)] if team.vector is not None else [(core, (core,)) for core in team.cores]
        for vector, cores in shares:
            size = self.tiling.step * self.layer.hidden_piece * len(cores)
            mark = f"{tag} s{step}" if len(cores) == len(team.cores) else f"{tag} c{vector} s{step}"
            for tensor in ("silu", "h"):
                self._tile(f"{mark} {tensor}", size)
            gates, ups = ([f"{tag} {tensor} c{core} s{step}" for core in cores] for tensor in ("gate", "up"))
            self._node(f"{mark} silu", "silu", str(vector), pieces, self.costs.silu, tuple(gates), f"{mark} silu")
            self._node(f"{mark} mul", "mul", str(vector), pieces, self.costs.mul, (f"{mark} silu", *ups), f"{mark} h")

    def _down(self, tag: str, team: Team) -> None:
        layer, tiling = self.layer, self.tiling
        pieces = tiling.step // layer.token_piece * (layer.embedding // layer.embedding_piece // self.width // tiling.output_parts)
        joined = {tile.name for tile in self.tiles}
        for part in range(tiling.output_parts):
            for step in range(tiling.chunk // tiling.step):
                whole = f"{tag} s{step} h"
                blocks = (whole,) if whole in joined else tuple(f"{tag} c{core} s{step} h" for core in team.cores)
                for core in team.cores:
                    reads = (*blocks, f"{tag} w3 c{core} p{part}")
                    name = f"{tag} down c{core} s{step} p{part}"
                    self._node(name, "down", core, pieces, self.costs.down, reads, f"{tag} y c{core} p{part} s{step}")

    def _tile(
        self, name: str, elements: int, kind: TileKind = TileKind.ACTIVATION, in_each: str = "iteration", is_output: bool = False
    ) -> None:
        self.tiles.append(BodyTile(name, elements * self.layer.element_bytes, kind, in_each, is_output))

    def _node(
        self, name: str, layer: str, core: str, pieces: int, costs: Mapping[str, NodeCost], reads: tuple[str, ...], writes: str
    ) -> None:
        cycles = {key: pieces * cost.cycles for key, cost in costs.items()}
        energy = {key: pieces * cost.energy_pj for key, cost in costs.items()}
        self.nodes.append(BodyNode(name, layer, core, cycles, energy, reads, writes))


def tilings(layer: GatedLayer, teams: int, width: int) -> Iterator[Tiling]:
    """Yield every tiling, long passes first: they read the weights less often."""
    tokens = layer.tokens // teams
    chunks = [chunk for chunk in range(tokens, 0, -1) if tokens % chunk == 0 and chunk % layer.token_piece == 0]
    columns = layer.embedding // layer.embedding_piece // width
    for chunk in chunks:
        for step in (step for step in (chunk, 128, 64, 32, 16) if step <= chunk and chunk % step == 0 and step % layer.token_piece == 0):
            for parts in (1, 2, 4):
                if (layer.embedding // layer.embedding_piece) % parts == 0:
                    yield Tiling(chunk, step, parts, math.gcd(parts, columns))


def best_plan(
    layer: GatedLayer,
    costs: GatedCosts,
    teams: Sequence[Team],
    platform: Platform,
    semantics: Semantics,
    *,
    most_nodes: int = 400,
    below: int | None = None,
) -> tuple[Tiling, PeriodicPlan] | None:
    """Return the tiling and periodic plan with the least latency among those that fit, or None where none does.

    Parameters
    ----------
    most_nodes
        Nodes of one iteration and team; finer tilings are left out.
    below
        Only a plan with a lower latency is of use.
    """
    best: tuple[int, Tiling, PeriodicPlan] | None = None
    for tiling in dict.fromkeys(tilings(layer, len(teams), len(teams[0].cores))):
        loop = gated_loop(layer, costs, teams, tiling, platform, semantics)
        limit = best[0] if best is not None else below
        if len(loop.nodes) > most_nodes * len(teams) or (limit is not None and least_latency(loop) >= limit):
            continue
        if (plan := plan_loop(loop)) is not None:
            latency = latency_of(plan)
            if limit is None or latency < limit:
                best = latency, tiling, plan
    return None if best is None else best[1:]


def least_latency(loop: TileLoop) -> int:
    """Return what no plan with these cores goes below: the busiest core over all passes."""
    load: dict[str, int] = {}
    for node in loop.nodes:
        load[node.core] = load.get(node.core, 0) + node.cycles[node.core]
    return max(load.values()) * loop.iterations * loop.passes


def latency_of(plan: PeriodicPlan) -> int:
    """Return the exact latency of all passes and iterations."""
    listed = unroll(plan, listed=0)
    return max(transfer.end for transfer in listed.transfers)
