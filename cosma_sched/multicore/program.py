"""The schedule as a CP-SAT program: allocation, start times, copies of tiles with their ways, spills, multicast, memory.

One program serves as the master without memory (a bound), as the complete formulation (exact), and, with parts of it fixed, as a repair.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from cosma_sched.backends import libraries
from cosma_sched.multicore.bounds import Reach, ends_of_cores
from cosma_sched.multicore.platform import Route
from cosma_sched.multicore.problem import Objective, TileKind
from cosma_sched.multicore.program_parts import ENERGY_SCALE, Choice, ProgramOptions, Slot, time_unit
from cosma_sched.multicore.symmetry import interchangeable
from cosma_sched.multicore.tables import OFF, Tables

if TYPE_CHECKING:
    from ortools.sat.python.cp_model import IntVar


class ScheduleProgram:
    """The program.

    Variables
        x[i,c]         node i runs on core c; s_i its start, e_i = s_i + sum_c cycles[i,c] x[i,c]
        made[t,m]      tile t is made in memory m: some x of its writers' cores there
        slot[t,m,k]    the k-th arrival of tile t in memory m: presence, start, ready, end, and one choice (source slot, route) or a ride
        off[t]         tile t is written off-chip
        serve[i,t,k]   which slot reader i of tile t uses
        latency
    Minimise
        latency, or energy, or the peak
    Subject to
        one core     each node on one core, all writers of a tile on one; nodes of one core do not overlap; s_j >= e_i for j after i
        transfers    at most one on a resource at a time; a slot starts when its source is ready, and the source stays until it is there
        reads        each reader is served by a slot in the memory of its core that is ready when it starts and stays until it ends
        memory       the slots in one memory never take more than its capacity
        outputs      are written off-chip, or stay where they were made
        bounds       on each used core: head + cycles + tail <= latency; the busy time of each resource <= latency
        symmetry     blocks that may be renamed start in order in one layer

    Times are counted in units of the greatest common divisor of all durations: rounding every time of a schedule down to a multiple of it
    keeps every precedence, and what did not overlap still does not, so no schedule is lost. Two copies of a tile in one memory never
    overlap: the first one could stay instead of the second one coming. One write off-chip per tile is enough: it lies there for ever.
    """

    def __init__(self, tables: Tables, options: ProgramOptions) -> None:
        self.tables, self.options = tables, options
        self.problem = tables.problem
        self.model = libraries.cp_model().CpModel()
        self.unit = time_unit(tables)
        self.horizon = options.horizon // self.unit
        self.tiles = [t for t, facts in enumerate(self.problem.tiles) if self.problem.takes_memory(facts)]
        self.one = self.model.new_constant(1)
        self.reach = Reach(tables)
        self.latency = self._time("latency")
        self.peak: IntVar | None = None
        self._stays: dict[int, list[tuple[Any, int]]] = {m: [] for m in range(len(tables.memories))}
        self._busy: dict[int, list[tuple[Any, Any, int]]] = {r: [] for r in range(tables.num_resources)}
        self.arrivals: dict[tuple[int, int], list[Slot]] = {}
        self.made: dict[tuple[int, int], Slot] = {}
        self.written: dict[int, Slot] = {}
        self.serves: list[tuple[int, int, Slot, Any]] = []
        self.lengths: list[tuple[Any, Any, Any]] = []
        self.sums: list[tuple[Any, list[Any]]] = []
        self._nodes()
        self._tiles()
        self._reads()
        self._transfers()
        self._memory()
        self._bounds()
        self._symmetry()
        self._objective()

    # small parts

    def _time(self, name: str = "", low: int = 0) -> IntVar:
        return self.model.new_int_var(min(low, self.horizon), self.horizon, name)

    def _bool(self, name: str = "") -> IntVar:
        return self.model.new_bool_var(name)

    def at(self, node: int, memory: int, tile: int) -> Any:
        """Return a 0-1 expression: a node runs on a core whose tile would lie in a memory."""
        return sum(x for core, x in self.x[node].items() if self.tables.memory[tile][core] == memory)

    # nodes

    def _nodes(self) -> None:
        """One core per node, no overlap on a core, precedence."""
        model, tables = self.model, self.tables
        self.x: list[dict[int, Any]] = []
        self.s: list[Any] = []
        self.e: list[Any] = []
        on_core: list[list[Any]] = [[] for _ in tables.cores]
        for node, allowed in enumerate(tables.allowed):
            first = self.problem.writers[self.problem.nodes[node].writes][0]
            if first != node:
                self.x.append(self.x[first])
            elif len(allowed) == 1:
                self.x.append({allowed[0]: self.one})
            else:
                self.x.append({core: self._bool(f"x{node}_{core}") for core in allowed})
                model.add_exactly_one(self.x[node].values())
            cycles = {core: tables.cycles[node][core] // self.unit for core in allowed}
            self.s.append(self._time(f"s{node}", self.reach.earliest[node] // self.unit))
            end = self._time(f"e{node}")
            model.add(end == self.s[node] + sum(cycles[core] * x for core, x in self.x[node].items()))
            self.e.append(end)
            for core, x in self.x[node].items():
                on_core[core].append(model.new_optional_fixed_size_interval_var(self.s[node], cycles[core], x, ""))
            model.add(end + self.reach.tail[node] // self.unit <= self.latency)
        for intervals in on_core:
            model.add_no_overlap(intervals)
        for node, before in enumerate(tables.needs):
            for earlier in before:
                model.add(self.s[node] >= self.e[earlier])

    # tiles

    def _tiles(self) -> None:
        """Where each tile can be: made, resident, arrived, written."""
        tables, problem = self.tables, self.problem
        for tile in self.tiles:
            facts, writers = problem.tiles[tile], problem.writers[tile]
            if writers:
                self._made(tile, writers)
            resident = facts.kind is TileKind.INPUT and problem.semantics.inputs == "resident"
            for memory in range(len(tables.memories)):
                if resident:
                    self._resident(tile, memory)
                elif self._may_arrive(tile, memory):
                    self.arrivals[tile, memory] = [self._slot(tile, memory, k) for k in range(self.options.slots)]
            may_spill = self.options.spills and (self.options.only is None or tile in self.options.only)
            if writers and (problem.is_written_back(facts) or may_spill):
                present = self.one if problem.is_written_back(facts) else self._bool()
                start = self._time(low=self.reach.earliest[writers[-1]] // self.unit)
                self.written[tile] = Slot(tile, OFF, 0, present, start, self._time(), None)
        for tile in self.tiles:
            for memory in range(len(tables.memories)):
                for slot in self.arrivals.get((tile, memory), ()):
                    self._choose(slot)
                self._in_order(tile, memory)
            if self._is_kept(tile) and self.options.open_ended:
                self._keep(tile)
            if tile in self.written:
                self._choose(self.written[tile])

    def _may_arrive(self, tile: int, memory: int) -> bool:
        """Whether a copy there can be of use: to a reader, or on the way somewhere else."""
        tables, problem = self.tables, self.problem
        facts = problem.tiles[tile]  # kept outputs may move too, as far as bounds go
        is_of_use = problem.readers[tile] or problem.is_written_back(facts) or (self._is_kept(tile) and self.options.with_memory)
        if not is_of_use or not any(target == memory for _, target in tables.routes):
            return False
        size, capacity = tables.sizes[tile], tables.capacities[memory]
        if self.options.with_memory and capacity is not None and size > capacity:
            return False
        places = {tables.memory[tile][core] for core in range(len(tables.cores))}
        if self.options.only is not None:
            places = {tables.memory[tile][core] for reader in problem.readers[tile] for core in tables.allowed[reader]}
        if memory not in places:
            return False
        if not self.options.with_memory and problem.writers[tile]:
            home = {tables.memory[tile][core] for core in tables.allowed[problem.writers[tile][0]]}
            return home != {memory}
        return True

    def _made(self, tile: int, writers: tuple[int, ...]) -> None:
        """A copy that grows where the writers run, from the start of the first to the end of the last and on."""
        places: dict[int, list[Any]] = {}
        for core, x in self.x[writers[0]].items():
            places.setdefault(self.tables.memory[tile][core], []).append(x)
        start, ready, end = self.s[writers[0]], self.e[writers[-1]], self._time()
        self.model.add(end >= ready)
        if self._is_kept(tile) and not self.options.open_ended:
            self.model.add(end == self.latency)
        for memory, literals in places.items():
            present = literals[0]
            if len(literals) > 1:
                present = self._bool()
                self.model.add(sum(literals) == present)
                self.sums.append((present, literals))
            slot = Slot(tile, memory, -1, present, start, ready, end)
            self.made[tile, memory] = slot
            self._stay(slot, self.tables.sizes[tile])
            if extra := self.tables.peak_sizes[tile] - self.tables.sizes[tile]:
                self._occupy(memory, start, ready, present, extra)

    def _is_kept(self, tile: int) -> bool:
        return self.problem.semantics.outputs == "kept" and self.problem.tiles[tile].is_output

    def _keep(self, tile: int) -> None:
        """Some copy of an output lies on the chip at the end. A bound must not say where, though schedules keep it where it was made."""
        copies = [slot for (other, _), slot in self.made.items() if other == tile]
        copies += [slot for (other, _), slots in self.arrivals.items() if other == tile for slot in slots]
        literals = []
        for slot in copies:
            literal = self._bool()
            literals.append(literal)
            self.model.add_implication(literal, slot.present)
            if slot.is_open:
                last = self._time()
                self.model.add(last == self.latency - 1)
                self._occupy(slot.memory, last, self.latency, literal, self.tables.sizes[tile])
            else:
                self.model.add(slot.end >= self.latency).only_enforce_if(literal)
        self.model.add_bool_or(literals)

    def _resident(self, tile: int, memory: int) -> None:
        readers = [node for node in self.problem.readers[tile] if not isinstance(self.at(node, memory, tile), int)]
        if not readers:
            return
        present = self._bool()
        here = [x for node in readers for core, x in self.x[node].items() if self.tables.memory[tile][core] == memory]
        for x in here:
            self.model.add_implication(x, present)
        self.sums.append((present, here))
        zero = self.model.new_constant(0)
        slot = Slot(tile, memory, -1, present, zero, zero, self._time())
        self.made[tile, memory] = slot
        self._stay(slot, self.tables.sizes[tile])

    def _slot(self, tile: int, memory: int, rank: int) -> Slot:
        writers = self.problem.writers[tile]
        low = self.reach.earliest[writers[-1]] // self.unit if writers else 0
        is_open = self.options.open_ended and rank == self.options.slots - 1
        slot = Slot(tile, memory, rank, self._bool(), self._time(low=low), self._time(), self._time(), is_open)
        self.model.add(slot.end >= slot.ready)
        if is_open:
            self._occupy(memory, slot.start, slot.ready, slot.present, self.tables.sizes[tile])
        else:
            self._stay(slot, self.tables.sizes[tile])
        return slot

    def _stay(self, slot: Slot, size: int) -> None:
        self._occupy(slot.memory, slot.start, slot.end, slot.present, size)

    def _occupy(self, memory: int, start: Any, end: Any, present: Any, size: int) -> None:
        if self._counts_memory and size:
            length = self._time()
            self.lengths.append((start, length, end))
            interval = self.model.new_optional_interval_var(start, length, end, present, "")
            self._stays[memory].append((interval, size))

    @property
    def _counts_memory(self) -> bool:
        return self.options.with_memory or self.problem.objective is Objective.MEMORY

    def _choose(self, slot: Slot) -> None:
        """One way for each copy: from where it was made, from another copy, from off-chip, or on a transfer that goes elsewhere too."""
        tile, model = slot.tile, self.model
        for source, ways in self._ways_to(slot):
            for resources, route in ways:
                cycles = route.cycles(self.tables.sizes[tile]) // self.unit
                literal = self._bool()
                choice = Choice(literal, source, route, resources, cycles)
                slot.choices.append(choice)
                self._send(slot, choice)
                if cycles:
                    for resource in resources:
                        self._busy[resource].append((slot.start, literal, cycles))
        if slot.memory != OFF:
            self._ride(slot)
        model.add(sum(choice.literal for choice in slot.choices) == slot.present)
        model.add(slot.ready == slot.start + sum(choice.cycles * choice.literal for choice in slot.choices))
        model.add(slot.ready <= self.latency).only_enforce_if(slot.present)
        if self.problem.writers[tile]:
            model.add(slot.start >= self.e[self.problem.writers[tile][-1]]).only_enforce_if(slot.present)

    def _ways_to(self, slot: Slot) -> list[tuple[Slot | None, tuple[tuple[tuple[int, ...], Route], ...]]]:
        tables, tile = self.tables, slot.tile
        found: list[tuple[Slot | None, tuple[tuple[tuple[int, ...], Route], ...]]] = []
        for memory in range(len(tables.memories)):
            ways = tables.routes.get((memory, slot.memory), ())
            if ways and memory != slot.memory and tables.forwards(tile):
                sources = [self.made[tile, memory]] if (tile, memory) in self.made else []
                found += [(source, ways) for source in (*sources, *self.arrivals.get((tile, memory), ()))]
        ways = tables.routes.get((OFF, slot.memory), ())
        if slot.memory != OFF and ways:
            if self.problem.is_fetched(self.problem.tiles[tile]):
                found.append((None, ways))
            elif tile in self.written and self.options.spills:
                found.append((self.written[tile], ways))
        return found

    def _send(self, slot: Slot, choice: Choice) -> None:
        """The source is there, is ready, and stays until the transfer has ended."""
        source, model = choice.source, self.model
        if source is None:
            return
        model.add_implication(choice.literal, source.present)
        model.add(slot.start >= source.ready).only_enforce_if(choice.literal)
        if source.end is not None and not source.is_open:
            model.add(source.end >= slot.ready).only_enforce_if(choice.literal)

    def _ride(self, slot: Slot) -> None:
        """A transfer over a bus reaches several memories; the one that comes first in the platform carries it."""
        for memory in range(slot.memory):
            for leader in self.arrivals.get((slot.tile, memory), ()):
                for lead in leader.choices:
                    source = OFF if lead.source is None else lead.source.memory
                    if lead.leads is not None or lead.route.bus is None or source == slot.memory:
                        continue
                    ways = self.tables.routes.get((source, slot.memory), ())
                    same = [route for resources, route in ways if resources == lead.resources and route.bus == lead.route.bus]
                    if not same:
                        continue
                    literal = self._bool()
                    self.model.add_implication(literal, lead.literal)
                    self.model.add(slot.start == leader.start).only_enforce_if(literal)
                    slot.choices.append(Choice(literal, lead.source, same[0], lead.resources, lead.cycles, lead))

    def _in_order(self, tile: int, memory: int) -> None:
        """Arrivals in one memory follow each other, and the production there comes before them."""
        slots, model = self.arrivals.get((tile, memory), []), self.model
        for before, after in pairwise(slots):
            model.add_implication(after.present, before.present)
            model.add(after.start >= before.end).only_enforce_if(after.present)
        made = self.made.get((tile, memory))
        if made is not None and slots:
            if self.options.with_memory:
                model.add(slots[0].start >= made.end).only_enforce_if(slots[0].present, made.present)
            else:
                model.add_at_most_one(slots[0].present, made.present)

    # readers

    def _reads(self) -> None:
        """Each reader is served in the memory of its core."""
        for node, tiles in enumerate(self.tables.reads):
            for tile in tiles:
                for memory in dict.fromkeys(self.tables.memory[tile][core] for core in self.x[node]):
                    self._serve(node, tile, memory)

    def _serve(self, node: int, tile: int, memory: int) -> None:
        slots = list(self.arrivals.get((tile, memory), ()))
        if (tile, memory) in self.made:
            slots.append(self.made[tile, memory])
        literals = []
        for slot in slots:
            literal = self._bool()
            literals.append(literal)
            self.serves.append((node, tile, slot, literal))
            self.model.add_implication(literal, slot.present)
            self.model.add(self.s[node] >= slot.ready).only_enforce_if(literal)
            if not slot.is_open and self._counts_memory:
                self.model.add(slot.end >= self.e[node]).only_enforce_if(literal)
            elif slot.is_open and self._is_private(memory, tile):
                self._occupy(memory, self.s[node], self.e[node], literal, self.tables.sizes[tile])
        self.model.add(sum(literals) == self.at(node, memory, tile))

    def _is_private(self, memory: int, tile: int) -> bool:
        """Whether readers of a tile in a memory run one after the other, so that its bytes may be counted for each of them."""
        return sum(other == memory for other in self.tables.memory[tile]) == 1

    # resources

    def _transfers(self) -> None:
        """One transfer at a time on every link, bus and port."""
        for rows in self._busy.values():
            intervals = [self.model.new_optional_fixed_size_interval_var(start, cycles, literal, "") for start, literal, cycles in rows]
            if len(intervals) > 1:
                self.model.add_no_overlap(intervals)
            if rows:
                self.model.add(sum(cycles * literal for _, literal, cycles in rows) <= self.latency)

    def _memory(self) -> None:
        """No memory takes more than it has; the whole chip no more than is allowed, or as little as possible."""
        model, options = self.model, self.options
        if not self._counts_memory:
            return
        everything = [stay for stays in self._stays.values() for stay in stays]
        most = sum(size for _, size in everything)
        if self.problem.objective is Objective.MEMORY:
            self.peak = model.new_int_var(0, min(most, options.total_limit or most), "peak")
        for memory, stays in self._stays.items():
            capacity = self.tables.capacities[memory]
            if capacity is not None and options.with_memory:
                model.add_cumulative([interval for interval, _ in stays], [size for _, size in stays], capacity)
            if self.peak is not None and self.problem.semantics.memory_scope == "worst-core":
                model.add_cumulative([interval for interval, _ in stays], [size for _, size in stays], self.peak)
        limit: Any = options.total_limit
        if self.peak is not None and self.problem.semantics.memory_scope == "total":
            limit = self.peak
        if limit is not None:
            model.add_cumulative([interval for interval, _ in everything], [size for _, size in everything], limit)

    def _bounds(self) -> None:
        """Head, load and tail of every core that is used."""
        for core, (head, tail) in enumerate(ends_of_cores(self.tables, self.reach)):
            mine = [(node, x[core]) for node, x in enumerate(self.x) if core in x]
            if not mine:
                continue
            used = self._bool()
            for _, x in mine:
                self.model.add_implication(x, used)
            self.sums.append((used, [x for _, x in mine]))
            load = sum(self.tables.cycles[node][core] // self.unit * x for node, x in mine)
            self.model.add(head // self.unit * used + load + tail // self.unit * used <= self.latency)

    def _symmetry(self) -> None:
        for before, after in interchangeable(self.tables) if self.options.only is None else ():
            self.model.add(self.s[before] <= self.s[after])

    def _objective(self) -> None:
        objective = self.problem.objective
        if objective is Objective.ENERGY:
            self.model.minimize(self.energy())
        else:
            self.model.minimize(self.latency if self.peak is None else self.peak)

    def energy(self) -> Any:
        """Return the energy in units of 1 / `ENERGY_SCALE` pJ, each transfer rounded down."""
        terms: list[Any] = []
        for node, x in zip(self.problem.nodes, self.x, strict=True):
            terms += [ENERGY_SCALE * node.energy_pj[self.tables.cores[core]] * literal for core, literal in x.items()]
        for slot in self.transfers():
            for choice in slot.choices:
                if choice.leads is None:
                    cost = int(8 * self.tables.sizes[slot.tile] * choice.route.pj_per_bit * ENERGY_SCALE)
                    terms.append(cost * choice.literal)
        return sum(terms)

    def transfers(self) -> list[Slot]:
        """Return all slots that come about by a transfer."""
        return [slot for slots in self.arrivals.values() for slot in slots] + list(self.written.values())
