"""Least traffic for one order: which gaps between uses a tensor spends in DRAM, with addresses by lazy packing cuts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from cosma_sched.backends import Outcome, SolverOptions, solve_linear
from cosma_sched.backends.linear import Program
from cosma_sched.memory.layout import Layout, Stay, place
from cosma_sched.memory.packing import Packing
from cosma_sched.memory.problem import Network, Order, Scratchpad
from cosma_sched.progress import Clock
from cosma_sched.result import Status, Termination

Gap = tuple[int, int, int]
"""(tensor, step p, step q): the tensor is used at p and q, not between, and q - p >= 2."""
Move = tuple[int, int]
"""(tensor, step t): a tensor with a valid copy is read again from DRAM for its use at t, right after its use at t - 1."""
Cut = tuple[tuple[Gap, ...], tuple[Move, ...]]
"""At least one of these gaps is dropped or one of these moves made."""

SHARE_OF_TIME_TO_PACK = 0.5
SHARE_OF_TIME_TO_PLACE_LOOSELY = 0.2
SHARES_TO_LEAVE_FREE = (0.02, 0.05, 0.1, 0.2, 0.4)


@dataclass(frozen=True, slots=True)
class OrderAnswer:
    """What is known about one order.

    Parameters
    ----------
    status
        ``optimal``: `layout` has traffic `bound_bytes`. ``feasible``: a layout, the bound is lower. ``infeasible``: no placement
        exists for this order. ``unknown``: no layout found.
    termination
        Why the work stopped.
    bound_bytes
        No plan with this order has less traffic.
    layout
        Stays and offsets, or None.
    clash
        Where infeasible, stays that cannot be placed together and none of which can be interrupted.
    """

    status: Status
    termination: Termination
    bound_bytes: int
    layout: Layout | None = None
    traffic_bytes: int | None = None
    clash: tuple[Stay, ...] = ()


@dataclass(frozen=True)
class GapModel:
    """The decisions for one order in one scratchpad.

    For tensor a of size z_a let its uses be the step that creates it (or first reads it) and the later steps that read it. live(t) is the
    bytes that all tensors between first and last use occupy, M the usable bytes; step t is hot if live(t) > M. (With an alignment a tensor
    occupies s_a >= z_a bytes; s_a stands in the rows, z_a in the objective.)

    Variables
        drop[a,p,q]  binary  a is absent during the gap between its uses p and q
        spill[a]     binary  activation a is written to DRAM once (inputs are there, outputs are stored anyway)
        move[a,t]    binary  a changes its address between its uses t - 1 and t (only where a cut asks for it)
    Minimise
        sum_a z_a spill[a] + sum z_a drop[a,p,q] + sum z_a move[a,t]
    Subject to
        saved     drop[a,p,q] <= spill[a]                                      activation a
        copied    move[a,t] <= sum of drop[a,p,q] with q < t                   activation a; with relocation: move[a,t] <= spill[a]
        capacity  sum over gaps with p < t < q of s_a drop[a,p,q] >= live(t) - M    hot step t
        cut       sum of the drops and moves that break a clash >= 1           clash found by packing

    Exact for capacity: an absence inside a gap may be extended to the whole gap; it costs the same, frees more, and keeps every stay a part
    of the old one, so addresses survive. Gaps that cross no hot step are dropped only to break a clash. Of equal rows the one with the
    largest right side is kept. Source: COSMA's equations 1-8, 16 and 17 (arXiv 2311.18246); the reduction to gaps is ours.
    """

    network: Network
    order: Order
    scratchpad: Scratchpad
    slack_bytes: int = 0
    """Bytes to leave free at steps whose own operands allow it: no longer exact, but the stays are easier to place."""
    uses: list[list[int]] = field(init=False)
    demand: list[tuple[tuple[Gap, ...], int]] = field(init=False)
    """Rows of the family capacity: gaps that cross a hot step, bytes that have to go."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "uses", self.network.uses(self.order))
        object.__setattr__(self, "demand", self._demand())

    def gaps(self, tensor: int) -> list[Gap]:
        """Return the gaps of a tensor, first to last."""
        steps = self.uses[tensor]
        return [(tensor, p, q) for p, q in pairwise(steps) if q - p >= 2]

    def _demand(self) -> list[tuple[tuple[Gap, ...], int]]:
        network, usable = self.network, self.scratchpad.usable_bytes
        live = network.live_bytes(self.order)
        capacity = [max(usable - self.slack_bytes, network.operand_bytes(v)) for v in self.order]
        crossing: dict[int, list[Gap]] = {t: [] for t, total in enumerate(live) if total > capacity[t]}
        for a in range(len(self.network.tensors)):
            for gap in self.gaps(a):
                for t in range(gap[1] + 1, gap[2]):
                    if t in crossing:
                        crossing[t].append(gap)
        rows: dict[tuple[Gap, ...], int] = {}
        for t, gaps in crossing.items():
            key = tuple(gaps)
            rows[key] = max(rows.get(key, 0), live[t] - capacity[t])
        return list(rows.items())

    @property
    def is_hot(self) -> bool:
        """True if some step has more live bytes than fit, so that something has to leave."""
        return bool(self.demand)

    def stays(self, dropped: frozenset[Gap], moved: frozenset[Move]) -> tuple[Stay, ...]:
        """Return the stays that remain when these gaps are spent in DRAM and these moves are made."""
        result = []
        for a, steps in enumerate(self.uses):
            start = steps[0]
            for p, q in pairwise(steps):
                if (a, p, q) in dropped or (a, q) in moved:
                    result.append(Stay(a, start, p + 1))
                    start = q
            result.append(Stay(a, start, steps[-1] + 1))
        return tuple(result)

    def ways_out(self, stay: Stay) -> Cut:
        """Return the gaps and the moves that interrupt a stay; a pinned tensor has no other address to move to."""
        gaps = tuple(gap for gap in self.gaps(stay.tensor) if stay.start <= gap[1] and gap[2] < stay.end)
        steps = [t for t in self.uses[stay.tensor] if stay.start <= t < stay.end]
        if self.network.tensors[stay.tensor].name in dict(self.scratchpad.pins):
            return gaps, ()
        free = bool(self.network.backed >> stay.tensor & 1) or self.scratchpad.allow_relocation
        adjacent = [t for before, t in pairwise(steps) if t == before + 1]
        moves = tuple((stay.tensor, t) for t in adjacent if free or self.enabling(stay.tensor, t))
        return gaps, moves

    def enabling(self, tensor: int, t: int) -> list[Gap]:
        """Return the gaps of a tensor that, when dropped, leave a valid copy for a move at step t."""
        return [gap for gap in self.gaps(tensor) if gap[2] < t]

    def program(self, cuts: Sequence[Cut]) -> Program:
        """Return the program with the cuts found so far."""
        program = Program("least traffic for an order")
        wanted = {gap for gaps, _ in self.demand for gap in gaps} | {gap for gaps, _ in cuts for gap in gaps}
        moves = sorted({move for _, moves in cuts for move in moves})
        unbacked_moves = [move for move in moves if not self.network.backed >> move[0] & 1]
        wanted |= {gap for a, t in unbacked_moves for gap in self.enabling(a, t)}
        drop = {gap: program.binary(("drop", *gap)) for gap in sorted(wanted)}
        move = {key: program.binary(("move", *key)) for key in moves}
        spilled = sorted({key[0] for key in (*wanted, *unbacked_moves) if not self.network.backed >> key[0] & 1})
        spill = {a: program.binary(("spill", a)) for a in spilled}
        size = self.network.size
        program.minimise(
            [(variable, size[key[0]]) for key, variable in (*drop.items(), *move.items())]
            + [(variable, size[a]) for a, variable in spill.items()]
        )
        for gap, variable in drop.items():
            if gap[0] in spill:
                program.at_most([(variable, 1), (spill[gap[0]], -1)], 0, "saved")
        for a, t in unbacked_moves:
            copies = [spill[a]] if self.scratchpad.allow_relocation else [drop[gap] for gap in self.enabling(a, t)]
            program.at_most([(move[a, t], 1), *((copy, -1) for copy in copies)], 0, "copied")
        for gaps, excess in self.demand:
            program.at_least([(drop[gap], self.network.space[gap[0]]) for gap in gaps], excess, "capacity")
        for gaps, moves_of_cut in cuts:
            program.at_least([*((drop[gap], 1) for gap in gaps), *((move[key], 1) for key in moves_of_cut)], 1, "cut")
        return program


