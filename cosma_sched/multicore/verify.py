"""The checker: everything a schedule claims, recomputed from the problem and the schedule alone.

It imports no solver and no planner, and reads the rules of ``docs/multicore.md`` on its own: whatever the planners share, it does not.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

from cosma_sched.multicore.platform import OFFCHIP, Route
from cosma_sched.multicore.problem import Objective, ScheduleProblem, TileKind
from cosma_sched.multicore.schedule import NodeRun, Residency, Schedule, Transfer
from cosma_sched.multicore.verify_facts import Facts
from cosma_sched.multicore.verify_fields import field_defects, truth_of
from cosma_sched.result import Status


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken rule.

    Parameters
    ----------
    rule
        Name of the rule.
    message
        What is wrong, with the values.
    node, tile, place
        The computation node, the tile, and the core, memory or resource concerned, or None.
    cycle
        When, or None.
    """

    rule: str
    message: str
    node: str | None = None
    tile: str | None = None
    place: str | None = None
    cycle: int | None = None

    def __str__(self) -> str:
        told = [f'node "{self.node}"'] if self.node is not None else []
        told += [f'tile "{self.tile}"'] if self.tile is not None else []
        told += [str(self.place)] if self.place is not None else []
        told += [f"cycle {self.cycle}"] if self.cycle is not None else []
        return f"{self.rule}: {', '.join(told)}{': ' if told else ''}{self.message}"


def verify(problem: ScheduleProblem, schedule: Schedule) -> list[Violation]:
    """Return every rule that a schedule breaks; an empty list means that it holds.

    Parameters
    ----------
    problem
        What was asked.
    schedule
        The answer, every run listed; one without runs (infeasible, unknown) is checked only for what it claims.

    Notes
    -----
    Cost: O(k log k) for k runs, transfers and residencies. That a bound holds is not proved again, only that nothing contradicts it.
    """
    if (claims := without_answer(schedule)) is not None:
        return claims
    if unknown := [*unknown_names(problem, schedule)]:
        return unknown
    if unplaced := [*each_node_once(problem, schedule)]:
        return unplaced
    facts = Facts.of(problem, schedule)
    broken = [violation for rule in RULES for violation in rule(facts)]
    return [*broken, *(Violation(rule, message) for rule, message in field_defects(problem, schedule, truth_of(facts)))]


def without_answer(schedule: Schedule) -> list[Violation] | None:
    """Return what an answer without runs wrongly claims; None for an answer that has runs or must have some."""
    if schedule.nodes or schedule.status not in (Status.INFEASIBLE, Status.UNKNOWN):
        return None
    return [*_claims_without_runs(schedule)]


def _claims_without_runs(schedule: Schedule) -> Iterator[Violation]:
    if schedule.status is Status.INFEASIBLE and not schedule.reasons:
        yield Violation("status", "infeasible without a reason")
    stated = [name for name in ("latency_cycles", "energy_pj", "peak_total_bytes", "gap") if getattr(schedule, name) is not None]
    stated += [name for name in ("transfers", "residency") if getattr(schedule, name)]
    if stated:
        yield Violation("status", f"{schedule.status} schedules nothing, but states {', '.join(stated)}")


# Names


def unknown_names(problem: ScheduleProblem, schedule: Schedule) -> Iterator[Violation]:
    """Every name stands for something of the problem, and no interval ends before it starts."""
    layers, tiles = {node.name: node.layer for node in problem.nodes}, {tile.name for tile in problem.tiles}
    resources = set(problem.platform.resources)
    for run in schedule.nodes:
        if run.name not in layers:
            yield Violation("node-known", "no such computation node", node=run.name)
        elif run.layer != layers[run.name]:
            yield Violation("node-known", f"is of layer {layers[run.name]}, not {run.layer}", node=run.name)
        yield from _cores_known(problem, (run.core,), run.name, None)
    for transfer in schedule.transfers:
        yield from _cores_known(problem, (transfer.source, *transfer.targets), None, transfer.tile)
        for resource in transfer.route:
            if resource not in resources:
                yield Violation("route", "no such link, bus or port", tile=transfer.tile, place=resource)
    for entry in schedule.residency:
        yield from _cores_known(problem, (entry.core,), None, entry.tile)
    yield from _intervals(schedule, tiles)


