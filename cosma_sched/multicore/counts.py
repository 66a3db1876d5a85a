"""A schedule problem seen by counts alone: how many nodes of each group have run says what is live and what may run next.

A group holds the nodes of a layer that do not wait for each other (partial sums and their reductions are two groups); in index order the
node number x of a group runs when x of them have run. Bytes of a tensor are ``opened(x) - closed(min(m, complete(x)))``: what its first x
nodes have allocated, less the tiles that nobody needs any more, where m is the least, over all reading groups, of the tiles they are done
with. That form makes one step at a time safe to force; see `minimax`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cosma_sched.multicore.problem import ScheduleProblem, TileKind


@dataclass(frozen=True, slots=True)
class Tensor:
    """The tiles that a group writes, or those of an input that is resident from the start.

    Parameters
    ----------
    opened, starting
        Bytes allocated once x nodes of the group have ended, and while number x runs.
    complete
        Tiles that have all of their writers behind them once x nodes have ended.
    closed
        Bytes of the first tiles that can be dropped.
    done
        For each reading group its position and, by its count, how many tiles it is done with.
    """

    opened: tuple[int, ...]
    starting: tuple[int, ...]
    complete: tuple[int, ...]
    closed: tuple[int, ...]
    done: tuple[tuple[int, tuple[int, ...]], ...]


@dataclass(frozen=True, slots=True)
class CountModel:
    """Groups, what they wait for and what they allocate.

    Parameters
    ----------
    sizes
        Nodes of each group.
    waits
        For each group, the groups it waits for and, by its own count, how many of their nodes must have ended before its next one starts.
    tensors
        One for each group.
    inputs
        Resident inputs.
    """

    sizes: tuple[int, ...]
    waits: tuple[tuple[tuple[int, tuple[int, ...]], ...], ...]
    tensors: tuple[Tensor, ...]
    inputs: tuple[Tensor, ...] = ()


def groups_of(problem: ScheduleProblem) -> tuple[tuple[int, ...], ...]:
    """Return the positions of the nodes of each group, in index order; groups in the order of their first nodes."""
    depth: list[int] = []
    found: dict[tuple[str, int], list[int]] = {}
    for position, node in enumerate(problem.nodes):
        before = [
            depth[need] + 1 for need in node.needs if problem.nodes[need].layer == node.layer and problem.nodes[need].writes != node.writes
        ]
        same = [depth[need] for need in node.needs if problem.nodes[need].layer == node.layer and problem.nodes[need].writes == node.writes]
        depth.append(max([*before, *same], default=0))
        found.setdefault((node.layer, depth[-1]), []).append(position)
    return tuple(map(tuple, found.values()))


def is_resident(problem: ScheduleProblem, tile: int) -> bool:
    """Return whether a tile lies in memory from the start: a part of a resident input that somebody reads."""
    return problem.semantics.inputs == "resident" and problem.tiles[tile].kind is TileKind.INPUT and bool(problem.readers[tile])


@dataclass(frozen=True, slots=True)
class _Tile:
    """A tile by ranks within its group: its writers, and for each group that uses it later the ranks of those nodes."""

    size: int
    writers: tuple[int, ...]
    users: tuple[tuple[int, tuple[int, ...]], ...]
    is_kept: bool


class _Reading:
    """What both models are made of."""

    def __init__(self, problem: ScheduleProblem, groups: Sequence[Sequence[int]]) -> None:
        self.groups = groups
        self.factor = problem.semantics.partial_sum_factor
        self.place = {position: (group, rank) for group, nodes in enumerate(groups) for rank, position in enumerate(nodes)}
        self.tiles: list[list[_Tile]] = [[] for _ in groups]
        self.inputs: dict[str, list[_Tile]] = {}
        keeps = problem.semantics.outputs == "kept"
        for position, tile in enumerate(problem.tiles):
            writers = problem.writers[position]
            if not writers and not is_resident(problem, position):
                continue
            home = self.place[writers[0]][0] if writers else -1
            users = [node for node in (*problem.readers[position], *writers) if self.place[node][0] != home]
            own = tuple(self.place[node][1] for node in writers if self.place[node][0] == home)
            found = _Tile(tile.size_bytes, own, self._by_group(users), tile.is_output and keeps)
            (self.tiles[home] if writers else self.inputs.setdefault(tile.tensor, [])).append(found)
        for tiles in self.tiles:
            tiles.sort(key=lambda tile: tile.writers)
        self.needs = [[self._by_group(problem.nodes[position].needs) for position in nodes] for nodes in groups]

    def _by_group(self, positions: Sequence[int]) -> tuple[tuple[int, tuple[int, ...]], ...]:
        found: dict[int, set[int]] = {}
        for position in positions:
            group, rank = self.place[position]
            found.setdefault(group, set()).add(rank)
        return tuple((group, tuple(sorted(ranks))) for group, ranks in found.items())


def index_model(problem: ScheduleProblem, groups: Sequence[Sequence[int]]) -> CountModel:
    """Return what holds in index order; where tiles are not dropped in index order, they count as live for longer than they are."""
    reading = _Reading(problem, groups)
    sizes = tuple(map(len, groups))
    waits = []
    for group, nodes in enumerate(reading.needs):
        table: dict[int, list[int]] = {}
        for rank, needs in enumerate(nodes):
            for other, ranks in needs:
                if other != group:
                    table.setdefault(other, [0] * sizes[group])[rank] = ranks[-1] + 1
        waits.append(tuple((other, tuple(_running_max(counts))) for other, counts in table.items()))
    tensors = [_index_tensor(tiles, sizes, sizes[group], reading.factor) for group, tiles in enumerate(reading.tiles)]
    inputs = [_index_tensor(tiles, sizes, 0, 1) for tiles in reading.inputs.values()]
    return CountModel(sizes, tuple(waits), tuple(tensors), tuple(inputs))


def _running_max(values: Sequence[int]) -> list[int]:
    found: list[int] = []
    for value in values:
        found.append(max(value, found[-1] if found else 0))
    return found


def _index_tensor(tiles: Sequence[_Tile], sizes: Sequence[int], count: int, factor: int) -> Tensor:
    opened, starting = [0] * (count + 1), [0] * (count + 1)
    complete = [0] * (count + 1)
    for tile in tiles:
        first, last = (tile.writers[0], tile.writers[-1]) if tile.writers else (-1, -1)
        extra = tile.size * (factor - 1) if len(tile.writers) > 1 else 0
        for x in range(count + 1):
            opened[x] += tile.size * (x > first) + extra * (first < x <= last)
            starting[x] += tile.size * (x >= first) + extra * (first <= x <= last)
    lasts = [tile.writers[-1] if tile.writers else -1 for tile in tiles]
    for x in range(count + 1):
        complete[x] = next((index for index, last in enumerate(lasts) if last >= x), len(tiles))
    kept = next((index for index, tile in enumerate(tiles) if tile.is_kept), len(tiles))
    closed = [0]
    for index in range(len(tiles)):
        closed.append(closed[-1] + (tiles[index].size if index < kept else 0))
    done = []
    for group in dict.fromkeys(group for tile in tiles for group, _ in tile.users):
        ends = [next((ranks[-1] + 1 for other, ranks in tile.users if other == group), 0) for tile in tiles]
        by_count = [next((index for index, end in enumerate(ends) if end > y), len(tiles)) for y in range(sizes[group] + 1)]
        done.append((group, tuple(by_count)))
    return Tensor(tuple(opened), tuple(starting), tuple(complete), tuple(closed), tuple(done))


def relaxed_model(problem: ScheduleProblem, groups: Sequence[Sequence[int]]) -> CountModel:
    """Return what holds in every order: fewest nodes that must have ended, fewest bytes that can be live, for given counts.

    Whichever y nodes of a group have run, they need at least as many nodes of another as the y-th smallest of their demands, and at least
    y x (least demand) / (most that need one node). A group can be done with no more tiles than have at most y readers there, nor more than
    y x (most tiles that one node reads) / (fewest readers of a tile). Tiles count with the size of the smallest of their tensor. Where
    every relation is one-to-one or all-to-all and tiles are of one size, this is what index order achieves.
    """
    reading = _Reading(problem, groups)
    sizes = tuple(map(len, groups))
    waits = []
    for group, nodes in enumerate(reading.needs):
        table = []
        for other in dict.fromkeys(other for needs in nodes for other, _ in needs if other != group):
            demands = [next((ranks for found, ranks in needs if found == other), ()) for needs in nodes]
            table.append((other, _fewest_needed(demands)))
        waits.append(tuple(table))
    tensors = [_relaxed_tensor(tiles, sizes, sizes[group], reading.factor) for group, tiles in enumerate(reading.tiles)]
    inputs = [_relaxed_tensor(tiles, sizes, 0, 1) for tiles in reading.inputs.values()]
    return CountModel(sizes, tuple(waits), tuple(tensors), tuple(inputs))


def _fewest_needed(demands: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Return, for x from 0 on, the fewest nodes that x + 1 of the demands ask for."""
    degrees = sorted(map(len, demands))
    shared: dict[int, int] = {}
    for ranks in demands:
        for rank in ranks:
            shared[rank] = shared.get(rank, 0) + 1
    most = max(shared.values())
    return tuple(max(degrees[x], -(-(x + 1) * degrees[0] // most)) for x in range(len(demands)))


def _relaxed_tensor(tiles: Sequence[_Tile], sizes: Sequence[int], count: int, factor: int) -> Tensor:
    if not tiles:
        return Tensor((0,) * (count + 1), (0,) * (count + 1), (0,) * (count + 1), (0,), ())
    size = min(tile.size for tile in tiles)
    most, fewest = (pick(max(1, len(tile.writers)) for tile in tiles) for pick in (max, min))
    extra = size * (factor - 1) if fewest > 1 else 0
    started = [min(len(tiles), -(-x // most)) for x in range(count + 2)] if count else [len(tiles), len(tiles)]
    partial = [extra if most == fewest and x % most else 0 for x in range(count + 1)]
    opened = tuple(size * started[x] + partial[x] for x in range(count + 1))
    starting = tuple(size * started[x + 1] + extra if x < count else opened[x] for x in range(count + 1))
    complete = tuple(min(len(tiles), x // fewest) for x in range(count + 1)) if count else (len(tiles),)
    kept = sum(tile.is_kept for tile in tiles)
    closed = tuple(size * min(index, len(tiles) - kept) for index in range(len(tiles) + 1))
    done = []
    for group in dict.fromkeys(group for tile in tiles for group, _ in tile.users):
        users = [next((ranks for other, ranks in tile.users if other == group), ()) for tile in tiles]
        done.append((group, _most_done(users, sizes[group])))
    return Tensor(opened, starting, complete, closed, tuple(done))


def _most_done(users: Sequence[Sequence[int]], count: int) -> tuple[int, ...]:
    """Return, for y from 0 on, the most tiles all of whose users can be among y nodes."""
    degrees = [len(ranks) for ranks in users]
    unused = degrees.count(0)
    least = min(degree for degree in degrees if degree)
    reads: dict[int, int] = {}
    for ranks in users:
        for rank in ranks:
            reads[rank] = reads.get(rank, 0) + 1
    most = max(reads.values())
    return tuple(unused + min(sum(0 < degree <= y for degree in degrees), y * most // least) for y in range(count + 1))
