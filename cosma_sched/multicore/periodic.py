"""Periodic schedules of tile loops: a modulo schedule of the body, exact prologues and epilogues, every cycle accounted for.

Each pass brings its inputs on chip, starts the body every II cycles, and writes its outputs back when all is done. The latency is that of
the schedule itself; it is not estimated from II.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from cosma_sched.errors import InfeasibleError, Reason
from cosma_sched.multicore.modulo import Edge, PeriodicSystem, Stay, Task, search
from cosma_sched.multicore.modulo_exact import place_exactly
from cosma_sched.multicore.platform import OFFCHIP, Route
from cosma_sched.multicore.problem import TileKind
from cosma_sched.multicore.schedule import NodeRun, Period, Transfer
from cosma_sched.multicore.tile_loop import BodyTile, TileLoop, name_in, run_name

MOST_EXACT = 80
"""Tasks of a body that CP-SAT is asked to place."""


@dataclass(frozen=True, slots=True)
class BodyTransfer:
    """A transfer of a tile from one place to one or several others, on a chosen route."""

    tile: str
    source: str
    targets: tuple[str, ...]
    route: Route
    size_bytes: int

    @property
    def cycles(self) -> int:
        """How long it takes."""
        return self.route.cycles(self.size_bytes)


class Traffic:
    """Chooses routes: each transfer takes the candidate after which the busiest of its resources is least busy."""

    def __init__(self, loop: TileLoop) -> None:
        self._platform = loop.platform
        self.load: dict[str, int] = defaultdict(int)

    def moves(self, tile: BodyTile, source: str, targets: Sequence[str]) -> list[BodyTransfer]:
        """Return the transfers that bring a tile from a source to all targets: one each, or one for all over a bus."""
        apart = [(target, self._candidates(tile, source, target)) for target in targets]
        together = self._multicast(tile, source, targets)
        single = [(target, min(routes, key=lambda route: self._after(route, tile))) for target, routes in apart]
        cost_apart = max(self._after(route, tile) for _, route in single)
        if (
            together is not None
            and len(targets) > 1
            and self._after(together, tile) <= max(cost_apart, sum(route.cycles(tile.size_bytes) for _, route in single))
        ):
            chosen = [BodyTransfer(tile.name, source, tuple(targets), together, tile.size_bytes)]
            self._book(chosen)
            return chosen
        chosen = []
        for target, routes in apart:
            chosen.append(
                BodyTransfer(tile.name, source, (target,), min(routes, key=lambda route: self._after(route, tile)), tile.size_bytes)
            )
            self._book(chosen[-1:])
        return chosen

    def _candidates(self, tile: BodyTile, source: str, target: str) -> tuple[Route, ...]:
        routes = self._platform.routes.get((source, target), ())
        if not routes:
            statement = f"no way leads from {source} to {target} for {tile.name}"
            raise InfeasibleError([Reason("route", target, statement, demand=tile.size_bytes)])
        return routes

    def _multicast(self, tile: BodyTile, source: str, targets: Sequence[str]) -> Route | None:
        for route in self._candidates(tile, source, targets[0]):
            if route.bus is None:
                continue
            others = [self._platform.routes.get((source, target), ()) for target in targets[1:]]
            if all(any(other.bus == route.bus and other.resources == route.resources for other in found) for found in others):
                return route
        return None

    def _after(self, route: Route, tile: BodyTile) -> int:
        cycles = route.cycles(tile.size_bytes)
        return max((self.load[resource] + cycles for resource in route.resources), default=0)

    def _book(self, moves: Iterable[BodyTransfer]) -> None:
        for move in moves:
            for resource in move.route.resources:
                self.load[resource] += move.cycles


@dataclass(frozen=True)
class PeriodicPlan:
    """How one iteration runs: its tasks with their starts, and the transfers among them.

    Parameters
    ----------
    loop
        What repeats.
    system
        Tasks of one iteration: nodes in the body's order among them, and transfers.
    moves
        The transfer that a task is, by its position; other tasks are nodes.
    starts
        Start of each task in iteration 0.
    ii
        Cycles from one iteration to the next.
    """

    loop: TileLoop
    system: PeriodicSystem
    moves: Mapping[int, BodyTransfer]
    starts: tuple[int, ...]
    ii: int


def system_of(loop: TileLoop) -> tuple[PeriodicSystem, dict[int, BodyTransfer]]:
    """Return one iteration of a loop as tasks with precedences, and which task is which transfer."""
    builder = _Builder(loop)
    for node in loop.nodes:
        builder.add(node.name)
    return builder.system(), builder.moves


class _Builder:
    def __init__(self, loop: TileLoop) -> None:
        self.loop = loop
        self.tasks: list[Task] = []
        self.edges: list[Edge] = []
        self.stays: list[Stay] = []
        self.moves: dict[int, BodyTransfer] = {}
        self.traffic = Traffic(loop)
        self._node = {node.name: node for node in loop.nodes}
        self._run: dict[str, int] = {}
        self._copy: dict[tuple[str, str], int] = {}  # the task that brings a tile to a core
        for tile in loop.tiles:
            if tile.in_each == "iteration" and tile.kind is not TileKind.ACTIVATION:
                self._bring(tile, OFFCHIP, ())

    def add(self, name: str) -> None:
        """Add a node's run, and the transfers of its tile if it is the one that completes it."""
        node = self._node[name]
        position = self._task(Task(name, node.cycles[node.core], (f"core {node.core}",)))
        self._run[name] = position
        for tile in node.reads:
            self._after_tile(tile, node.core, position)
        siblings = self.loop.writers[node.writes]
        for writer in siblings:
            if writer.name == name:
                break
            self._edge(self._run[writer.name], position)
        if siblings[-1].name == name and self.loop.tile[node.writes].in_each == "iteration":
            self._bring(self.loop.tile[node.writes], node.core, (position,))

    def _after_tile(self, name: str, core: str, position: int) -> None:
        if (name, core) in self._copy:
            self._edge(self._copy[name, core], position)
            return
        for writer in self.loop.writers[name] if self.loop.tile[name].in_each == "iteration" else ():
            self._edge(self._run[writer.name], position)

    def _bring(self, tile: BodyTile, source: str, after: Sequence[int]) -> None:
        readers = list(dict.fromkeys(reader.core for reader in self.loop.readers[tile.name]))
        shares = self.loop.platform.shares_memory
        targets: list[str] = []
        for core in readers:
            if not any(shares(core, other) for other in ([] if source == OFFCHIP else [source]) + targets):
                targets.append(core)
        for move in self.traffic.moves(tile, source, targets) if targets else ():
            name = f"{tile.name} to {','.join(move.targets)}"
            position = self._task(Task(name, move.cycles, move.route.resources, is_fetch=source == OFFCHIP))
            self.moves[position] = move
            for task in after:
                self._edge(task, position)
            for core in readers:
                if any(shares(core, target) for target in move.targets):
                    self._copy[tile.name, core] = position

    def system(self) -> PeriodicSystem:
        """Return the whole, with stays once all readers are known."""
        loop, platform = self.loop, self.loop.platform
        room = {name: memory.capacity_bytes for name, memory in platform.memories.items()}
        for memory, size in self._for_a_pass().items():
            left = room[memory]
            room[memory] = None if left is None else left - size
        factor = loop.semantics.partial_sum_factor
        for tile in loop.tiles:
            if tile.in_each == "iteration":
                size = tile.size_bytes * (factor if len(loop.writers[tile.name]) > 1 else 1)
                self._stays(tile, size)
        return PeriodicSystem(tuple(self.tasks), tuple(self.edges), tuple(self.stays), room)

    def _stays(self, tile: BodyTile, size: int) -> None:
        platform = self.loop.platform
        moves = [(position, move) for position, move in self.moves.items() if move.tile == tile.name]
        if writers := self.loop.writers[tile.name]:
            home = writers[0].core
            ends = [self._run[writer.name] for writer in writers] + [position for position, _ in moves]
            ends += [self._run[reader.name] for reader in self.loop.readers[tile.name] if platform.shares_memory(reader.core, home)]
            self.stays.append(Stay(platform.cores[home].memory, size, self._run[writers[0].name], tuple(ends)))
        for position, move in moves:
            for target in move.targets:
                readers = [reader for reader in self.loop.readers[tile.name] if platform.shares_memory(reader.core, target)]
                ends = [position, *(self._run[reader.name] for reader in readers)]
                self.stays.append(Stay(self._memory(tile, target), tile.size_bytes, position, tuple(ends)))

    def _memory(self, tile: BodyTile, core: str) -> str:
        facts = self.loop.platform.cores[core]
        return facts.weight_memory or facts.memory if tile.kind is TileKind.PARAMETER else facts.memory

    def _for_a_pass(self) -> dict[str, int]:
        """Return the bytes that lie in each memory for a whole pass."""
        taken: dict[str, int] = defaultdict(int)
        for tile in self.loop.tiles:
            if tile.in_each == "pass":
                cores = [node.core for node in (*self.loop.readers[tile.name], *self.loop.writers[tile.name])]
                factor = self.loop.semantics.partial_sum_factor if self.loop.writers[tile.name] else 1
                for memory in {self._memory(tile, core) for core in cores}:
                    taken[memory] += factor * tile.size_bytes
        return taken

    def _task(self, task: Task) -> int:
        self.tasks.append(task)
        return len(self.tasks) - 1

    def _edge(self, before: int, after: int) -> None:
        self.edges.append(Edge(before, after, self.tasks[before].duration))