def _intervals(schedule: Schedule, tiles: set[str]) -> Iterator[Violation]:
    moved_or_held: list[Transfer | Residency] = [*schedule.transfers, *schedule.residency]
    for item in moved_or_held:
        if item.tile not in tiles:
            yield Violation("tile-known", "no such tile", tile=item.tile)
        if not 0 <= item.start <= item.end:
            yield Violation("interval", f"[{item.start}, {item.end}) is no interval from cycle 0 on", tile=item.tile, cycle=item.start)
    for run in schedule.nodes:
        if not 0 <= run.start <= run.end:
            yield Violation("interval", f"[{run.start}, {run.end}) is no interval from cycle 0 on", node=run.name, cycle=run.start)


def _cores_known(problem: ScheduleProblem, named: Sequence[str], node: str | None, tile: str | None) -> Iterator[Violation]:
    """Cores of runs and residencies are compute or memory cores; a transfer may name off-chip too."""
    for core in named:
        if core not in problem.platform.cores and not (len(named) > 1 and core == OFFCHIP):
            told = f"no such core; cores are {', '.join(problem.platform.cores)}"
            yield Violation("core-known", told, node=node, tile=tile, place=f"core {core}")


def each_node_once(problem: ScheduleProblem, schedule: Schedule) -> Iterator[Violation]:
    """Rule 1: every computation node runs once."""
    times = Counter(run.name for run in schedule.nodes)
    for node in problem.nodes:
        if times[node.name] != 1:
            yield Violation("node-once", "never runs" if not times[node.name] else f"runs {times[node.name]} times", node=node.name)


# Rule 1: runs


def _runs(facts: Facts) -> Iterator[Violation]:
    """Each run is on an allowed core and takes what the cost table says."""
    for node, run in zip(facts.problem.nodes, facts.runs, strict=True):
        if run.core not in node.cycles:
            allowed = f"it may run on {', '.join(node.cycles)}"
            yield Violation("node-core", allowed, node=node.name, place=f"core {run.core}", cycle=run.start)
        elif run.end - run.start != node.cycles[run.core]:
            told = f"takes {run.end - run.start} cycles, the costs say {node.cycles[run.core]}"
            yield Violation("node-duration", told, node=node.name, place=f"core {run.core}", cycle=run.start)


def _cores_run_one_node_at_a_time(facts: Facts) -> Iterator[Violation]:
    on_core: dict[str, list[NodeRun]] = defaultdict(list)
    for run in facts.runs:
        on_core[run.core].append(run)
    for core, runs in on_core.items():
        latest: NodeRun | None = None
        for run in sorted(runs, key=lambda run: (run.start, run.end)):
            if latest is not None and run.start < latest.end:
                told = f'"{latest.name}" runs until cycle {latest.end}'
                yield Violation("core-exclusive", told, node=run.name, place=f"core {core}", cycle=run.start)
            if latest is None or run.end > latest.end:
                latest = run


def _needed_nodes_have_ended(facts: Facts) -> Iterator[Violation]:
    for node, run in zip(facts.problem.nodes, facts.runs, strict=True):
        for needed in node.needs:
            before = facts.runs[needed]
            if before.end > run.start:
                yield Violation("precedence", f'"{before.name}" ends at cycle {before.end}', node=node.name, cycle=run.start)


def _writers_follow_each_other_on_one_core(facts: Facts) -> Iterator[Violation]:
    for tile, writers in zip(facts.problem.tiles, facts.problem.writers, strict=True):
        for one, other in pairwise(writers):
            before, after = facts.runs[one], facts.runs[other]
            if before.core != after.core:
                told = f'on core {after.core}, "{before.name}" wrote on core {before.core}'
                yield Violation("accumulation", told, node=after.name, tile=tile.name, cycle=after.start)
            elif before.end > after.start:
                told = f'"{before.name}" writes until cycle {before.end}'
                yield Violation("accumulation", told, node=after.name, tile=tile.name, cycle=after.start)


# Rule 2: what lies on the core of a run


def _operands_are_resident(facts: Facts) -> Iterator[Violation]:
    for node, run in zip(facts.problem.nodes, facts.runs, strict=True):
        for tile in node.reads:
            if not facts.takes_memory(tile):
                continue
            if told := facts.lacks(tile, run.core, run.start, run.end):
                name = facts.problem.tiles[tile].name
                yield Violation("operand-resident", told, node=node.name, tile=name, place=f"core {run.core}", cycle=run.start)


