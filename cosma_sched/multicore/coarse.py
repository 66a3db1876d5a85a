"""A coarser problem: several tiles of a layer as one, and its nodes as one, so that a search sees few of them.

A schedule of the coarse problem tells cores and order of the fine one's nodes, nothing more: its latency bounds nothing, and what does not
fit there may fit here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import networkx as nx

from cosma_sched.multicore.draft import Draft
from cosma_sched.multicore.problem import Node, ScheduleProblem, Tile


@dataclass(frozen=True, slots=True)
class Coarse:
    """A coarse problem, and which of its nodes each node of the fine one is in."""

    problem: ScheduleProblem
    block: tuple[int, ...]

    def cores_and_order(self, draft: Draft) -> tuple[list[str], list[int]]:
        """Return, for each fine node, its core and its rank in the order that a schedule of the coarse problem runs them."""
        order = sorted(range(len(self.block)), key=lambda node: (draft.starts[self.block[node]], node))
        rank = [0] * len(order)
        for place, node in enumerate(order):
            rank[node] = place
        return [draft.cores[block] for block in self.block], rank


def num_blocks(tiles_per_layer: Sequence[int], size: int) -> int:
    """Return how many blocks of up to `size` tiles the layers make."""
    return sum(-(-count // size) for count in tiles_per_layer)


def coarsened(problem: ScheduleProblem, size: int) -> Coarse | None:
    """Return a problem in which up to `size` tiles that one layer writes in turn are one tile.

    None where no core runs all nodes of a block, or blocks wait for each other.
    """
    group, owner = _tile_groups(problem, size)
    keys = [(node.layer, group[node.writes]) for node in problem.nodes]
    graph: nx.DiGraph[tuple[str, int]] = nx.DiGraph()
    graph.add_nodes_from(keys)
    for node, key in zip(problem.nodes, keys, strict=True):
        before = {*node.needs, *(writer for tile in node.reads for writer in problem.writers[tile])}
        graph.add_edges_from((keys[earlier], key) for earlier in before if keys[earlier] != key)
    if not nx.is_directed_acyclic_graph(graph):
        return None
    first = {key: position for position, key in reversed([*enumerate(keys)])}
    place = {key: at for at, key in enumerate(nx.lexicographical_topological_sort(graph, key=first.__getitem__))}
    members: list[list[int]] = [[] for _ in place]
    for position, key in enumerate(keys):
        members[place[key]].append(position)
    needs = [tuple(sorted(place[earlier] for earlier in graph.predecessors(keys[inside[0]]))) for inside in members]
    nodes = [_node(problem, inside, group, needed) for inside, needed in zip(members, needs, strict=True)]
    if any(not node.cycles for node in nodes):
        return None
    coarse = ScheduleProblem(problem.name, tuple(nodes), _tiles(problem, owner), problem.platform, problem.semantics, problem.objective)
    return Coarse(coarse, tuple(place[key] for key in keys))


def _tile_groups(problem: ScheduleProblem, size: int) -> tuple[list[int], list[list[int]]]:
    """Return the coarse tile of each tile, and the tiles of each coarse one; what no node writes stays as it is."""
    group, owner = [0] * len(problem.tiles), list[list[int]]()
    current: dict[str, int] = {}
    for tile, writers in enumerate(problem.writers):
        layer = problem.nodes[writers[0]].layer if writers else None
        if layer is None or layer not in current or len(owner[current[layer]]) >= size:
            owner.append([])
            if layer is not None:
                current[layer] = len(owner) - 1
        group[tile] = len(owner) - 1 if layer is None else current[layer]
        owner[group[tile]].append(tile)
    return group, owner


def _tiles(problem: ScheduleProblem, owner: Sequence[Sequence[int]]) -> tuple[Tile, ...]:
    found = []
    for tiles in owner:
        facts = [problem.tiles[tile] for tile in tiles]
        total = sum(tile.size_bytes for tile in facts)
        found.append(Tile(facts[0].name, total, facts[0].kind, any(tile.is_output for tile in facts), facts[0].tensor))
    return tuple(found)


def _node(problem: ScheduleProblem, inside: Sequence[int], group: Sequence[int], needs: tuple[int, ...]) -> Node:
    nodes = [problem.nodes[position] for position in inside]
    cores = [core for core in nodes[0].cycles if all(core in node.cycles for node in nodes)]
    writes = group[nodes[0].writes]
    reads = sorted({group[tile] for node in nodes for tile in node.reads} - {writes})
    cycles = {core: sum(node.cycles[core] for node in nodes) for core in cores}
    energy = {core: sum(node.energy_pj[core] for node in nodes) for core in cores}
    return Node(nodes[0].name, nodes[0].layer, cycles, energy, tuple(reads), needs, writes)
