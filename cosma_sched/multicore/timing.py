"""Time a schedule anew: allocation, order on each core and set of transfers are given, all times are free, memory counts exactly."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from cosma_sched.backends import SolverOptions, libraries, solve_cpsat
from cosma_sched.backends.task import OnProgress
from cosma_sched.multicore.draft import Draft, Move
from cosma_sched.multicore.problem import TileKind
from cosma_sched.multicore.program_parts import time_unit
from cosma_sched.multicore.tables import OFF, Tables
from cosma_sched.result import Status

if TYPE_CHECKING:
    from threading import Event

    from ortools.sat.python.cp_model import CpModel


@dataclass(frozen=True, slots=True)
class Timed:
    """What timing found: a draft or None, a bound that holds for this structure only, and whether that there is none is proven."""

    draft: Draft | None
    value: int | None
    bound: int | None
    is_impossible: bool


@dataclass(slots=True, eq=False)
class _Copy:
    start: Any
    ready: Any
    end: Any
    began: int
    """When its contents became usable in the draft."""


def retime(
    tables: Tables,
    draft: Draft,
    *,
    options: SolverOptions,
    latency_limit: int | None = None,
    for_peak: bool = False,
    total_limit: int | None = None,
    on_solution: OnProgress | None = None,
    stop_event: Event | None = None,
) -> Timed:
    """Return the draft with the best times for its structure.

    The draft need not fit into memory; the answer does. Each need keeps the copy that served it in the draft.

    Parameters
    ----------
    latency_limit
        No later end is of interest, in cycles; the draft's own end where the draft is hinted.
    for_peak
        Minimise the most bytes on the chip instead of the latency.
    total_limit
        Bytes that may lie on the chip at once.
    """
    program = _Timing(tables, draft, latency_limit, for_peak, total_limit)
    outcome = solve_cpsat(program.model, options=options, hint=program.hint(), on_solution=on_solution, stop_event=stop_event)
    unit = 1 if for_peak else program.unit
    bound = None if outcome.bound is None else outcome.bound * unit
    if outcome.solution is None:
        return Timed(None, None, bound, outcome.status is Status.INFEASIBLE)
    value = outcome.value
    starts = tuple(value(s) * program.unit for s in program.s)
    moves = []
    for move, start in zip(draft.moves, program.a, strict=True):
        begin = value(start) * program.unit
        moves.append(Move(move.tile, move.route, move.targets, begin, begin + move.end - move.start))
    return Timed(Draft(draft.cores, starts, tuple(moves)), None if outcome.objective is None else outcome.objective * unit, bound, False)


class _Timing:
    """The program: starts of nodes and transfers, ends of copies as maxima of what they serve, one Cumulative per memory."""

    def __init__(self, tables: Tables, draft: Draft, latency_limit: int | None, for_peak: bool, total_limit: int | None) -> None:
        self.tables, self.draft = tables, draft
        self.for_peak, self.total_limit = for_peak, total_limit
        self.model: CpModel = libraries.cp_model().CpModel()
        self.unit = time_unit(tables)
        self.horizon = (draft.latency(tables.problem) if latency_limit is None else latency_limit) // self.unit
        self.copies: dict[tuple[int, int], list[_Copy]] = defaultdict(list)
        self.stays: dict[int, list[tuple[Any, Any, int]]] = defaultdict(list)
        self.busy: dict[int, list[tuple[Any, int]]] = defaultdict(list)
        self.peak: Any = None
        self.latency = self._time()
        core_at = {core: position for position, core in enumerate(tables.cores)}
        self.core = [core_at[core] for core in draft.cores]
        self._nodes()
        self._moves()
        self._needs()
        self._memory()

    def _time(self) -> Any:
        return self.model.new_int_var(0, self.horizon, "")

    def _nodes(self) -> None:
        tables, model = self.tables, self.model
        cycles = [tables.cycles[node][core] // self.unit for node, core in enumerate(self.core)]
        self.s = [self._time() for _ in cycles]
        self.e = [start + length for start, length in zip(self.s, cycles, strict=True)]
        on_core: dict[int, list[int]] = defaultdict(list)
        for node in sorted(range(len(cycles)), key=lambda node: self.draft.starts[node]):
            on_core[self.core[node]].append(node)
        for nodes in on_core.values():
            for before, after in pairwise(nodes):
                model.add(self.s[after] >= self.e[before])
        for node, needs in enumerate(tables.needs):
            model.add(self.e[node] <= self.latency)
            for earlier in needs:
                model.add(self.s[node] >= self.e[earlier])
        for tile, writers in enumerate(tables.problem.writers):
            if writers and tables.problem.takes_memory(tables.problem.tiles[tile]):
                self._made(tile, writers)
            elif tables.problem.tiles[tile].kind is TileKind.INPUT and tables.problem.semantics.inputs == "resident":
                homes = {tables.memory[tile][self.core[reader]] for reader in tables.problem.readers[tile]}
                for memory in homes:
                    self._copy(tile, memory, 0, 0, 0)

    def _made(self, tile: int, writers: tuple[int, ...]) -> None:
        tables = self.tables
        memory = tables.memory[tile][self.core[writers[0]]]
        began = self.draft.starts[writers[-1]] + tables.cycles[writers[-1]][self.core[writers[-1]]]
        copy = self._copy(tile, memory, self.s[writers[0]], self.e[writers[-1]], began)
        if tables.problem.semantics.outputs == "kept" and tables.problem.tiles[tile].is_output:
            self.model.add(copy.end == self.latency)
        if extra := tables.peak_sizes[tile] - tables.sizes[tile]:
            self.stays[memory].append((copy.start, copy.ready, extra))

    def _copy(self, tile: int, memory: int, start: Any, ready: Any, began: int) -> _Copy:
        copy = _Copy(start, ready, self._time(), began)
        self.model.add(copy.end >= ready)
        self.copies[tile, memory].append(copy)
        self.stays[memory].append((start, copy.end, self.tables.sizes[tile]))
        return copy

    def _moves(self) -> None:
        tables, model = self.tables, self.model
        resource_at = {name: position for position, name in enumerate(tables.problem.platform.resources)}
        self.a = [self._time() for _ in self.draft.moves]
        for move, start in zip(self.draft.moves, self.a, strict=True):
            cycles = (move.end - move.start) // self.unit
            model.add(start + cycles <= self.latency)
            for name in move.route.resources if cycles else ():
                self.busy[resource_at[name]].append((start, cycles))
            writers = tables.problem.writers[move.tile]
            if writers:
                model.add(start >= self.e[writers[-1]])
            for target in move.targets:
                memory = tables.home(move.tile, target)
                if memory == OFF:
                    self.copies[move.tile, OFF].append(_Copy(start, start + cycles, None, move.end))
                else:
                    self._copy(move.tile, memory, start, start + cycles, move.end)
        for rows in self.busy.values():
            if len(rows) > 1:
                model.add_no_overlap([model.new_fixed_size_interval_var(start, cycles, "") for start, cycles in rows])

    def _serve(self, tile: int, memory: int, began: int, start: Any, end: Any) -> None:
        """Let the copy that came last before a need in the draft serve it."""
        before = [copy for copy in self.copies.get((tile, memory), ()) if copy.began <= began]
        if not before:
            return
        copy = max(before, key=lambda copy: copy.began) if memory != OFF else min(before, key=lambda copy: copy.began)
        self.model.add(start >= copy.ready)
        if copy.end is not None:
            self.model.add(copy.end >= end)

    def _needs(self) -> None:
        tables, draft = self.tables, self.draft
        for node, tiles in enumerate(tables.reads):
            for tile in tiles:
                self._serve(tile, tables.memory[tile][self.core[node]], draft.starts[node], self.s[node], self.e[node])
        for move, start in zip(draft.moves, self.a, strict=True):
            memory = tables.home(move.tile, move.route.source)
            self._serve(move.tile, memory, move.start, start, start + (move.end - move.start) // self.unit)

    def _memory(self) -> None:
        model = self.model
        everything = []
        for memory, rows in self.stays.items():
            capacity = self.tables.capacities[memory]
            stays = [(model.new_interval_var(start, self._time(), end, ""), size) for start, end, size in rows]
            everything += stays
            if capacity is not None and sum(size for _, size in stays) > capacity:
                model.add_cumulative([interval for interval, _ in stays], [size for _, size in stays], capacity)
        most = sum(size for _, size in everything)
        limit = most if self.total_limit is None else min(most, self.total_limit)
        if self.for_peak:
            self.peak = model.new_int_var(0, limit, "")
            model.add_cumulative([interval for interval, _ in everything], [size for _, size in everything], self.peak)
            model.minimize(self.peak)
            return
        if self.total_limit is not None:
            model.add_cumulative([interval for interval, _ in everything], [size for _, size in everything], limit)
        model.minimize(self.latency)

    def hint(self) -> dict[int, int]:
        """Return the draft's own times."""
        found = {variable.index: start // self.unit for variable, start in zip(self.s, self.draft.starts, strict=True)}
        found |= {variable.index: move.start // self.unit for variable, move in zip(self.a, self.draft.moves, strict=True)}
        found[self.latency.index] = min(self.horizon, self.draft.latency(self.tables.problem) // self.unit)
        return {index: min(value, self.horizon) for index, value in found.items()}
