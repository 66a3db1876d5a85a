"""Answers for the checker's tests: list schedules completed to results, and a slow checker that walks cycle by cycle."""

from __future__ import annotations

from itertools import pairwise

from cosma_sched.errors import InfeasibleError
from cosma_sched.multicore.list_scheduler import list_schedule
from cosma_sched.multicore.platform import OFFCHIP
from cosma_sched.multicore.problem import ScheduleProblem, TileKind
from cosma_sched.multicore.schedule import NodeRun, Schedule, Transfer
from cosma_sched.result import Provenance, Status, Termination


def blank(problem: ScheduleProblem) -> Schedule:
    """Return an answer without runs, claiming to be feasible."""
    made = Provenance("0", None, "", "cpsat")
    return Schedule(Status.FEASIBLE, Termination.EXHAUSTED, 0.0, False, made, problem.objective, "list-latency", problem.semantics)


def answer(problem: ScheduleProblem, rule: str = "list-latency") -> Schedule | None:
    """Return a list schedule as a result, or None where the rule finds none."""
    try:
        draft = list_schedule(problem, rule=rule)
    except InfeasibleError:
        return None
    if draft is None:
        return None
    whole = blank(problem).replace(nodes=draft.runs(problem), transfers=draft.transfers(problem))
    return draft.figures(problem).put_into(whole)


def slowly_broken(problem: ScheduleProblem, schedule: Schedule) -> set[str]:
    """Return the names of the rules that a schedule breaks, by walking through all cycles.

    For schedules whose nodes are all there and whose transfers take a cycle at least.
    """
    walk = _Walk(problem, schedule)
    walk.transfers()
    walk.runs()
    if not walk.broken:
        for cycle in range(walk.last + 1):
            walk.step(cycle)
        walk.outputs()
        walk.figures()
    return walk.broken