@dataclass(frozen=True, slots=True)
class Decision:
    """A solution of the gap model: gaps spent in DRAM, moves, their traffic, and the bound the solver proved."""

    dropped: frozenset[Gap]
    moved: frozenset[Move]
    traffic_bytes: int
    bound_bytes: int


def least_traffic(
    network: Network,
    order: Order,
    scratchpad: Scratchpad,
    *,
    options: SolverOptions,
    clock: Clock,
    cutoff_bytes: int | None = None,
) -> OrderAnswer:
    """Return the plan with least traffic for one order, addresses included.

    Parameters
    ----------
    network, order, scratchpad
        What to plan; every operator's own tensors fit.
    options
        The back end of the gap model.
    clock
        Ends the work; what is proven until then stays.
    cutoff_bytes
        Stop as soon as the bound reaches this value: the order is then of no interest to the caller.
    """
    model = GapModel(network, order, scratchpad)
    return _Cutting(model, options, clock, cutoff_bytes).run()


def capacity_traffic(
    network: Network, order: Order, scratchpad: Scratchpad, *, options: SolverOptions, clock: Clock
) -> tuple[int | None, int]:
    """Return (least traffic, proven bound) for one order when addresses are left out; traffic None if the solver found nothing."""
    decision = _decide(GapModel(network, order, scratchpad), (), options, clock)
    return (None, 0) if not isinstance(decision, Decision) else (decision.traffic_bytes, decision.bound_bytes)


