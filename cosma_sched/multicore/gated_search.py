"""Finding a gated feed-forward layer in a graph, and the teams and pieces that schedule it best."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from cosma_sched.graph import Graph, Operator
from cosma_sched.multicore.costs import NodeCost, Piece
from cosma_sched.multicore.gated import GatedCosts, GatedLayer, Team, Tiling, best_plan, gated_loop, latency_of
from cosma_sched.multicore.nodes import Costs
from cosma_sched.multicore.periodic import PeriodicPlan
from cosma_sched.multicore.platform import Platform
from cosma_sched.multicore.problem import Semantics
from cosma_sched.multicore.request import Request
from cosma_sched.multicore.tile_loop import TileLoop

FEWEST_PIECES = 4096
"""With fewer pieces, single nodes are scheduled one by one."""

_HIDDEN_PIECES = (32, 64, 128)
_WIDTHS = (1, 2, 4, 8)


@dataclass(frozen=True, slots=True)
class Gated:
    """A gated layer and the operators that make it."""

    layer: GatedLayer
    gate: str
    up: str
    silu: str
    mul: str
    down: str


def find(graph: Graph) -> Gated | None:
    """Return the gated layer that a graph is, or None where it is another network."""
    operators = list(graph)
    products = [operator for operator in operators if operator.type in {"MatMul", "Gemm"}]
    vectors = {operator.type: operator for operator in operators if operator not in products}
    if len(operators) != 5 or len(products) != 3 or set(vectors) not in ({"Silu", "Mul"}, {"Swish", "Mul"}):
        return None
    silu = next(operator for kind, operator in vectors.items() if kind != "Mul")
    found = _roles(products, silu, vectors["Mul"])
    return None if found is None else _layer(graph, *found)


def _roles(products: Sequence[Operator], silu: Operator, mul: Operator) -> tuple[Operator, ...] | None:
    made = {operator.outputs[0]: operator for operator in products}
    gate = made.get(silu.inputs[0])
    others = [made[name] for name in mul.inputs if name in made]
    down = next((operator for operator in products if operator.inputs[0] == mul.outputs[0]), None)
    if gate is None or len(others) != 1 or silu.outputs[0] not in mul.inputs or down is None or gate is others[0]:
        return None
    plain = all(
        not {"transA", "transB", "input_views"} & {key for key, value in operator.attributes.items() if value} for operator in products
    )
    return (gate, others[0], silu, mul, down) if plain and gate.inputs[0] == others[0].inputs[0] else None


def _layer(graph: Graph, gate: Operator, up: Operator, silu: Operator, mul: Operator, down: Operator) -> Gated | None:
    shapes = [graph.tensors[name].shape for name in (gate.inputs[0], gate.inputs[1], down.inputs[1])]
    if any(shape is None or len(shape) != 2 for shape in shapes):
        return None
    (tokens, embedding), (_, hidden), _ = [tuple(shape or ()) for shape in shapes]
    size = graph.tensors[gate.inputs[0]].size_bytes // (tokens * embedding)
    if size < 1 or hidden * embedding * size != graph.tensors[down.inputs[1]].size_bytes:
        return None
    layer = GatedLayer(tokens, embedding, hidden, size)
    return Gated(layer, *(operator.name for operator in (gate, up, silu, mul, down)))


def is_long(gated: Gated) -> bool:
    """Return whether the layer has so many pieces that its loop is scheduled as a loop."""
    layer = gated.layer
    fits = layer.tokens % layer.token_piece == layer.embedding % layer.embedding_piece == layer.hidden % layer.hidden_piece == 0
    pieces = (layer.tokens // layer.token_piece) * (layer.embedding // layer.embedding_piece) * (layer.hidden // layer.hidden_piece)
    return fits and pieces >= FEWEST_PIECES


def piece_costs(gated: Gated, costs: Costs, width: int, vectors: int) -> GatedCosts:
    """Return what the pieces cost on every core that may run them.

    Parameters
    ----------
    width
        Cores that share the hidden columns of a block.
    vectors
        Cores whose columns one piece of silu and mul covers.
    """
    layer = gated.layer
    product = layer.tokens * layer.embedding * layer.hidden
    bits = 8 * layer.element_bytes
    columns = layer.hidden_piece * vectors

    def matmul(name: str, summed: int, made: int) -> Mapping[str, NodeCost]:
        dims = (1, made, summed, layer.token_piece, 1, 1, 1)
        moved = (layer.token_piece * summed * bits, summed * made * bits)
        piece = Piece(
            f"{name} piece", name, "MatMul", layer.token_piece * made, dims, input_bits=moved, output_bits=layer.token_piece * made * bits
        )
        return costs.costs(replace(piece, element_bytes=(layer.element_bytes,) * 3, layer_work=product))

    def vector(name: str, kind: str, operands: int) -> Mapping[str, NodeCost]:
        elements = layer.token_piece * columns
        piece = Piece(f"{name} piece", name, kind, elements, input_bits=(elements * bits,) * operands, output_bits=elements * bits)
        return costs.costs(replace(piece, element_bytes=(layer.element_bytes,) * 3, layer_work=layer.tokens * layer.hidden))

    gate_up = matmul(gated.gate, layer.embedding_piece, layer.hidden_piece)
    down = matmul(gated.down, layer.hidden_piece * width, layer.embedding_piece)
    return GatedCosts(gate_up, down, vector(gated.silu, "Silu", 1), vector(gated.mul, "Mul", 2))


def search(gated: Gated, request: Request) -> tuple[dict[str, Any], PeriodicPlan] | None:
    """Return the best plan over team widths and pieces, and the description that builds its loop again; None where nothing fits."""
    platform = request.platform()
    best: tuple[int, dict[str, Any], PeriodicPlan] | None = None
    for candidate, teams in _candidates(gated, request.costs):
        costs = piece_costs(candidate, request.costs, len(teams[0].cores), 1 if teams[0].vector is None else len(teams[0].cores))
        found = best_plan(candidate.layer, costs, teams, platform, request.semantics, below=None if best is None else best[0])
        if found is None:
            continue
        tiling, plan = found
        best = latency_of(plan), describe(candidate, teams, tiling), plan
    return None if best is None else best[1:]


def _candidates(gated: Gated, costs: Costs) -> Iterator[tuple[Gated, tuple[Team, ...]]]:
    """Yield layers with other pieces, and teams of equally fast cores that divide tokens and columns among them."""
    for hidden_piece in _HIDDEN_PIECES:
        for width in _WIDTHS:
            layer = replace(gated.layer, hidden_piece=hidden_piece)
            if layer.hidden % (hidden_piece * width) or (layer.embedding // layer.embedding_piece) % width:
                continue
            candidate = replace(gated, layer=layer)
            found = piece_costs(candidate, costs, width, width)
            fastest = min(cost.cycles for cost in found.gate_up.values())
            cores = [core for core, cost in found.gate_up.items() if cost.cycles == fastest]
            # The finest pieces serve every width; coarser ones are for a single core, whose columns would otherwise be cut too finely.
            if len(cores) < width or (hidden_piece != _HIDDEN_PIECES[0] and len(cores) > 1):
                continue
            count = _teams(layer, len(cores) // width)
            own = set(found.silu) >= set(cores) and set(found.mul) >= set(cores)
            vector = (
                None if own else min(set(found.silu) & set(found.mul), key=lambda core: found.silu[core].cycles + found.mul[core].cycles)
            )
            yield candidate, tuple(Team(tuple(cores[width * n : width * (n + 1)]), vector) for n in range(count))


def _teams(layer: GatedLayer, most: int) -> int:
    """Return the largest number of teams whose tokens are whole pieces."""
    pieces = layer.tokens // layer.token_piece
    return max(count for count in range(1, most + 1) if pieces % count == 0)


def describe(gated: Gated, teams: Sequence[Team], tiling: Tiling) -> dict[str, Any]:
    """Return a tile loop as JSON types."""
    members = [{"cores": list(team.cores), "vector": team.vector} for team in teams]
    return {"kind": "gated", "layer": asdict(gated.layer), "teams": members, "tiling": asdict(tiling)}


def rebuilt(document: Mapping[str, Any], graph: Graph, costs: Costs, platform: Platform, semantics: Semantics) -> TileLoop | None:
    """Return the tile loop of `describe`'s output, or None where the graph is no such layer."""
    gated = find(graph)
    if gated is None:
        return None
    gated = replace(gated, layer=GatedLayer(**document["layer"]))
    teams = [Team(tuple(team["cores"]), team["vector"]) for team in document["teams"]]
    width = len(teams[0].cores)
    found = piece_costs(gated, costs, width, 1 if teams[0].vector is None else width)
    return gated_loop(gated.layer, found, teams, Tiling(**document["tiling"]), platform, semantics)
