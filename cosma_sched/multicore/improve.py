"""From a first schedule to the best one: perturbed lists, the master without memory, times anew, windows freed, the complete search."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise

from cosma_sched.backends import SolverOptions, solve_cpsat
from cosma_sched.backends.task import OnProgress
from cosma_sched.multicore.bounds import MINIMAX, RELAXATION, SEARCH
from cosma_sched.multicore.complete import fits, search_complete, value_of
from cosma_sched.multicore.draft import Draft
from cosma_sched.multicore.figures import Figures
from cosma_sched.multicore.list_scheduler import EVICTIONS, RULES, list_schedule
from cosma_sched.multicore.minimax import minimax
from cosma_sched.multicore.platform import OFFCHIP
from cosma_sched.multicore.problem import Objective, TileKind
from cosma_sched.multicore.program import ScheduleProgram
from cosma_sched.multicore.program_parts import ENERGY_SCALE, ProgramOptions
from cosma_sched.multicore.program_values import hint_of, read_draft
from cosma_sched.multicore.rhythm import has_rhythm, rhythms
from cosma_sched.multicore.tables import Tables
from cosma_sched.multicore.timing import Timed, retime
from cosma_sched.progress import Clock, Progress
from cosma_sched.result import Status, Termination

MOST_NODES_COMPLETE = 16
MOST_NODES_MASTER = 120
MOST_NODES_TIMED = 600
MOST_CHOICES = 12_000
"""(tile, way) pairs up to which a program is built; some ten variables and rows each, some seconds to build."""
MOST_CHOICES_WINDOW = 4_000
"""The same for windows, which build one every few seconds."""
MINIMAX_STATES = 1_000_000
MINIMAX_SHARE = 0.5
WINDOW = 14
WINDOW_SECONDS = 6.0
FRUITLESS_WINDOWS = 60
"""Windows without success after which a search without a time limit ends."""
PERTURB_SHARE = 0.2
RHYTHM_SHARE = 0.2
MASTER_SHARE = 0.5
COMPLETE_SHARE = 0.7
MOST_CHOICES_MASTER = 700
"""(tile, way) pairs up to which the master has a good chance of a proof: two cores and some fifty tiles."""
TRIES_PER_NODE = 60
"""Changes per node without success after which another phase has its turn."""
TURN_SECONDS = 5.0
"""Perturbed lists between two windows."""


class Enough(Exception):  # noqa: N818 - a signal between the phases, not an error
    """Value and bound are as close as asked, or the time is over, or the user ended the work."""


@dataclass
class Held:
    """The best schedule and the best bounds so far, in units of `value_of`."""

    tables: Tables
    progress: Progress
    gap: float = 0.0
    total_limit: int | None = None
    bounds: dict[str, int] = field(default_factory=dict)
    best: Draft | None = None
    key: tuple[int, ...] | None = None
    figures: Figures | None = None
    proven: bool = False
    interrupted: bool = False
    gap_reached: bool = False

    @property
    def objective(self) -> Objective:
        """What is minimised."""
        return self.tables.problem.objective

    @property
    def value(self) -> int | None:
        """Value of the best schedule."""
        return None if self.key is None else self.key[0]

    @property
    def bound(self) -> int | None:
        """The best bound on the objective."""
        names = [name for name in self.bounds if self._bounds_objective(name)]
        return max((self.bounds[name] for name in names), default=None)

    def _bounds_objective(self, name: str) -> bool:
        if self.objective is Objective.MEMORY and self.tables.problem.semantics.memory_scope == "worst-core":
            return name == _search_name(self.objective)  # the others bound the sum over all cores
        ending = {Objective.LATENCY: None, Objective.MEMORY: "_bytes", Objective.ENERGY: "_scaled"}[self.objective]
        return name.endswith(ending) if ending is not None else not name.endswith(("_bytes", "_pj", "_scaled"))

    def admits(self, draft: Draft, found: Figures) -> bool:
        """Return whether a schedule with its figures is one: it fits, and the objective memory admits no spills."""
        problem = self.tables.problem
        if self.objective is Objective.MEMORY:
            for move in draft.moves:
                spilled = OFFCHIP in move.targets and not problem.is_written_back(problem.tiles[move.tile])
                if problem.tiles[move.tile].kind is TileKind.ACTIVATION and (spilled or move.route.source == OFFCHIP):
                    return False
        return fits(self.tables, draft, self.total_limit, found)

    def offer(self, draft: Draft | None) -> bool:
        """Take a schedule if it is better in objective, then latency, off-chip bytes and peak; return whether it is."""
        if draft is None:
            return False
        if self.key is not None and self.objective is not Objective.MEMORY and value_of(self.tables, draft) > self.key[0]:
            return False
        found = draft.figures(self.tables.problem)
        moved = found.offchip_bytes.read + found.offchip_bytes.write
        key = (value_of(self.tables, draft, found), found.latency_cycles, moved, found.peak_total_bytes)
        if (self.key is not None and key >= self.key) or not self.admits(draft, found):
            return False
        self.best, self.key, self.figures = draft, key, found
        self.tell("schedule")
        return True

    def prove(self, name: str, bound: int | None) -> None:
        """Take a bound if it is better."""
        if bound is not None and bound > self.bounds.get(name, 0):
            self.bounds[name] = bound
            self.tell("bound")

    def tell(self, phase: str) -> None:
        """Report value and bound."""
        scale = ENERGY_SCALE if self.objective is Objective.ENERGY else 1
        value, bound = (None if figure is None else figure // scale for figure in (self.value, self.bound))
        self.progress.report(phase, incumbent=value, bound=bound)

    def check(self) -> None:
        """Stop where nothing is left to do or no time to do it.

        Raises
        ------
        Enough
            Then.
        """
        value, bound = self.value, self.bound
        if value is not None and bound is not None and bound >= value:
            self.proven = True
        if self.proven or self.interrupted or self.progress.clock.expired:
            raise Enough
        if value is not None and bound is not None and self.gap and value - bound <= self.gap * value:
            self.gap_reached = True
            raise Enough


class Improver:
    """The phases of method ``exact``."""

    def __init__(self, held: Held, workers: int, seed: int) -> None:
        self.held, self.tables, self.problem = held, held.tables, held.tables.problem
        self.options = SolverOptions(workers=workers, seed=seed)
        self.clock: Clock = held.progress.clock
        self.random = random.Random(seed)
        self.num_nodes = len(self.problem.nodes)
        self.choices = _choices(self.tables)
        self.spills = held.objective is not Objective.MEMORY
        self.unanswered = 0
        """Windows in a row in which the solver did not even get to the hint."""

    def run(self) -> None:
        """Improve until value and bound meet or the time is over."""
        try:
            self.held.check()
            self.lists()
            self.held.check()
            if self.held.objective is Objective.MEMORY:
                self.least_peak()
                self.held.check()
            self.rhythm()
            self.held.check()
            self.perturb(PERTURB_SHARE)
            self.held.check()
            self.polish()
            self.held.check()
            if self.held.objective is Objective.LATENCY and self._is_small(MOST_NODES_MASTER):
                self.master()
                self.held.check()
            if self._is_small(MOST_NODES_COMPLETE):
                self.complete()
                self.held.check()
            self.windows()
        except Enough:
            pass
        except KeyboardInterrupt:
            self.held.interrupted = True

    def _is_small(self, most_nodes: int) -> bool:
        return self.num_nodes <= most_nodes and self.choices <= MOST_CHOICES

    def _options(self, seconds: float | None) -> SolverOptions:
        left = self.clock.remaining
        limit = seconds if left is None else left if seconds is None else min(seconds, left)
        return replace(self.options, time_limit=limit)

    # starts

    def lists(self) -> None:
        """Every rule of the list scheduler."""
        for rule in RULES:
            for eviction in EVICTIONS:
                self.held.offer(list_schedule(self.problem, rule=rule, eviction=eviction, tables=self.tables))
                if self.held.best is not None and self.clock.expired:
                    return
        if self.held.objective is not Objective.LATENCY:
            self._on_few_cores()

    def _on_few_cores(self) -> None:
        """Each core alone where it may be, and each node where it takes least energy."""
        nodes, cores = self.problem.nodes, self.tables.cores
        plans = [[min((nodes[k].energy_pj[cores[core]], core) for core in allowed)[1] for k, allowed in enumerate(self.tables.allowed)]]
        plans += [[core if core in allowed else allowed[0] for allowed in self.tables.allowed] for core in range(len(cores))]
        for plan in plans:
            for rule in ("list-memory", "bytes-freed"):
                self.held.offer(list_schedule(self.problem, rule=rule, cores=plan, tables=self.tables))

    def least_peak(self) -> None:
        """The order of least peak on one core, and the bound that it proves for every schedule without spills."""
        found = minimax(self.problem, most_states=MINIMAX_STATES, clock=self.clock.within(MINIMAX_SHARE))
        if self.problem.semantics.memory_scope == "total":
            self.held.prove(MINIMAX, found.bound_bytes)
        if found.order:
            for core in range(len(self.tables.cores)):
                cores = [core if core in allowed else allowed[0] for allowed in self.tables.allowed]
                self.held.offer(list_schedule(self.problem, cores=cores, priority=found.priority, tables=self.tables))

    # steps

    def rhythm(self) -> None:
        """Blocks in all layers at once, each layer a few behind the one before."""
        if has_rhythm(self.problem):
            timer = self.clock.within(RHYTHM_SHARE)
            for draft in rhythms(self.tables, partial(value_of, self.tables), clock=timer, rng=self.random):
                self.held.offer(draft)

    def perturb(self, share: float) -> None:
        """A share of the time for random changes of the best schedule."""
        left = self.clock.remaining
        self._perturb_for(2.0 if left is None else share * left)

    def _perturb_for(self, seconds: float) -> None:
        """Random changes of cores and priorities around the best schedule, decoded by the list scheduler; equal ones are accepted."""
        left = self.clock.remaining
        timer = Clock(seconds if left is None else min(seconds, left))
        state = self._genes()
        value: tuple[int, ...] | None = self.held.key
        fruitless, most = 0, 100 + TRIES_PER_NODE * self.num_nodes
        while state is not None and not timer.expired and fruitless < most:
            fruitless += 1
            cores, order = list(state[0]), list(state[1])
            self._mutate(cores, order)
            eviction = EVICTIONS[self.random.random() < 0.3]
            draft = list_schedule(self.problem, cores=cores, priority=order, eviction=eviction, tables=self.tables)
            if draft is None:
                continue
            key = (value_of(self.tables, draft),)
            if value is None or key[0] <= value[0]:
                if value is None or key[0] < value[0]:
                    fruitless = 0
                    self.held.offer(draft)
                    self.held.check()
                value, state = key, (cores, order)

    def _genes(self) -> tuple[list[int], list[float]] | None:
        best = self.held.best
        if best is None:
            return None
        return [self.tables.cores.index(core) for core in best.cores], [float(start) for start in best.starts]

    def _mutate(self, cores: list[int], order: list[float]) -> None:
        """Move up to three nodes to other cores, and shift up to four in the order."""
        span = max(order) - min(order) + 1
        for _ in range(self.random.randint(0, 3)):
            node = self.random.randrange(self.num_nodes)
            core = self.random.choice(self.tables.allowed[node])
            for other in self.problem.writers[self.problem.nodes[node].writes]:
                cores[other] = core
        for _ in range(self.random.randint(0, 4)):
            node = self.random.randrange(self.num_nodes)
            order[node] += self.random.gauss(0, span / 8)

    def polish(self) -> None:
        """Times anew for the best schedule."""
        if self.held.best is not None and self.num_nodes <= MOST_NODES_TIMED:
            self._retime(self.held.best, 0.1)

    def _retime(self, draft: Draft, share: float) -> Timed | None:
        if self.held.objective is Objective.ENERGY:
            return None
        left = self.clock.remaining
        seconds = 10.0 if left is None else max(0.5, share * left)
        for_peak = self.held.objective is Objective.MEMORY
        limit = 2 * draft.latency(self.problem) if for_peak else None
        timed = retime(
            self.tables,
            draft,
            options=self._options(seconds),
            latency_limit=limit,
            for_peak=for_peak,
            total_limit=self.held.total_limit,
        )
        self.held.offer(timed.draft)
        return timed

    def master(self) -> None:
        """The program without memory: its optimum bounds every schedule, and its schedule, timed with memory, is often one."""
        best = self.held.best
        if best is None:
            return
        program = ScheduleProgram(self.tables, ProgramOptions(best.latency(self.problem), with_memory=False))
        left = self.clock.remaining
        share = MASTER_SHARE if self.choices <= MOST_CHOICES_MASTER else MASTER_SHARE / 3
        options = self._options(None if left is None else share * left)
        if self.held.gap:
            options = replace(options, gap=self.held.gap / 2)
        outcome = solve_cpsat(program.model, options=options, hint=hint_of(program, best), on_solution=self._bound_listener(program.unit))
        if outcome.status is not Status.INFEASIBLE and outcome.bound is not None:
            self.held.prove(RELAXATION, outcome.bound * program.unit)
        if outcome.solution is not None:
            self._realise(read_draft(program, outcome))
        self._note(outcome.termination)

    def _bound_listener(self, unit: int) -> OnProgress:
        def listen(_: int | None, bound: int | None) -> None:
            if bound is not None:
                self.held.prove(RELAXATION, bound * unit)

        return listen

    def _note(self, termination: Termination) -> None:
        if termination is Termination.INTERRUPTED:
            self.held.interrupted = True

    def _realise(self, draft: Draft) -> None:
        """Make a schedule of one that may not fit: as it is, timed anew, or by the list scheduler on its cores and in its order."""
        if self.held.offer(draft) and self.held.value == self.held.bound:
            return
        timed = self._retime(draft, 0.25)
        if timed is not None and timed.draft is not None:
            return
        cores = [self.tables.cores.index(core) for core in draft.cores]
        for eviction in EVICTIONS:
            repaired = list_schedule(self.problem, cores=cores, priority=draft.starts, eviction=eviction, tables=self.tables)
            if self.held.offer(repaired) and repaired is not None:
                self._retime(repaired, 0.1)

    def complete(self) -> None:
        """The exact search."""

        def found(draft: Draft | None, bound: int | None) -> None:
            self.held.offer(draft)
            self.held.prove(_search_name(self.held.objective), bound)

        clock = self.clock.within(COMPLETE_SHARE)
        proof = search_complete(
            self.tables, self.held.best, options=self.options, clock=clock, on_found=found, total_limit=self.held.total_limit
        )
        self.held.interrupted |= proof.interrupted
        if proof.is_proven:
            self.held.proven = True
            self.held.prove(_search_name(self.held.objective), self.held.value)

    # windows

    def windows(self) -> None:
        """Free the nodes of a window, a layer or a core in turn, and solve again with everything else in its order."""
        fruitless, size = 0, WINDOW
        self.unanswered = 0
        small = self.num_nodes <= MOST_NODES_TIMED and self.choices <= MOST_CHOICES_WINDOW
        while self.held.best is not None and small and self.unanswered < 3:
            self.held.check()
            better = self._free(self.held.best, size)
            fruitless = 0 if better else fruitless + 1
            if fruitless % 12 == 11:
                size = min(self.num_nodes, size + 4)
            if self.clock.limit is None and fruitless >= FRUITLESS_WINDOWS:
                return
            if fruitless % 2:
                self.held.check()
                self._perturb_for(TURN_SECONDS)
        while self.held.best is not None and self.clock.limit is not None:
            self.held.check()
            self._perturb_for(TURN_SECONDS)
            self.polish()

    def _free(self, best: Draft, size: int) -> bool:
        free = self._window(best, size)
        latency = self.held.objective is Objective.LATENCY
        cores = [self.tables.cores.index(core) for core in best.cores]
        tied = {node for k in free for node in self.problem.writers[self.problem.nodes[k].writes]}
        allowed = tuple(row if node in tied else (cores[node],) for node, row in enumerate(self.tables.allowed))
        near = {tile for node in free for tile in (*self.tables.reads[node], self.problem.nodes[node].writes)}
        spilled = {move.tile for move in best.moves if OFFCHIP in move.targets}
        options = ProgramOptions(
            best.latency(self.problem) if latency else 2 * best.latency(self.problem),
            slots=_copies(self.tables, best),
            total_limit=self.held.total_limit,
            spills=self.spills,
            only=frozenset(near | spilled),
        )
        program = ScheduleProgram(replace(self.tables, allowed=allowed), options)
        _keep_order(program, best, free)
        outcome = solve_cpsat(program.model, options=self._options(WINDOW_SECONDS), hint=hint_of(program, best))
        self._note(outcome.termination)
        self.unanswered = self.unanswered + 1 if outcome.solution is None else 0
        return outcome.solution is not None and self.held.offer(read_draft(program, outcome))

    def _window(self, best: Draft, size: int) -> set[int]:
        nodes = sorted(range(self.num_nodes), key=lambda node: best.starts[node])
        kind = self.random.random()
        if kind < 0.6:
            first = self.random.randrange(max(1, self.num_nodes - size + 1))
            return set(nodes[first : first + size])
        if kind < 0.8:
            layer = self.random.choice(self.problem.nodes).layer
            chosen = [node for node in nodes if self.problem.nodes[node].layer == layer]
            return set(self.random.sample(chosen, min(size, len(chosen))))
        return set(self.random.sample(nodes, min(size, self.num_nodes)))


def _search_name(objective: Objective) -> str:
    return {Objective.LATENCY: SEARCH, Objective.MEMORY: f"{SEARCH}_bytes", Objective.ENERGY: f"{SEARCH}_scaled"}[objective]


def _choices(tables: Tables) -> int:
    """Return about how many (tile, way) pairs a program has."""
    ways = sum(len(found) for found in tables.routes.values())
    return ways * sum(tables.problem.takes_memory(tile) for tile in tables.problem.tiles)


def _copies(tables: Tables, draft: Draft) -> int:
    """Return the most arrivals of one tile in one memory."""
    count: dict[tuple[int, int], int] = {}
    for move in draft.moves:
        for target in move.targets:
            if target != OFFCHIP:
                place = (move.tile, tables.home(move.tile, target))
                count[place] = count.get(place, 0) + 1
    return max([1, *count.values()])


def _keep_order(program: ScheduleProgram, best: Draft, free: set[int]) -> None:
    """Keep the order of the nodes that are not free on each core."""
    order: dict[str, list[int]] = {}
    for node in sorted(set(range(len(best.cores))) - free, key=lambda node: best.starts[node]):
        order.setdefault(best.cores[node], []).append(node)
    for nodes in order.values():
        _in_sequence(program, nodes)


def _in_sequence(program: ScheduleProgram, nodes: Sequence[int]) -> None:
    for before, after in pairwise(nodes):
        program.model.add(program.s[after] >= program.e[before])