def _decide(model: GapModel, cuts: Sequence[Cut], options: SolverOptions, clock: Clock) -> Decision | Outcome:
    """Solve the gap model; an `Outcome` comes back where the solver holds no solution."""
    if not model.is_hot and not cuts:
        return Decision(frozenset(), frozenset(), 0, 0)
    outcome = solve_linear(model.program(cuts), options=replace(options, time_limit=clock.remaining))
    if outcome.values is None or outcome.objective is None:
        return outcome
    chosen = {meaning for meaning, value in outcome.values.items() if value}
    every_gap = (gap for a in range(len(model.network.tensors)) for gap in model.gaps(a))
    dropped = frozenset(gap for gap in every_gap if ("drop", *gap) in chosen)
    moved = frozenset(move for _, moves in cuts for move in moves if ("move", *move) in chosen)
    return Decision(dropped, moved, outcome.objective, outcome.bound or 0)


class _Cutting:
    """Alternate between the gap model and packing until a decision can be placed or none can."""

    def __init__(self, model: GapModel, options: SolverOptions, clock: Clock, cutoff_bytes: int | None) -> None:
        self.model, self.options, self.clock, self.cutoff = model, options, clock, cutoff_bytes
        self.cuts: list[Cut] = []
        self.bound = 0
        self.clash: tuple[Stay, ...] = ()

    def run(self) -> OrderAnswer:
        while True:
            decision = _decide(self.model, self.cuts, self.options, self.clock)
            if not isinstance(decision, Decision):
                return self._without_decision(decision)
            self.bound = max(self.bound, decision.bound_bytes)
            if self.cutoff is not None and self.bound >= self.cutoff:
                return OrderAnswer(Status.UNKNOWN, Termination.EXHAUSTED, self.bound)
            stays = self.model.stays(decision.dropped, decision.moved)
            packing = self._pack(stays)
            if packing.offsets is not None:
                return self._placed(stays, packing.offsets, decision.traffic_bytes)
            if packing.status != Status.INFEASIBLE:
                return self._fallback(packing.termination)
            self.clash = tuple(stays[i] for i in packing.clash)
            cut = self._cut(self.clash)
            if not any(cut):
                return OrderAnswer(Status.INFEASIBLE, Termination.PROVED, self.bound, clash=self.clash)
            self.cuts.append(cut)

    def _pack(self, stays: Sequence[Stay]) -> Packing:
        limit = self.clock.within(SHARE_OF_TIME_TO_PACK)
        return place(self.model.network, stays, self.model.scratchpad, clock=limit, seed=self.options.seed)

    def _placed(self, stays: tuple[Stay, ...], offsets: tuple[int, ...], traffic: int) -> OrderAnswer:
        layout = Layout(self.model.order, stays, offsets)
        proven = traffic == self.bound
        status = Status.OPTIMAL if proven else Status.FEASIBLE
        return OrderAnswer(status, Termination.PROVED if proven else Termination.TIME_LIMIT, self.bound, layout, traffic)

    def _cut(self, clash: Sequence[Stay]) -> Cut:
        parts = [self.model.ways_out(stay) for stay in clash]
        return tuple(gap for gaps, _ in parts for gap in gaps), tuple(move for _, moves in parts for move in moves)

    def _without_decision(self, outcome: Outcome) -> OrderAnswer:
        if outcome.status == Status.INFEASIBLE:
            return OrderAnswer(Status.INFEASIBLE, Termination.PROVED, self.bound, clash=self.clash)
        return self._fallback(outcome.termination)

    def _fallback(self, termination: Termination) -> OrderAnswer:
        """Answer with more traffic but stays that are easier to place: leave ever more bytes free, at last drop every gap."""
        model = self.model
        usable = model.scratchpad.usable_bytes
        for share in SHARES_TO_LEAVE_FREE:
            if self.clock.expired or termination == Termination.INTERRUPTED:
                break
            roomy = replace(model, slack_bytes=int(usable * share))
            decision = _decide(roomy, (), self.options, self.clock.within(SHARE_OF_TIME_TO_PACK))
            if isinstance(decision, Decision) and (answer := self._loosely(roomy.stays(decision.dropped, decision.moved), termination)):
                return answer
        every_gap = frozenset(gap for a in range(len(model.network.tensors)) for gap in model.gaps(a))
        answer = self._loosely(model.stays(every_gap, frozenset()), termination)
        return answer or OrderAnswer(Status.UNKNOWN, termination, self.bound)

    def _loosely(self, stays: tuple[Stay, ...], termination: Termination) -> OrderAnswer | None:
        """Return the stays as a plan that is not claimed to be the best, if they can be placed in a short time."""
        clock = self.clock.within(SHARE_OF_TIME_TO_PLACE_LOOSELY)
        packing = place(self.model.network, stays, self.model.scratchpad, clock=clock, seed=self.options.seed, explain=False)
        if packing.offsets is None:
            return None
        layout = Layout(self.model.order, stays, packing.offsets)
        return OrderAnswer(Status.FEASIBLE, termination, self.bound, layout, layout.traffic_bytes(self.model.network))
