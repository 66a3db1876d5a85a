"""Blocks of a problem that may be renamed: one order of them stands for all."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from cosma_sched.multicore.draft import Draft, Move
from cosma_sched.multicore.tables import Tables


def interchangeable(tables: Tables) -> list[tuple[int, int]]:
    """Return pairs (first, second) of nodes of one layer such that some best schedule starts the first no later than the second.

    Looks at the most frequent number of nodes per layer and swaps blocks k and k + 1 of all layers that have it. Where every such swap
    turns the problem into itself, the blocks may be renamed at once in all of them, so that those of one layer start in order; of one
    layer only, because the others need not follow on cores that differ.
    """
    return list(pairwise(blocks[0])) if (blocks := blocks_of(tables)) else []


def blocks_of(tables: Tables) -> list[list[int]]:
    """Return the nodes of each layer whose k-th nodes may be exchanged with the k+1-th ones in all these layers at once; mostly none."""
    layers: dict[str, list[int]] = {}
    for position, node in enumerate(tables.problem.nodes):
        layers.setdefault(node.layer, []).append(position)
    counts = Counter(len(nodes) for nodes in layers.values() if len(nodes) > 1)
    for count, _ in counts.most_common():
        blocks = [nodes for nodes in layers.values() if len(nodes) == count]
        if all(_tile_image(tables, _swapped(tables, blocks, k)) is not None for k in range(count - 1)):
            return blocks
    return []


def in_order(tables: Tables, draft: Draft) -> Draft:
    """Return a draft with its blocks renamed so that it obeys `interchangeable`."""
    blocks = blocks_of(tables)
    if not blocks:
        return draft
    image = list(range(len(tables.problem.nodes)))  # what node k is to be called
    rank = sorted(range(len(blocks[0])), key=lambda k: (draft.starts[blocks[0][k]], k))
    for nodes in blocks:
        for new, old in enumerate(rank):
            image[nodes[old]] = nodes[new]
    tile_image = _tile_image(tables, image)
    if tile_image is None:
        return draft
    cores, starts = list(draft.cores), list(draft.starts)
    for old, new in enumerate(image):
        cores[new], starts[new] = draft.cores[old], draft.starts[old]
    moves = tuple(Move(tile_image.get(m.tile, m.tile), m.route, m.targets, m.start, m.end) for m in draft.moves)
    return Draft(tuple(cores), tuple(starts), moves)


def _swapped(tables: Tables, blocks: list[list[int]], k: int) -> list[int]:
    image = list(range(len(tables.problem.nodes)))
    for nodes in blocks:
        image[nodes[k]], image[nodes[k + 1]] = nodes[k + 1], nodes[k]
    return image


def _tile_image(tables: Tables, image: list[int]) -> dict[int, int] | None:
    """Return what tiles are to be called when nodes are renamed, if that changes nothing else; None where it does."""
    problem = tables.problem
    found: dict[int, int] = {}

    def pair(one: int, other: int) -> bool:
        return found.setdefault(one, other) == other

    for node, other in enumerate(image):
        if not pair(problem.nodes[node].writes, problem.nodes[other].writes):
            return None
        if tables.cycles[node] != tables.cycles[other] or problem.nodes[node].energy_pj != problem.nodes[other].energy_pj:
            return None
        if {image[earlier] for earlier in tables.needs[node]} != set(tables.needs[other]):
            return None
    for node, other in enumerate(image):
        outside = [tile for tile in tables.reads[node] if not problem.writers[tile]]
        across = [tile for tile in tables.reads[other] if not problem.writers[tile]]
        if len(outside) != len(across) or not all(map(pair, outside, across)):
            return None
        if {found.get(tile) for tile in tables.reads[node]} != set(tables.reads[other]):
            return None
    facts = problem.tiles
    same = all(
        (facts[one].size_bytes, facts[one].kind, facts[one].is_output) == (facts[to].size_bytes, facts[to].kind, facts[to].is_output)
        for one, to in found.items()
    )
    return found if same and len(set(found.values())) == len(found) else None