class _Walk:
    def __init__(self, problem: ScheduleProblem, schedule: Schedule) -> None:
        self.problem, self.schedule = problem, schedule
        self.tile = {tile.name: k for k, tile in enumerate(problem.tiles)}
        self.run = {run.name: run for run in schedule.nodes}
        self.writers: list[list[NodeRun]] = [[self.run[problem.nodes[node].name] for node in found] for found in problem.writers]
        self.last = max(item.end for item in (*schedule.nodes, *schedule.transfers))  # type: ignore[attr-defined]
        self.held: dict[tuple[int, str], bool] = {}  # what lies where, and whether it is complete
        self.offchip = {k for k, tile in enumerate(problem.tiles) if tile.kind is not TileKind.ACTIVATION}
        self.most = dict.fromkeys(problem.platform.cores, 0)
        self.most_total = 0
        self.broken: set[str] = set()

    def breaks(self, rule: str, is_broken: bool) -> None:
        if is_broken:
            self.broken.add(rule)

    # What holds without a clock

    def runs(self) -> None:
        for node in self.problem.nodes:
            run = self.run[node.name]
            self.breaks("node-core", run.core not in node.cycles)
            self.breaks("node-duration", node.cycles.get(run.core, run.end - run.start) != run.end - run.start)
            self.breaks("interval", run.start < 0)
            self.breaks("precedence", any(self.run[self.problem.nodes[other].name].end > run.start for other in node.needs))
        for writers in self.writers:
            self.breaks("accumulation", len({run.core for run in writers}) > 1)
            self.breaks("accumulation", any(one.end > other.start for one, other in pairwise(writers)))

    def transfers(self) -> None:
        for transfer in self.schedule.transfers:
            facts = self.problem.tiles[self.tile[transfer.tile]]
            self.breaks("interval", transfer.start < 0)
            self.breaks("transfer-size", transfer.size_bytes != facts.size_bytes)
            self.breaks("transfer-needless", not self.problem.takes_memory(facts))
            for target in transfer.targets:
                routes = [r for r in self.problem.platform.routes.get((transfer.source, target), ()) if r.resources == transfer.route]
                self.breaks("route", not routes or (len(transfer.targets) > 1 and routes[0].bus is None))
                due = routes[0].cycles(facts.size_bytes) if routes else transfer.end - transfer.start
                self.breaks("transfer-duration", due != transfer.end - transfer.start)
        for entry in self.schedule.residency:
            self.breaks("interval", entry.start < 0 or entry.end < entry.start)
            self.breaks("residency-interval", entry.end == entry.start or entry.end > self.last)

    # Cycle by cycle

    def step(self, cycle: int) -> None:
        """Advance to a cycle: what lies there, what has arrived, what is at work."""
        usage = dict.fromkeys(self.problem.platform.memories, 0)
        now: dict[tuple[int, str], bool] = {}
        for entry in self.schedule.residency:
            if entry.start <= cycle < entry.end:
                place = self.tile[entry.tile], self.memory(self.tile[entry.tile], entry.core)
                self.breaks("residency-twice", place in now)
                self.breaks("residency-origin", place not in self.held and not self.happens("start", place, cycle))
                self.breaks("residency-size", entry.size_bytes != self.due(place, cycle))
                now[place] = self.held.get(place, False) or self.happens("end", place, cycle)
                usage[place[1]] += entry.size_bytes
        self.held = now
        self.offchip |= {self.tile[t.tile] for t in self.schedule.transfers if OFFCHIP in t.targets and t.end == cycle}
        for memory, size in usage.items():
            limit = self.problem.platform.memories[memory].capacity_bytes
            self.breaks("capacity", limit is not None and size > limit)
        for core, facts in self.problem.platform.cores.items():
            mine = sum(usage[memory] for memory in {facts.memory, facts.weight_memory or facts.memory})
            self.most[core] = max(self.most[core], mine)
        self.most_total = max(self.most_total, sum(usage.values()))
        self.work(cycle)
        self.traffic(cycle)

    def happens(self, what: str, place: tuple[int, str], cycle: int) -> bool:
        """Return whether writing or bringing a tile into a memory starts, or ends, at a cycle."""
        tile, memory = place
        writers = self.writers[tile]
        if self.problem.semantics.inputs == "resident" and self.problem.tiles[tile].kind is TileKind.INPUT and cycle == 0:
            return True
        if writers and self.memory(tile, writers[0].core) == memory and (writers[0].start if what == "start" else writers[-1].end) == cycle:
            return True
        return any(
            self.tile[transfer.tile] == tile
            and getattr(transfer, what) == cycle
            and memory in {self.memory(tile, core) for core in transfer.targets}
            for transfer in self.schedule.transfers
        )

    def memory(self, tile: int, core: str) -> str:
        facts = None if core == OFFCHIP else self.problem.platform.cores[core]
        if facts is not None and facts.weight_memory is not None and self.problem.tiles[tile].kind is TileKind.PARAMETER:
            return facts.weight_memory
        return OFFCHIP if facts is None else facts.memory

    def due(self, place: tuple[int, str], cycle: int) -> int:
        tile, memory = place
        writers = self.writers[tile]
        grows = len(writers) > 1 and self.memory(tile, writers[0].core) == memory and writers[0].start <= cycle < writers[-1].end
        return self.problem.tiles[tile].size_bytes * (self.problem.semantics.partial_sum_factor if grows else 1)

    def work(self, cycle: int) -> None:
        busy: set[str] = set()
        for node in self.problem.nodes:
            run = self.run[node.name]
            if run.start <= cycle < run.end:
                self.breaks("core-exclusive", run.core in busy)
                busy.add(run.core)
                for tile in node.reads:
                    there = self.held.get((tile, self.memory(tile, run.core)), False)
                    self.breaks("operand-resident", self.problem.takes_memory(self.problem.tiles[tile]) and not there)
        for tile, writers in enumerate(self.writers):
            if writers and writers[0].start <= cycle < writers[-1].end:
                self.breaks("result-resident", (tile, self.memory(tile, writers[0].core)) not in self.held)

    def traffic(self, cycle: int) -> None:
        busy: set[str] = set()
        for transfer in self.schedule.transfers:
            if transfer.start <= cycle < transfer.end:
                tile = self.tile[transfer.tile]
                self.breaks("resource-exclusive", bool(busy & set(transfer.route)))
                busy |= set(transfer.route)
                there = (
                    tile in self.offchip if transfer.source == OFFCHIP else self.held.get((tile, self.memory(tile, transfer.source)), False)
                )
                self.breaks("transfer-source", not there)
                self.breaks(
                    "target-resident", any((tile, self.memory(tile, core)) not in self.held for core in transfer.targets if core != OFFCHIP)
                )

    # At the end

    def outputs(self) -> None:
        leaving = {transfer.tile for transfer in self.schedule.transfers if OFFCHIP in transfer.targets}
        for tile, writers in zip(self.problem.tiles, self.writers, strict=True):
            if not tile.is_output or not writers:
                continue
            self.breaks("output-written", self.problem.semantics.outputs == "written" and tile.name not in leaving)
            lies = [range(entry.start, entry.end) for entry in self.schedule.residency if entry.tile == tile.name]
            gone = any(all(cycle not in stay for stay in lies) for cycle in range(writers[-1].end, self.last))
            self.breaks("output-kept", self.problem.semantics.outputs == "kept" and gone)

    def figures(self) -> None:
        schedule, problem = self.schedule, self.problem
        transfers: tuple[Transfer, ...] = schedule.transfers
        asked = {tile.name for tile in problem.tiles if tile.is_output and problem.semantics.outputs == "written"}
        out = [t.size_bytes for t in transfers if OFFCHIP in t.targets]
        spilled = sum(t.size_bytes for t in transfers if OFFCHIP in t.targets and t.tile not in asked)
        moved = (sum(t.size_bytes for t in transfers if t.source == OFFCHIP), sum(out), spilled)
        stated = schedule.offchip_bytes
        self.breaks("latency", schedule.latency_cycles != self.last)
        self.breaks("peak", dict(schedule.peak_bytes) != self.most)
        self.breaks("peak-total", schedule.peak_total_bytes != self.most_total)
        self.breaks("offchip-bytes", (stated.read, stated.write, stated.spilled) != moved)
        compute = sum(node.energy_pj[self.run[node.name].core] for node in problem.nodes)
        self.breaks("energy", schedule.energy.compute != compute or schedule.energy_pj != schedule.energy.total)
        for core in problem.platform.cores:
            busy = sum(run.end - run.start for run in schedule.nodes if run.core == core)
            self.breaks("utilization", abs(schedule.utilization.get(core, -1.0) - busy / self.last) > 1e-5)
