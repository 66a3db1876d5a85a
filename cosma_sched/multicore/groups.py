"""Fusion groups: a problem is cut between layers into small ones, each is planned alone, and the best cuts are a shortest path.

Layers in a topological order; a group is an interval of it, so no way leaves a group and comes back. Groups run one after the other, and
what one leaves for another goes through off-chip memory. Where that costs more than it saves, cores and order are kept and all transfers
are chosen anew without cuts, so that boundary tiles stay on their cores where there is room.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import networkx as nx

from cosma_sched.errors import InfeasibleError, UsageError
from cosma_sched.multicore.bounds import bounds_of
from cosma_sched.multicore.coarse import coarsened, num_blocks
from cosma_sched.multicore.draft import Draft, Move
from cosma_sched.multicore.improve import Held
from cosma_sched.multicore.list_scheduler import EVICTIONS, list_schedule
from cosma_sched.multicore.planner import GROUPS, answer_of, schedule_problem
from cosma_sched.multicore.problem import Node, Objective, ScheduleProblem, Tile, TileKind
from cosma_sched.multicore.schedule import GROUPED, GROUPING, Schedule
from cosma_sched.multicore.tables import Tables
from cosma_sched.progress import Clock, Progress
from cosma_sched.result import Status, Termination

MOST_NODES = 40
"""Nodes of a group of several layers, after coarsening."""

SIZES = (1, 2, 4, 8, 16)
"""Tiles of a layer that may count as one while cores and order are looked for."""

_MOST_FINE = 600
"""Nodes of a group of several layers that is coarsened."""

SOLVE_SHARE = 0.8
"""How much of the time the groups may take; the rest is for putting them together."""

BOUND_SHARE = 0.2
"""How much of the groups' time may go into bounds; what is still loose then is planned all the same."""

_LEAST_SECONDS = 0.2
_MOST_SECONDS = 20.0

Span = tuple[int, int]
"""Units [first, end) of the order."""

Units = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Part:
    """A group as a problem of its own; `nodes` and `tiles` are the positions that its own had in the whole."""

    problem: ScheduleProblem
    nodes: tuple[int, ...]
    tiles: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Solved:
    """The best schedule of a group alone, its latency, and a bound on that."""

    draft: Draft
    value: int
    bound: int


def by_groups(
    problem: ScheduleProblem, *, time_limit: float | None = 60.0, workers: int = 1, seed: int = 0, most_nodes: int = MOST_NODES
) -> Schedule:
    """Plan fusion groups one by one and return a checked schedule of the whole.

    Every interval of a topological order of the layers is a group if it is a single layer or has at most `most_nodes` nodes, where several
    tiles of a layer may count as one: cores and order are then looked for block by block. Tiles from earlier groups are fetched from
    off-chip, tiles for later ones are written there, and a group ends when all of that is done. The cuts are the shortest path over the
    groups' latencies; groups whose bound is too high to be on it are never planned.

    Parameters
    ----------
    problem
        What to schedule; objective latency, inputs fetched or streamed, outputs written or streamed.
    time_limit
        Seconds in all; None for no limit. A schedule by list of every single layer takes what it takes.
    workers, seed
        Of the solver, and of everything that is drawn.
    most_nodes
        Nodes of a group of several layers.

    Returns
    -------
    Schedule
        ``groups`` names the layers of each group. Its bounds hold for every schedule. The sum of the groups' bounds holds for schedules of
        these groups one after the other only: where the latency equals it, and no other bound, status is ``optimal`` with the scope
        "this grouping", and the sum stands in ``bounds.by_name`` as ``grouping``; elsewhere a remark states it.

    Raises
    ------
    UsageError
        If the objective or the terms admit no groups.
    InfeasibleError
        If a node fits on no core.
    """
    if (why := refusal(problem)) is not None:
        raise UsageError(why)
    clock = Clock(time_limit)
    held = Held(Tables.of(problem), Progress(clock))
    held.bounds.update(bounds_of(held.tables, clock=clock.within(0.1), seed=seed).by_name)
    cuts = Cuts(problem, clock.within(SOLVE_SHARE), workers, seed, most_nodes)
    path = cuts.path()
    held.interrupted = cuts.interrupted
    plain = None if path is None else in_sequence(problem, [(cuts.part(span), cuts.solved[span]) for span in path])
    held.offer(plain)
    if not cuts.interrupted:
        _offer_joined(held, plain)
    answer = answer_of(held, GROUPS, time_limit, workers, seed)
    if path is None or plain is None or not answer.nodes:
        return answer
    answer = answer.replace(groups=tuple(cuts.layers(span) for span in path))
    total = sum(cuts.solved[span].bound for span in path)
    return _scoped(answer, total, held.best is plain)


