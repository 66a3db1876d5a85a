"""What follows from runs and transfers alone: the least residency, and from it peaks, latency, energy and off-chip bytes.

The planners use it to complete an answer; `verify` has its own reading of the same rules.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import fsum

from cosma_sched.multicore.platform import OFFCHIP
from cosma_sched.multicore.problem import ScheduleProblem, TileKind
from cosma_sched.multicore.schedule import EnergySplit, NodeRun, OffchipBytes, Residency, Schedule, Transfer


@dataclass(frozen=True, slots=True)
class Figures:
    """The fields of a `Schedule` that follow from its runs and transfers."""

    latency_cycles: int
    energy: EnergySplit
    offchip_bytes: OffchipBytes
    residency: tuple[Residency, ...]
    peak_bytes: Mapping[str, int]
    peak_total_bytes: int
    utilization: Mapping[str, float]

    def put_into(self, schedule: Schedule) -> Schedule:
        """Return a schedule with these figures."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        return schedule.replace(**fields, energy_pj=self.energy.total)


@dataclass(slots=True)
class _Copy:
    """One stay of a tile in a memory: bytes taken from `start`, contents usable from `ready`."""

    core: str
    start: int
    ready: int
    end: int
    is_made_here: bool = False


def figures(problem: ScheduleProblem, runs: Sequence[NodeRun], transfers: Sequence[Transfer]) -> Figures:
    """Derive everything that runs and transfers determine.

    Every need (a reader's run, an outgoing transfer) is served by the copy in that memory that came last before it, and a copy stays until
    the end of the last need that it serves; so no other residency for the same runs and transfers takes fewer bytes at any instant. A need
    that no copy serves is left out: the checker names it.
    """
    latency = _last_end(runs, transfers)
    residency = least_residency(problem, runs, transfers)
    peaks, total = peaks_of(problem, residency)
    busy: dict[str, int] = dict.fromkeys(problem.platform.cores, 0)
    for run in runs:
        busy[run.core] += run.end - run.start
    computing = {core: round(busy[core] / max(latency, 1), 6) for core, facts in problem.platform.cores.items() if facts.is_compute}
    energy = energy_of(problem, runs, transfers)
    return Figures(latency, energy, offchip_bytes_of(problem, transfers), residency, peaks, total, computing)


def _last_end(runs: Sequence[NodeRun], transfers: Sequence[Transfer]) -> int:
    return max([run.end for run in runs] + [transfer.end for transfer in transfers], default=0)


def least_residency(problem: ScheduleProblem, runs: Sequence[NodeRun], transfers: Sequence[Transfer]) -> tuple[Residency, ...]:
    """Return what must lie where, and when; in the order of tiles, memories and times."""
    place = {run.name: run for run in runs}
    by_name = {tile.name: position for position, tile in enumerate(problem.tiles)}
    copies = _copies(problem, place, transfers, by_name)
    for node in problem.nodes:
        if (run := place.get(node.name)) is None:
            continue
        for tile in node.reads:
            _serve(copies.get((tile, problem.memory_of(tile, run.core)), ()), run.start, run.end)
    for transfer in transfers:
        tile = by_name[transfer.tile]
        if transfer.source != OFFCHIP:
            _serve(copies.get((tile, problem.memory_of(tile, transfer.source)), ()), transfer.start, transfer.end)
    if problem.semantics.outputs == "kept":
        _keep_outputs(problem, copies, _last_end(runs, transfers))
    return tuple(entry for (tile, _), stays in sorted(copies.items()) for entry in _entries(problem, tile, stays))


def _copies(
    problem: ScheduleProblem, place: Mapping[str, NodeRun], transfers: Sequence[Transfer], by_name: Mapping[str, int]
) -> dict[tuple[int, str], list[_Copy]]:
    found: dict[tuple[int, str], list[_Copy]] = defaultdict(list)
    for tile, writers in enumerate(problem.writers):
        made = [place[problem.nodes[node].name] for node in writers if problem.nodes[node].name in place]
        if made:
            start, ready = min(run.start for run in made), max(run.end for run in made)
            found[tile, problem.memory_of(tile, made[0].core)].append(_Copy(made[0].core, start, ready, ready, True))
    for transfer in transfers:
        tile = by_name[transfer.tile]
        for core in transfer.targets:
            if core != OFFCHIP:
                found[tile, problem.memory_of(tile, core)].append(_Copy(core, transfer.start, transfer.end, transfer.end))
    if problem.semantics.inputs == "resident":
        for tile, facts in enumerate(problem.tiles):
            if facts.kind is TileKind.INPUT:
                cores = (place[problem.nodes[node].name].core for node in problem.readers[tile] if problem.nodes[node].name in place)
                for memory, core in {problem.memory_of(tile, core): core for core in cores}.items():
                    found[tile, memory].append(_Copy(core, 0, 0, 0))
    return found


