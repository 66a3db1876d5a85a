"""A schedule in positions instead of names, as the planners hand it to each other."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cosma_sched.multicore.figures import Figures, figures
from cosma_sched.multicore.platform import OFFCHIP, Route
from cosma_sched.multicore.problem import ScheduleProblem
from cosma_sched.multicore.schedule import NodeRun, Schedule, Transfer


@dataclass(frozen=True, slots=True)
class Move:
    """A transfer: tile by position, the route taken, all its targets, and when it starts."""

    tile: int
    route: Route
    targets: tuple[str, ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Draft:
    """Core and start of every node, by position, and all transfers."""

    cores: tuple[str, ...]
    starts: tuple[int, ...]
    moves: tuple[Move, ...]

    def latency(self, problem: ScheduleProblem) -> int:
        """Return the end of the last node or transfer."""
        ends = [start + node.cycles[core] for node, core, start in zip(problem.nodes, self.cores, self.starts, strict=True)]
        return max(ends + [move.end for move in self.moves], default=0)

    def runs(self, problem: ScheduleProblem) -> tuple[NodeRun, ...]:
        """Return the runs, in the order in which they start."""
        rows = zip(problem.nodes, self.cores, self.starts, strict=True)
        found = [NodeRun(node.name, node.layer, core, start, start + node.cycles[core]) for node, core, start in rows]
        return tuple(sorted(found, key=lambda run: (run.start, run.core)))

    def transfers(self, problem: ScheduleProblem) -> tuple[Transfer, ...]:
        """Return the transfers, in the order in which they start."""
        found = [
            Transfer(
                problem.tiles[m.tile].name, m.route.source, m.targets, m.start, m.end, problem.tiles[m.tile].size_bytes, m.route.resources
            )
            for m in self.moves
        ]
        return tuple(sorted(found, key=lambda transfer: (transfer.start, transfer.end)))

    def figures(self, problem: ScheduleProblem) -> Figures:
        """Return what follows from it."""
        return figures(problem, self.runs(problem), self.transfers(problem))

    @classmethod
    def of(cls, problem: ScheduleProblem, schedule: Schedule) -> Draft:
        """Return the draft of a schedule that lists every node and names known routes."""
        place = {run.name: run for run in schedule.nodes}
        tiles = {tile.name: position for position, tile in enumerate(problem.tiles)}
        runs = [place[node.name] for node in problem.nodes]
        moves = []
        for transfer in schedule.transfers:
            routes: Iterable[Route] = problem.platform.routes[transfer.source, transfer.targets[0]]
            route = next(route for route in routes if route.resources == transfer.route)
            moves.append(Move(tiles[transfer.tile], route, transfer.targets, transfer.start, transfer.end))
        return cls(tuple(run.core for run in runs), tuple(run.start for run in runs), tuple(moves))


def unneeded(problem: ScheduleProblem, draft: Draft) -> frozenset[int]:
    """Return the positions of moves whose arrivals nothing uses: no reader, no onward move, no owed write-back."""
    used: set[int] = set()
    arrivals: dict[tuple[int, str], list[int]] = {}
    for position, move in enumerate(draft.moves):
        for target in move.targets:
            memory = OFFCHIP if target == OFFCHIP else problem.memory_of(move.tile, target)
            arrivals.setdefault((move.tile, memory), []).append(position)

    def serve(tile: int, memory: str, start: int) -> None:
        before = [p for p in arrivals.get((tile, memory), ()) if draft.moves[p].end <= start]
        if before:
            used.add(max(before, key=lambda p: (draft.moves[p].end, draft.moves[p].start)))

    for node, core, start in zip(problem.nodes, draft.cores, draft.starts, strict=True):
        for tile in node.reads:
            serve(tile, problem.memory_of(tile, core), start)
    for tile, facts in enumerate(problem.tiles):
        if problem.is_written_back(facts) and (written := arrivals.get((tile, OFFCHIP))):
            used.add(min(written, key=lambda p: draft.moves[p].end))
    for move in sorted(draft.moves, key=lambda move: (-move.start, -move.end)):
        memory = OFFCHIP if move.route.source == OFFCHIP else problem.memory_of(move.tile, move.route.source)
        serve(move.tile, memory, move.start)
    return frozenset(range(len(draft.moves))) - used