def _results_are_resident(facts: Facts) -> Iterator[Violation]:
    """A tile lies on its core from the start of its first writer to the end of its last."""
    for tile, writers in enumerate(facts.problem.writers):
        if not writers:
            continue
        runs = [facts.runs[node] for node in writers]
        start, end, core = min(run.start for run in runs), max(run.end for run in runs), runs[0].core
        if not facts.covered(tile, core, start, end):
            name = facts.problem.tiles[tile].name
            told = f"does not lie there in all of [{start}, {end}), while it is written"
            yield Violation("result-resident", told, node=runs[0].name, tile=name, place=f"core {core}", cycle=start)


# Rules 3 and 4: transfers


def _routes(facts: Facts) -> Iterator[Violation]:
    """The route is a candidate for source and every target; several targets only over one bus; duration and bytes follow."""
    for transfer in facts.schedule.transfers:
        broken = partial(Violation, tile=transfer.tile, place=_way(transfer), cycle=transfer.start)
        tile = facts.problem.tiles[facts.tile_at[transfer.tile]]
        if len(set(transfer.targets)) != len(transfer.targets) or not transfer.targets:
            yield broken("route", "names a target twice or none")
            continue
        found = [_route(facts, transfer, target) for target in transfer.targets]
        if any(route is None for route in found):
            yield broken("route", f"no way leads there over {', '.join(transfer.route) or 'no resource'}")
            continue
        routes = [route for route in found if route is not None]
        if len(routes) > 1 and (routes[0].bus is None or any(route.bus != routes[0].bus for route in routes)):
            yield broken("route", "only a bus reaches several cores at once")
        if transfer.size_bytes != tile.size_bytes:
            yield broken("transfer-size", f"moves {transfer.size_bytes} bytes, the tile has {tile.size_bytes}")
        due = max(route.cycles(tile.size_bytes) for route in routes)
        if transfer.end - transfer.start != due:
            yield broken("transfer-duration", f"takes {transfer.end - transfer.start} cycles instead of {due}")


def _way(transfer: Transfer) -> str:
    return f"{transfer.source} to {', '.join(transfer.targets)}"


def _route(facts: Facts, transfer: Transfer, target: str) -> Route | None:
    routes = facts.problem.platform.routes.get((transfer.source, target), ())
    return next((route for route in routes if route.resources == transfer.route), None)


def _resources_carry_one_transfer_at_a_time(facts: Facts) -> Iterator[Violation]:
    busy: dict[str, list[Transfer]] = defaultdict(list)
    for transfer in facts.schedule.transfers:
        if transfer.end > transfer.start:
            for resource in set(transfer.route):
                busy[resource].append(transfer)
    for resource, transfers in busy.items():
        latest: Transfer | None = None
        for transfer in sorted(transfers, key=lambda transfer: (transfer.start, transfer.end)):
            if latest is not None and transfer.start < latest.end:
                told = f'"{latest.tile}" ({_way(latest)}) passes until cycle {latest.end}'
                yield Violation("resource-exclusive", told, tile=transfer.tile, place=resource, cycle=transfer.start)
            if latest is None or transfer.end > latest.end:
                latest = transfer


def _sources_hold_what_they_send(facts: Facts) -> Iterator[Violation]:
    """A source holds the complete tile for the whole transfer; off-chip are inputs, parameters, and what was brought there before."""
    for transfer in facts.schedule.transfers:
        tile = facts.tile_at[transfer.tile]
        broken = partial(Violation, tile=transfer.tile, place=_way(transfer), cycle=transfer.start)
        if not facts.takes_memory(tile):
            yield broken("transfer-needless", "needs no transfer under these semantics")
        elif transfer.source != OFFCHIP and not facts.may_be_forwarded(tile):
            yield broken("forwarding", "inputs and parameters come from off-chip only on this platform")
        elif transfer.source != OFFCHIP:
            if told := facts.lacks(tile, transfer.source, transfer.start, transfer.end):
                yield broken("transfer-source", told)
        elif facts.offchip_from(tile) is None:
            yield broken("transfer-source", "is not off-chip")
        elif (brought := facts.offchip_from(tile) or 0) > transfer.start:
            yield broken("transfer-source", f"is off-chip from cycle {brought} on")


def _targets_make_room(facts: Facts) -> Iterator[Violation]:
    """A tile lies at the target from the transfer's start; what is sent off-chip is complete."""
    for transfer in facts.schedule.transfers:
        tile = facts.tile_at[transfer.tile]
        for core in transfer.targets:
            if core != OFFCHIP and facts.takes_memory(tile) and not facts.covered(tile, core, transfer.start, transfer.end):
                told = f"does not lie there in all of [{transfer.start}, {transfer.end}), while it arrives"
                yield Violation("target-resident", told, tile=transfer.tile, place=f"core {core}", cycle=transfer.start)