def plan_loop(loop: TileLoop, *, exact_seconds: float = 0.0, seed: int = 0) -> PeriodicPlan | None:
    """Return a periodic plan with the shortest II that was found, or None where the body does not fit on chip.

    Parameters
    ----------
    loop
        What repeats.
    exact_seconds
        How long CP-SAT may look for the II of the bound where placing did not reach it and the body is small.
    seed
        Of that search.
    """
    system, moves = system_of(loop)
    if any(room is not None and room < 0 for room in system.room.values()):
        return None
    found = search(system)
    least = system.least_ii()
    if exact_seconds > 0 and len(system.tasks) <= MOST_EXACT and (found is None or found[0] > least):
        starts = place_exactly(system, least, time_limit=exact_seconds, seed=seed, hint=None if found is None else found[1])
        found = found if starts is None else (least, starts)
    return None if found is None else PeriodicPlan(loop, system, moves, tuple(found[1]), found[0])


@dataclass(frozen=True, slots=True)
class Unrolled:
    """Runs and transfers one by one, and where each pass's periodic part begins."""

    runs: tuple[NodeRun, ...]
    transfers: tuple[Transfer, ...]
    periods: tuple[Period, ...]


def unroll(plan: PeriodicPlan, *, iterations: int | None = None, passes: int | None = None, listed: int | None = None) -> Unrolled:
    """Return the schedule of all passes and iterations, or of the first ones.

    Parameters
    ----------
    plan
        The periodic plan.
    iterations, passes
        How many; None for the loop's own.
    listed
        How many iterations of each pass to list; None for all. What is not listed follows from the periods.
    """
    loop = plan.loop
    laps = loop.iterations if iterations is None else iterations
    unroller = _Unroller(plan, laps, laps if listed is None else min(listed, laps))
    for lap in range(loop.passes if passes is None else passes):
        unroller.run_pass(lap)
    return Unrolled(tuple(unroller.runs), tuple(unroller.transfers), tuple(unroller.periods))