def _serve(copies: Iterable[_Copy], start: int, end: int) -> None:
    """Extend the copy that came last before a need."""
    last = max((copy for copy in copies if copy.ready <= start), key=lambda copy: (copy.ready, copy.start), default=None)
    if last is not None:
        last.end = max(last.end, end)


def _keep_outputs(problem: ScheduleProblem, copies: Mapping[tuple[int, str], list[_Copy]], latency: int) -> None:
    """Outputs stay on the core that made them."""
    for (tile, _), stays in copies.items():
        for copy in stays if problem.tiles[tile].is_output else ():
            if copy.is_made_here:
                copy.end = latency


def _entries(problem: ScheduleProblem, tile: int, stays: list[_Copy]) -> Iterable[Residency]:
    facts, factor = problem.tiles[tile], problem.semantics.partial_sum_factor
    if not problem.takes_memory(facts):
        return
    joined: list[_Copy] = []
    for copy in sorted(stays, key=lambda copy: (copy.start, copy.end)):
        if joined and copy.start < joined[-1].end:
            joined[-1].end = max(joined[-1].end, copy.end)
        else:
            joined.append(copy)
    grows = factor > 1 and len(problem.writers[tile]) > 1
    for copy in joined:
        middle = copy.ready if grows and copy.is_made_here else copy.start
        if middle > copy.start:
            yield Residency(facts.name, copy.core, copy.start, middle, factor * facts.size_bytes)
        if copy.end > middle:
            yield Residency(facts.name, copy.core, middle, copy.end, facts.size_bytes)


def peaks_of(problem: ScheduleProblem, residency: Iterable[Residency]) -> tuple[dict[str, int], int]:
    """Return the peak of each core's memories, and that of the whole chip."""
    tiles = {tile.name: position for position, tile in enumerate(problem.tiles)}
    events: list[tuple[int, int, str]] = []  # (cycle, signed bytes, memory); at one cycle what leaves goes first
    for entry in residency:
        memory = problem.memory_of(tiles[entry.tile], entry.core)
        events += [(entry.start, entry.size_bytes, memory), (entry.end, -entry.size_bytes, memory)]
    cores_of: dict[str, list[str]] = defaultdict(list)
    for name, facts in problem.platform.cores.items():
        for memory in {facts.memory, facts.weight_memory or facts.memory}:
            cores_of[memory].append(name)
    live, peak = dict.fromkeys(problem.platform.cores, 0), dict.fromkeys(problem.platform.cores, 0)
    total = most = 0
    for _, size, memory in sorted(events):
        total += size
        most = max(most, total)
        for core in cores_of[memory]:
            live[core] += size
            peak[core] = max(peak[core], live[core])
    return peak, most


def energy_of(problem: ScheduleProblem, runs: Iterable[NodeRun], transfers: Iterable[Transfer]) -> EnergySplit:
    """Return the energy of nodes, of transfers between cores, and of transfers from and to off-chip."""
    nodes = {node.name: node for node in problem.nodes}
    compute = sum(nodes[run.name].energy_pj[run.core] for run in runs)
    links: list[float] = []
    offchip: list[float] = []
    for transfer in transfers:
        routes = problem.platform.routes.get((transfer.source, transfer.targets[0]), ())
        rate = next((route.pj_per_bit for route in routes if route.resources == transfer.route), 0.0)
        (offchip if OFFCHIP in (transfer.source, transfer.targets[0]) else links).append(8 * transfer.size_bytes * rate)
    return EnergySplit(compute, round(fsum(links)), round(fsum(offchip)))


def offchip_bytes_of(problem: ScheduleProblem, transfers: Iterable[Transfer]) -> OffchipBytes:
    """Return the bytes read from off-chip, written to it, and spilled; a multicast counts once."""
    asked = {tile.name for tile in problem.tiles if problem.is_written_back(tile)}
    read = write = spilled = 0
    for transfer in transfers:
        if transfer.source == OFFCHIP:
            read += transfer.size_bytes
        elif transfer.targets[0] == OFFCHIP:
            write += transfer.size_bytes
            spilled += 0 if transfer.tile in asked else transfer.size_bytes
    return OffchipBytes(read, write, spilled)