def refusal(problem: ScheduleProblem) -> str | None:
    """Return why a problem admits no groups, or None."""
    rules = problem.semantics
    if problem.objective is not Objective.LATENCY:
        return f"groups are planned for the latency, not for {problem.objective}"
    if rules.inputs == "resident" or rules.outputs == "kept":
        return "groups need inputs that are fetched or streamed and outputs that are written or streamed: the rest of the chip is theirs"
    return None


def _offer_joined(held: Held, plain: Draft | None) -> None:
    """Take a schedule without cuts if it is faster."""
    try:
        for draft in joined(held.tables, plain):
            if held.best is None or draft.latency(held.tables.problem) < held.best.latency(held.tables.problem):
                held.offer(draft)
    except KeyboardInterrupt:
        held.interrupted = True


def _scoped(answer: Schedule, total: int, is_plain: bool) -> Schedule:
    """State the sum of the groups' bounds, as a proof only where it is one."""
    if not is_plain or answer.latency_cycles != total:
        return answer.replace(remarks=(f"these groups, one after the other, take at least {total:,} cycles",))
    if answer.status is Status.OPTIMAL:
        return answer
    bounds = replace(answer.bounds, by_name={**answer.bounds.by_name, GROUPING: total})
    return answer.replace(status=Status.OPTIMAL, termination=Termination.PROVED, scope=GROUPED, bounds=bounds)


# the order and its parts


def units_of(problem: ScheduleProblem) -> Units:
    """Return nodes that no cut parts, in a topological order: layers, joined where they share a tile or each waits for the other."""
    first: dict[str, int] = {}
    graph: nx.DiGraph[str] = nx.DiGraph()
    for position, node in enumerate(problem.nodes):
        first.setdefault(node.layer, position)
        graph.add_node(node.layer)
        before = {*node.needs, *(writer for tile in node.reads for writer in problem.writers[tile])}
        graph.add_edges_from((problem.nodes[earlier].layer, node.layer) for earlier in before)
        owner = problem.nodes[problem.writers[node.writes][0]].layer
        graph.add_edges_from([(owner, node.layer), (node.layer, owner)])
    condensed = nx.condensation(graph)
    rank = {unit: min(first[layer] for layer in facts["members"]) for unit, facts in condensed.nodes.items()}
    order = {unit: place for place, unit in enumerate(nx.lexicographical_topological_sort(condensed, key=rank.__getitem__))}
    mapping = condensed.graph["mapping"]
    members: list[list[int]] = [[] for _ in order]
    for position, node in enumerate(problem.nodes):
        members[order[mapping[node.layer]]].append(position)
    return tuple(map(tuple, members))


def part_of(problem: ScheduleProblem, nodes: Sequence[int]) -> Part:
    """Return some nodes as a problem of their own: what they read of others is fetched, what others read of theirs is written."""
    inside = {position: place for place, position in enumerate(nodes)}
    touched = {problem.nodes[position].writes for position in nodes}
    touched |= {tile for position in nodes for tile in problem.nodes[position].reads if problem.takes_memory(problem.tiles[tile])}
    tiles = tuple(sorted(touched))
    place_of = {tile: place for place, tile in enumerate(tiles)}

    def facts(tile: int) -> Tile:
        found = problem.tiles[tile]
        if found.kind is not TileKind.ACTIVATION:
            return found
        if problem.writers[tile][0] not in inside:
            return replace(found, kind=TileKind.INPUT, is_output=False)
        leaves = any(reader not in inside for reader in problem.readers[tile])
        return replace(found, is_output=leaves or problem.is_written_back(found))

    def moved(node: Node) -> Node:
        reads = tuple(place_of[tile] for tile in node.reads if tile in place_of)
        needs = tuple(inside[earlier] for earlier in node.needs if earlier in inside)
        return replace(node, reads=reads, needs=needs, writes=place_of[node.writes])

    terms = replace(problem.semantics, inputs="fetched", outputs="written")
    own = tuple(moved(problem.nodes[position]) for position in nodes)
    small = replace(problem, nodes=own, tiles=tuple(map(facts, tiles)), semantics=terms)
    return Part(small, tuple(nodes), tiles)