class _Unroller:
    def __init__(self, plan: PeriodicPlan, iterations: int, listed: int) -> None:
        self._plan = plan
        self._iterations = iterations
        self._listed = listed
        self._now = 0
        self.runs: list[NodeRun] = []
        self.transfers: list[Transfer] = []
        self.periods: list[Period] = []
        self._inputs = list(_pass_inputs(plan.loop))
        self._outputs = list(_pass_outputs(plan.loop))

    def run_pass(self, lap: int) -> None:
        """Bring the inputs of a pass, run its iterations, write its outputs."""
        plan = self._plan
        begin = self._one_after_the_other(self._inputs, lap, self._now) - min(plan.starts)
        for number in range(self._listed):
            self._iteration(lap, number, begin + number * plan.ii)
        names = tuple(run_name(node.name, lap, 0) for node in plan.loop.nodes)
        self.periods.append(Period(self._iterations, plan.ii, begin, names))
        last = max(start + task.duration for start, task in zip(plan.starts, plan.system.tasks, strict=True))
        end = begin + (self._iterations - 1) * plan.ii + last
        self._now = self._one_after_the_other(self._outputs, lap, end)

    def _iteration(self, lap: int, number: int, begin: int) -> None:
        plan = self._plan
        nodes = iter(plan.loop.nodes)
        for position, (task, start) in enumerate(zip(plan.system.tasks, plan.starts, strict=True)):
            first, last = begin + start, begin + start + task.duration
            if (move := plan.moves.get(position)) is not None:
                self._transfer(move, name_in(plan.loop.tile[move.tile], lap, number), first)
            else:
                node = next(nodes)
                self.runs.append(NodeRun(run_name(node.name, lap, number), node.layer, node.core, first, last))

    def _one_after_the_other(self, moves: Sequence[BodyTransfer], lap: int, start: int) -> int:
        """List transfers from a time on, each as soon as its resources are free; return when the last one ends."""
        free: dict[str, int] = defaultdict(lambda: start)
        end = start
        for move in moves:
            first = max((free[resource] for resource in move.route.resources), default=start)
            for resource in move.route.resources:
                free[resource] = first + move.cycles
            self._transfer(move, name_in(self._plan.loop.tile[move.tile], lap, 0), first)
            end = max(end, first + move.cycles)
        return end

    def _transfer(self, move: BodyTransfer, tile: str, start: int) -> None:
        end = start + move.cycles
        self.transfers.append(Transfer(tile, move.source, move.targets, start, end, move.size_bytes, move.route.resources))


def _pass_inputs(loop: TileLoop) -> Iterator[BodyTransfer]:
    traffic = Traffic(loop)
    for tile in loop.tiles:
        if tile.in_each == "pass" and tile.kind is not TileKind.ACTIVATION:
            targets: list[str] = []
            for reader in loop.readers[tile.name]:
                if not any(loop.platform.shares_memory(reader.core, core) for core in targets):
                    targets.append(reader.core)
            yield from traffic.moves(tile, OFFCHIP, targets)


def _pass_outputs(loop: TileLoop) -> Iterator[BodyTransfer]:
    traffic = Traffic(loop)
    for tile in loop.tiles:
        if tile.in_each == "pass" and tile.is_output:
            yield from traffic.moves(tile, loop.writers[tile.name][-1].core, (OFFCHIP,))