def _memory_admits_no_spills(facts: Facts) -> Iterator[Violation]:
    if facts.problem.objective is not Objective.MEMORY:
        return
    for transfer in facts.schedule.transfers:
        tile = facts.problem.tiles[facts.tile_at[transfer.tile]]
        spilled = OFFCHIP in transfer.targets and not facts.problem.is_written_back(tile)
        if tile.kind is TileKind.ACTIVATION and (spilled or transfer.source == OFFCHIP):
            told = "the objective memory admits no spills and retrieves"
            yield Violation("no-spill", told, tile=tile.name, place=_way(transfer), cycle=transfer.start)


def _outputs_are_delivered(facts: Facts) -> Iterator[Violation]:
    """Written outputs reach off-chip; kept ones lie on chip from their completion to the end."""
    for position, tile in enumerate(facts.problem.tiles):
        if not tile.is_output or not facts.problem.writers[position]:
            continue
        if facts.problem.is_written_back(tile) and facts.offchip_from(position) is None:
            yield Violation("output-written", "is never transferred off-chip", tile=tile.name)
        if facts.problem.semantics.outputs == "kept" and (gap := facts.left_chip(position)) is not None:
            yield Violation("output-kept", "lies on no core then", tile=tile.name, cycle=gap)


# Rule 5: residency


def _residencies_are_true(facts: Facts) -> Iterator[Violation]:
    """Bytes are those of the tile, contents come from a writer or a transfer, nothing lies twice in one memory."""
    for entry in facts.schedule.residency:
        tile = facts.tile_at[entry.tile]
        broken = partial(Violation, tile=entry.tile, place=f"core {entry.core}", cycle=entry.start)
        if not facts.takes_memory(tile):
            yield broken("residency-tile", "takes no memory under these semantics")
            continue
        if entry.end > facts.latency:
            yield broken("residency-interval", f"lasts until cycle {entry.end}, the schedule until {facts.latency}")
        if entry.end == entry.start:
            yield broken("residency-interval", "is empty")
        elif entry.size_bytes != (due := facts.bytes_due(tile, entry)):
            yield broken("residency-size", f"takes {entry.size_bytes} bytes instead of {due}")
        elif due != facts.problem.tiles[tile].size_bytes and entry.end > facts.ready[tile]:
            yield broken("residency-size", f"takes the room of partial sums after cycle {facts.ready[tile]}, when it is complete")
    for tile, memory, cycle in facts.unfounded():
        name = facts.problem.tiles[tile].name
        yield Violation("residency-origin", "nothing is written or arrives there then", tile=name, place=f"memory {memory}", cycle=cycle)
    for tile, memory, cycle in facts.doubled:
        yield Violation("residency-twice", "lies there already", tile=facts.problem.tiles[tile].name, place=f"memory {memory}", cycle=cycle)


def _addresses_are_apart(facts: Facts) -> Iterator[Violation]:
    """Where addresses are given: inside the memory, no two tiles at one address at one time, and a stay keeps its own."""
    for entry, other, why in facts.clashes():
        told = why if other is None else f'{why} "{other.tile}" at {other.offset}'
        yield Violation("address", told, tile=entry.tile, place=f"core {entry.core}", cycle=entry.start)


def _memories_are_large_enough(facts: Facts) -> Iterator[Violation]:
    for memory, (cycle, size) in facts.first_overflow().items():
        told = f"{size} bytes lie there, it has {facts.problem.platform.memories[memory].capacity_bytes}"
        yield Violation("capacity", told, place=f"memory {memory}", cycle=cycle)


RULES: Sequence[Callable[[Facts], Iterator[Violation]]] = (
    _runs,
    _cores_run_one_node_at_a_time,
    _needed_nodes_have_ended,
    _writers_follow_each_other_on_one_core,
    _operands_are_resident,
    _results_are_resident,
    _routes,
    _resources_carry_one_transfer_at_a_time,
    _sources_hold_what_they_send,
    _targets_make_room,
    _memory_admits_no_spills,
    _outputs_are_delivered,
    _residencies_are_true,
    _memories_are_large_enough,
    _addresses_are_apart,
)
"""The rules, in the order of the page that states them."""