def _likeness(part: Part) -> object:
    """Return what two groups have in common that differ in names only."""
    nodes = tuple((tuple(sorted(node.cycles.items())), node.reads, node.needs, node.writes) for node in part.problem.nodes)
    return nodes, tuple((tile.size_bytes, tile.kind, tile.is_output) for tile in part.problem.tiles)


# the cuts


class Cuts:
    """What is known of each group, and the shortest path over them."""

    def __init__(self, problem: ScheduleProblem, clock: Clock, workers: int, seed: int, most_nodes: int) -> None:
        self.problem, self.clock, self.workers, self.seed = problem, clock, workers, seed
        self.units = units_of(problem)
        self.size_of = dict(_spans([_tiles_of(problem, unit) for unit in self.units], [len(unit) for unit in self.units], most_nodes))
        self.spans = [*self.size_of]
        self.parts: dict[Span, Part] = {}
        self.bounds: dict[Span, int] = {}
        self.solved: dict[Span, Solved] = {}
        self.is_tight: set[Span] = set()
        self.planned: set[Span] = set()
        self.alike: dict[object, Solved] = {}
        self.interrupted = False
        self.bounding = clock.within(BOUND_SHARE)

    def part(self, span: Span) -> Part:
        """Return a group's problem."""
        if span not in self.parts:
            nodes = sorted(position for unit in self.units[slice(*span)] for position in unit)
            self.parts[span] = part_of(self.problem, nodes)
        return self.parts[span]

    def layers(self, span: Span) -> tuple[str, ...]:
        """Return the names of a group's layers."""
        return tuple(dict.fromkeys(node.layer for node in self.part(span).problem.nodes))

    def path(self) -> list[Span] | None:
        """Return the groups of the best cuts that were found; None where a layer alone, or all that holds it, cannot be scheduled."""
        try:
            self._look_at_all()
            while not self._is_late():
                path = shortest(self.spans, len(self.units), self._promise)
                waiting = [span for span in path or () if span not in self.planned]
                if not waiting:
                    break
                loose = [] if self.bounding.expired else [span for span in waiting if span not in self.is_tight]
                if loose:
                    for span in loose:
                        self._tighten(span)
                    continue
                for number, span in enumerate(waiting):
                    self._plan(span, len(waiting) - number)
        except KeyboardInterrupt:
            self.interrupted = True
        known = [span for span in self.spans if span in self.solved]
        return shortest(known, len(self.units), lambda span: self.solved[span].value)

    def _is_late(self) -> bool:
        return self.interrupted or self.clock.expired

    def _look_at_all(self) -> None:
        """Schedule every layer by list, so that there is a path whatever the time, and say at once what each group cannot be below."""
        work = [sum(min(self.problem.nodes[position].cycles.values()) for position in unit) for unit in self.units]
        num_cores = max(1, sum(core.is_compute for core in self.problem.platform.cores.values()))
        for span in self.spans:
            self.bounds[span] = -(-sum(work[slice(*span)]) // num_cores)
            if span[1] - span[0] == 1:
                part = self.part(span)
                draft = list_schedule(part.problem)
                if draft is not None:
                    self.solved[span] = Solved(draft, draft.latency(part.problem), self.bounds[span])

    def _tighten(self, span: Span) -> None:
        """Bound a group that may be on the path by all arguments that there are."""
        if self.bounding.expired:
            return
        self.is_tight.add(span)
        found = bounds_of(Tables.of(self.part(span).problem), clock=self.clock.within(0.01), seed=self.seed).latency_cycles or 0
        self.bounds[span] = max(self.bounds[span], found)
        if span in self.solved:
            self.solved[span] = replace(self.solved[span], bound=self.bounds[span])

    def _promise(self, span: Span) -> int | None:
        """Return the latency of a group, or what it cannot be below as long as it is not planned."""
        found = self.solved.get(span)
        if span in self.planned:
            return None if found is None else found.value
        return self.bounds.get(span)

    def _plan(self, span: Span, sharing: int) -> None:
        if self._is_late():
            return
        part, left = self.part(span), self.clock.remaining
        self.planned.add(span)
        likeness = _likeness(part)
        if likeness not in self.alike:
            seconds = None if left is None else min(_MOST_SECONDS, max(_LEAST_SECONDS, left / (2 * sharing)))
            answer = self._answer(part.problem, self.size_of[span], seconds)
            if answer.latency_cycles is None:
                return
            draft = Draft.of(part.problem, answer)
            self.alike[likeness] = Solved(draft, answer.latency_cycles, answer.bounds.latency_cycles or 0)
        self.solved[span] = self.alike[likeness]

    def _answer(self, problem: ScheduleProblem, size: int, seconds: float | None) -> Schedule:
        """Plan a group; a large one from what is found for its coarse form in half the time."""
        clock = Clock(seconds)
        start = self._coarse_start(problem, size, None if seconds is None else seconds / 2) if size > 1 else None
        answer = schedule_problem(problem, time_limit=clock.remaining, workers=self.workers, seed=self.seed, start=start)
        self.interrupted |= answer.termination is Termination.INTERRUPTED
        return answer

    def _coarse_start(self, problem: ScheduleProblem, size: int, seconds: float | None) -> Schedule | None:
        coarse = coarsened(problem, size)
        if coarse is None:
            return None
        try:
            found = schedule_problem(coarse.problem, time_limit=seconds, workers=self.workers, seed=self.seed)
        except InfeasibleError:  # what is too large as one may fit in pieces
            return None
        if not found.nodes:
            return None
        tables = Tables.of(problem)
        held = Held(tables, Progress(Clock(0)))
        names, rank = coarse.cores_and_order(Draft.of(coarse.problem, found))
        for eviction in EVICTIONS:
            cores = [tables.cores.index(core) for core in names]
            held.offer(list_schedule(problem, cores=cores, priority=rank, eviction=eviction, tables=tables))
        return answer_of(held, GROUPS, 0, self.workers, self.seed)


def _tiles_of(problem: ScheduleProblem, unit: Sequence[int]) -> tuple[int, ...]:
    """Return how many tiles each layer of a unit writes."""
    pairs = {(problem.nodes[position].layer, problem.nodes[position].writes) for position in unit}
    return tuple(Counter(layer for layer, _ in pairs).values())


def _spans(tiles: Sequence[tuple[int, ...]], nodes: Sequence[int], most_nodes: int) -> Iterator[tuple[Span, int]]:
    """Yield the groups, each with how many tiles of a layer must count as one in it."""
    for first in range(len(tiles)):
        yield (first, first + 1), 1
        for end in range(first + 2, len(tiles) + 1):
            if sum(nodes[first:end]) <= most_nodes:
                yield (first, end), 1
                continue
            counts = [count for unit in tiles[first:end] for count in unit]
            size = next((size for size in SIZES[1:] if num_blocks(counts, size) <= most_nodes), None)
            if size is None or sum(nodes[first:end]) > _MOST_FINE:
                break
            yield (first, end), size


def shortest(spans: Sequence[Span], end: int, length: Callable[[Span], int | None]) -> list[Span] | None:
    """Return the spans of the shortest path from 0 to `end`, the one with fewest spans among equals; None where there is none."""
    best: dict[int, tuple[int, int, Span | None]] = {0: (0, 0, None)}
    for span in sorted(spans):
        before, cost = best.get(span[0]), length(span)
        if before is None or cost is None:
            continue
        key = before[0] + cost, before[1] + 1
        if span[1] not in best or key < best[span[1]][:2]:
            best[span[1]] = (*key, span)
    path: list[Span] = []
    while end and end in best:
        span_before = best[end][2]
        if span_before is None:
            break
        path.append(span_before)
        end = span_before[0]
    return path[::-1] if path and not end else None


# the whole again


def in_sequence(problem: ScheduleProblem, groups: Sequence[tuple[Part, Solved]]) -> Draft:
    """Return the groups' schedules one after the other, as a schedule of the whole."""
    cores, starts = [""] * len(problem.nodes), [0] * len(problem.nodes)
    moves: list[Move] = []
    now = 0
    for part, solved in groups:
        for position, core, start in zip(part.nodes, solved.draft.cores, solved.draft.starts, strict=True):
            cores[position], starts[position] = core, now + start
        moves += [replace(m, tile=part.tiles[m.tile], start=now + m.start, end=now + m.end) for m in solved.draft.moves]
        now += solved.value
    return Draft(tuple(cores), tuple(starts), tuple(moves))


def joined(tables: Tables, plain: Draft | None) -> Iterator[Draft]:
    """Yield schedules on the same cores in the same order without cuts: boundary tiles stay on chip where there is room."""
    if plain is None:
        return
    cores = [tables.cores.index(core) for core in plain.cores]
    for eviction in EVICTIONS:
        draft = list_schedule(tables.problem, cores=cores, priority=plain.starts, eviction=eviction, tables=tables)
        if draft is not None:
            yield draft
