"""Between a `ScheduleProgram` and drafts: read a solution, and turn a draft into a value for every variable."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from cosma_sched.backends.cpsat import CpOutcome
from cosma_sched.multicore.draft import Draft, Move, unneeded
from cosma_sched.multicore.program import ScheduleProgram
from cosma_sched.multicore.program_parts import Choice, Slot
from cosma_sched.multicore.symmetry import in_order
from cosma_sched.multicore.tables import OFF


def read_draft(program: ScheduleProgram, outcome: CpOutcome) -> Draft:
    """Return the schedule that a solution stands for, without transfers that nobody uses."""
    tables, unit, value = program.tables, program.unit, outcome.value
    cores = tuple(tables.cores[next(core for core, x in row.items() if value(x))] for row in program.x)
    starts = tuple(value(s) * unit for s in program.s)
    carried: dict[int, list[str]] = {}
    chosen: list[tuple[Slot, Choice]] = []
    for slot in program.transfers():
        for choice in slot.choices:
            if value(choice.literal):
                if choice.leads is None:
                    chosen.append((slot, choice))
                else:
                    carried.setdefault(id(choice.leads), []).append(choice.route.target)
    moves = []
    for slot, choice in chosen:
        start = value(slot.start) * unit
        targets = (choice.route.target, *carried.get(id(choice), ()))
        moves.append(Move(slot.tile, choice.route, targets, start, start + choice.cycles * unit))
    return without_unneeded(program, Draft(cores, starts, tuple(moves)))


def without_unneeded(program: ScheduleProgram, draft: Draft) -> Draft:
    """Drop transfers that nobody uses, and those that only they used."""
    while idle := unneeded(program.problem, draft):
        draft = Draft(draft.cores, draft.starts, tuple(move for position, move in enumerate(draft.moves) if position not in idle))
    return draft


def hint_of(program: ScheduleProgram, draft: Draft) -> dict[int, int]:
    """Return a value for every variable by its index, from a draft; some are wrong where the draft has more copies than slots."""
    return _Hint(program, draft if program.options.only is not None else in_order(program.tables, draft)).values()


@dataclass(slots=True)
class _Stay:
    slot: Slot
    start: int
    ready: int
    end: int
    move: Move | None = None


@dataclass(slots=True)
class _Hint:
    program: ScheduleProgram
    draft: Draft
    found: dict[int, int] = field(default_factory=dict)
    stays: dict[tuple[int, int], list[_Stay]] = field(default_factory=dict)
    written: dict[int, _Stay] = field(default_factory=dict)
    latency: int = 0
    core: list[int] = field(default_factory=list)

    def _set(self, variable: Any, value: int) -> None:
        if getattr(variable, "index", None) is not None:
            self.found[variable.index] = value

    def _at(self, variable: Any) -> int:
        return self.found.get(variable.index, 0)

    def values(self) -> dict[int, int]:
        program, draft, unit = self.program, self.draft, self.program.unit
        self.latency = draft.latency(program.problem) // unit
        self._set(program.latency, self.latency)
        core_at = {core: position for position, core in enumerate(program.tables.cores)}
        self.core = [core_at[core] for core in draft.cores]
        for node, row in enumerate(program.x):
            for core, x in row.items():
                self._set(x, int(core == self.core[node]))
            start = draft.starts[node] // unit
            self._set(program.s[node], start)
            self._set(program.e[node], start + program.tables.cycles[node][self.core[node]] // unit)
        for variable, literals in program.sums:
            self._set(variable, int(any(self._at(x) for x in literals)))
        self._set(program.one, 1)
        self._collect()
        self._needs()
        self._slots()
        for _, _, slot, literal in program.serves:
            self.found.setdefault(literal.index, 0)
            del slot
        for start, length, end in program.lengths:
            self._set(length, max(0, self._at(end) - self._at(start)))
        if program.peak is not None:
            peaks = draft.figures(program.problem)
            worst = max(peaks.peak_bytes.values(), default=0)
            self._set(program.peak, worst if program.problem.semantics.memory_scope == "worst-core" else peaks.peak_total_bytes)
        return self.found

    def _collect(self) -> None:
        """Give each copy of the draft a slot, in the order of time."""
        program, unit = self.program, self.program.unit
        for (tile, memory), slot in program.made.items():
            ready = self._at(slot.ready)
            self.stays[tile, memory] = [_Stay(slot, self._at(slot.start), ready, ready)] if self._is_present(slot) else []
        for move in sorted(self.draft.moves, key=lambda move: (move.start, move.end)):
            start, end = move.start // unit, move.end // unit
            for target in move.targets:
                memory = program.tables.home(move.tile, target)
                if memory == OFF:
                    if move.tile in program.written and move.tile not in self.written:
                        self.written[move.tile] = _Stay(program.written[move.tile], start, end, end, move)
                    continue
                here = self.stays.setdefault((move.tile, memory), [])
                free = [slot for slot in program.arrivals.get((move.tile, memory), ()) if all(stay.slot is not slot for stay in here)]
                if free:
                    here.append(_Stay(free[0], start, end, end, move))

    def _is_present(self, slot: Slot) -> bool:
        return bool(self._at(slot.present))

    def _serving(self, tile: int, memory: int, start: int) -> _Stay | None:
        before = [stay for stay in self.stays.get((tile, memory), ()) if stay.ready <= start]
        return max(before, key=lambda stay: (stay.ready, stay.start), default=None)

    def _needs(self) -> None:
        """Let each copy stay as long as it is used."""
        program, tables = self.program, self.program.tables
        literal_of = {(node, tile, id(slot)): literal for node, tile, slot, literal in program.serves}
        for node, tiles in enumerate(tables.reads):
            start, end = self._at(program.s[node]), self._at(program.e[node])
            for tile in tiles:
                stay = self._serving(tile, tables.memory[tile][self.core[node]], start)
                if stay is not None:
                    stay.end = max(stay.end, end)
                    literal = literal_of.get((node, tile, id(stay.slot)))
                    if literal is not None:
                        self._set(literal, 1)
        every = [stay for stays in self.stays.values() for stay in stays] + list(self.written.values())
        for stay in every:
            source = self._source(stay)
            if source is not None and source.slot.memory != OFF:
                source.end = max(source.end, stay.ready)

    def _source(self, stay: _Stay) -> _Stay | None:
        """Return the copy that a transfer came from; None where it was there from the start."""
        if stay.move is None:
            return None
        memory = self.program.tables.home(stay.slot.tile, stay.move.route.source)
        if memory == OFF:
            return self.written.get(stay.slot.tile)
        return self._serving(stay.slot.tile, memory, stay.start)

    def _slots(self) -> None:
        program = self.program
        keeps = program.problem.semantics.outputs == "kept"
        for (tile, memory), slot in program.made.items():
            self.found.setdefault(slot.start.index, 0)
            ends = [stay.end for stay in self.stays.get((tile, memory), ()) if stay.slot is slot]
            if ends or slot.end.index not in self.found:
                end = max([*ends, self._at(slot.ready)])
                self._set(slot.end, self.latency if keeps and program.problem.tiles[tile].is_output else end)
        held = {id(stay.slot): stay for stays in self.stays.values() for stay in stays}
        held |= {id(stay.slot): stay for stay in self.written.values()}
        for slot in program.transfers():
            stay = held.get(id(slot))
            self._set(slot.present, int(stay is not None))
            writers = program.problem.writers[slot.tile]
            idle = self._at(program.e[writers[-1]]) if writers else 0
            self._set(slot.start, idle if stay is None else stay.start)
            self._set(slot.ready, idle if stay is None else stay.ready)
            if slot.end is not None:
                self._set(slot.end, idle if stay is None else stay.end)
            for choice in slot.choices:
                self._set(choice.literal, 0)
        for stay in held.values():
            self._take(stay, held)

    def _take(self, stay: _Stay, held: dict[int, _Stay]) -> None:
        """Set the choice by which a copy came about."""
        if stay.move is None:
            return
        source = self._source(stay)
        first = min(self.program.tables.home(stay.slot.tile, target) for target in stay.move.targets)
        for choice in stay.slot.choices:
            same_source = choice.source is (None if source is None else source.slot) and choice.route.resources == stay.move.route.resources
            rides = choice.leads is not None
            if not same_source or rides != (stay.slot.memory != first):
                continue
            if choice.leads is not None:
                leaders = [s for s in held.values() if choice.leads in s.slot.choices]
                if not leaders or leaders[0].move is not stay.move:
                    continue
            self._set(choice.literal, 1)
            return
