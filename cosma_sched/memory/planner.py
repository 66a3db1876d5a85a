"""The flow of a solve: a heuristic plan, the cheap bounds, the exact methods in turn, until value and bound meet or the time is over."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from cosma_sched.backends import SolverOptions
from cosma_sched.errors import Lever, Reason
from cosma_sched.memory import joint
from cosma_sched.memory.bounds import PeakBounds, forced_live_bytes, peak_bounds
from cosma_sched.memory.covering import covering_bound
from cosma_sched.memory.divide import divide
from cosma_sched.memory.heuristic import quick_layout
from cosma_sched.memory.joint_intervals import search_by_intervals
from cosma_sched.memory.layout import Layout, Stay
from cosma_sched.memory.problem import Network, Order, OrderChoice, Problem, Scratchpad, require_operators_fit
from cosma_sched.memory.replacement import OrderAnswer, least_traffic
from cosma_sched.progress import Clock, Progress
from cosma_sched.result import Bound, Status, Termination, relative_gap

ORDERS_TO_ENUMERATE = 500
BEAM_WIDTH = 20
SECONDS_FOR_LEAST_CAPACITY = 5.0
SECONDS_FOR_A_QUICK_PLAN = 1.5
LABELS_BEFORE_DIVIDING = 100_000
LABELS_WITH_A_PART_FIXED = 50_000
SEEDS_FOR_ADDRESSES = 8
NETWORK_SIZE_FOR_INTERVALS = 400

BY_ZERO = "zero"
BY_COVERING = "covering"
BY_GAP_MODEL = "gap-model"
BY_SEARCH = "search"
BY_PARTS = "parts"
BY_INTERVALS = "intervals"
BY_ENUMERATION = "enumeration"


@dataclass(frozen=True, slots=True)
class PlannerOptions:
    """How to plan: the back end, the relative gap at which to stop, and whether to divide the network before it is searched whole."""

    solver: SolverOptions = field(default_factory=SolverOptions)
    gap: float = 0.0
    divide: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """The planner's answer before it is written out and checked.

    Parameters
    ----------
    status, termination
        What is held and why the work stopped.
    layout, traffic_bytes
        The plan, or None.
    bound
        Proven lower bound on the traffic of every plan that the problem allows.
    peaks
        The budgets of the network.
    reasons
        Why there is no plan.
    """

    status: Status
    termination: Termination
    layout: Layout | None
    traffic_bytes: int | None
    bound: Bound
    peaks: PeakBounds
    reasons: tuple[Reason, ...] = ()


class _Enough(Exception):  # noqa: N818 - a signal between the phases, not an error
    """Value and bound are as close as asked, or a limit or the user ended the work."""


def plan(problem: Problem, *, options: PlannerOptions, progress: Progress) -> Answer:
    """Plan a network's memory: order, addresses, spills and retrieves, with a proven bound on the traffic.

    Raises
    ------
    InfeasibleError
        If an operator's own tensors do not fit into the scratchpad.
    """
    require_operators_fit(problem)
    return _Planner(problem, options, progress).run()


class _Planner:
    """The best plan and the best bound so far, and the phases that improve them."""

    def __init__(self, problem: Problem, options: PlannerOptions, progress: Progress) -> None:
        self.problem, self.options, self.progress = problem, options, progress
        self.network: Network = problem.network
        self.scratchpad: Scratchpad = problem.scratchpad
        self.capacity = problem.scratchpad.usable_bytes
        self.clock: Clock = progress.clock
        self.layout: Layout | None = None
        self.traffic: int | None = None
        self.bound = Bound(0, (BY_ZERO,))
        self.termination: Termination | None = None
        self.infeasible_orders: dict[Order, tuple[Stay, ...]] = {}
        self.reasons: tuple[Reason, ...] = ()

    def run(self) -> Answer:
        self.progress.report("peak")
        self.peaks = peak_bounds(self.network, reserve_bytes=self.scratchpad.bottom_bytes, clock=self.clock.within(0.25))
        try:
            if self.peaks.interrupted:
                self._quick(self.network.given_order)
                self._stop(Termination.INTERRUPTED)
            self._phases()
            self.termination = self.termination or Termination.EXHAUSTED
        except _Enough:
            pass
        except KeyboardInterrupt:
            self.termination = Termination.INTERRUPTED
        return self._answer()

    def _phases(self) -> None:
        if self.problem.order == OrderChoice.FREE:
            self._free_order()
        else:
            given = self.problem.order == OrderChoice.GIVEN
            self._one_order(self.network.given_order if given else self.peaks.min_peak_order)

    # one order

    def _one_order(self, order: Order) -> None:
        self._quick(order)
        self.progress.report("order", incumbent=self.traffic, bound=self.bound.value)
        answer = least_traffic(self.network, order, self.scratchpad, options=self.options.solver, clock=self.clock)
        self._take_bound(answer.bound_bytes, BY_GAP_MODEL)
        self._take(answer)
        if answer.status == Status.INFEASIBLE:
            self.reasons = (self._placement_reason(answer.clash, [order]),)
            self._stop(Termination.PROVED)
        self.termination = answer.termination

    def _quick(self, order: Order) -> None:
        share = self.clock.within(0.03)
        clock = Clock(SECONDS_FOR_A_QUICK_PLAN if share.limit is None else min(SECONDS_FOR_A_QUICK_PLAN, share.limit))
        layout = quick_layout(self.network, order, self.scratchpad, clock=clock, seed=self.options.solver.seed)
        if layout is not None:
            self._take_layout(layout, layout.traffic_bytes(self.network))

    # every order

    def _free_order(self) -> None:
        candidates = list(dict.fromkeys((self.network.given_order, self.peaks.min_peak_order)))
        for order in candidates:
            self._quick(order)
        self._covering()
        for order in candidates:
            self._improve(order, self.clock.within(0.1))
        few = self.network.count_orders(ORDERS_TO_ENUMERATE) < ORDERS_TO_ENUMERATE
        self._search()
        if few and not self.clock.expired:
            self._enumerate()
        if not self.layout:
            self._other_orders()

    def _covering(self) -> None:
        forced = max(forced_live_bytes(self.network, v) for v in range(self.network.num_operators))
        if forced <= self.capacity:
            return
        self.progress.report("covering", incumbent=self.traffic, bound=self.bound.value)
        value = covering_bound(self.network, self.capacity, options=self.options.solver, clock=self.clock.within(0.1))
        self._take_bound(value, BY_COVERING)

    def _improve(self, order: Order, clock: Clock) -> OrderAnswer:
        """Plan one order; what is proven about it alone does not bound the others."""
        self.progress.report("order", incumbent=self.traffic, bound=self.bound.value)
        answer = least_traffic(self.network, order, self.scratchpad, options=self.options.solver, clock=clock, cutoff_bytes=self.traffic)
        self._take(answer)
        return answer

    def _search(self) -> None:
        """Prove the least traffic by capacity over all orders and plan the orders that reach it.

        A short search settles most networks. For the others a beam gives a good plan, and the parts of the network guide a long search.
        """
        if not self.options.divide:
            found = self._search_once(0, (), most_labels=LABELS_BEFORE_DIVIDING, share=0.3)
            if found.termination == Termination.PROVED:
                return self._place_optimum(found, ())
        order = joint.beam(self.network, self.capacity, BEAM_WIDTH, clock=self.clock.within(0.3))
        if order is not None:
            self._improve(order, self.clock.within(0.2))
        floors = self._divide()
        return self._place_optimum(self._search_once(0, floors), floors)

    def _divide(self) -> tuple[joint.Floor, ...]:
        """Return what parts of the network must cost; together they are a bound.

        The costliest part's own optimal order, kept fixed, leaves a small search that often finds a better plan.
        """
        self.progress.report("divide", incumbent=self.traffic, bound=self.bound.value)
        division = divide(self.network, self.capacity, clock=self.clock.within(0.4), progress=self.progress)
        self._take_bound(division.bound(), BY_PARTS)
        if division.interrupted:
            self._stop(Termination.INTERRUPTED)
        floors = tuple(division.floors())
        for sequence in division.sequences():
            if self.clock.expired:
                break
            network = self.network.chained(sequence)
            found = self._search_in(network, 0, floors, LABELS_WITH_A_PART_FIXED, self.clock.within(0.1))
            if found.termination == Termination.INTERRUPTED:
                self._stop(Termination.INTERRUPTED)
            if found.order is not None:
                self._improve(found.order, self.clock.within(0.3))
        return floors

    def _place_optimum(self, found: joint.Found, floors: tuple[joint.Floor, ...]) -> None:
        """Plan the order that the search found with addresses; break ties otherwise while its optimum cannot be placed."""
        for seed in range(1, SEEDS_FOR_ADDRESSES):
            if found.termination != Termination.PROVED:
                self._intervals()
                self.termination = found.termination
                return
            if found.order is None:
                return
            self._improve(found.order, self.clock.within(0.5))
            found = self._search_once(seed, floors)

    def _search_once(
        self, seed: int, floors: tuple[joint.Floor, ...], most_labels: int = joint.LABEL_LIMIT, share: float = 0.8
    ) -> joint.Found:
        found = self._search_in(self.network, seed, floors, most_labels, self.clock.within(share))
        self._take_bound(found.bound_bytes, BY_SEARCH)
        if found.termination == Termination.INTERRUPTED:
            self._stop(Termination.INTERRUPTED)
        return found

    def _search_in(self, network: Network, seed: int, floors: tuple[joint.Floor, ...], most_labels: int, clock: Clock) -> joint.Found:
        return joint.search(
            network,
            self.capacity,
            cutoff_bytes=self.traffic,
            progress=Progress(clock, self.progress.observers),
            seed=seed,
            floors=floors,
            most_labels=most_labels,
        )

    def _intervals(self) -> None:
        """Let CP-SAT look for a better order, and for a better bound, where the search had to stop."""
        if self.network.num_operators > NETWORK_SIZE_FOR_INTERVALS or self.clock.expired:
            return
        self.progress.report("intervals", incumbent=self.traffic, bound=self.bound.value)
        found = search_by_intervals(
            self.network, self.capacity, options=self.options.solver, clock=self.clock.within(0.8), cutoff_bytes=self.traffic
        )
        self._take_bound(found.bound_bytes, BY_INTERVALS)
        if found.order is not None:
            self._improve(found.order, self.clock)
        if found.termination == Termination.INTERRUPTED:
            self._stop(Termination.INTERRUPTED)

    def _enumerate(self) -> None:
        """Settle a small network for good: plan each of its orders with addresses."""
        least: int | None = None
        for order in self.network.orders():
            answer = least_traffic(
                self.network, order, self.scratchpad, options=self.options.solver, clock=self.clock, cutoff_bytes=self.traffic
            )
            self._take(answer)
            if answer.status == Status.INFEASIBLE:
                self.infeasible_orders[order] = answer.clash
            elif answer.status == Status.UNKNOWN and (self.traffic is None or answer.bound_bytes < self.traffic):
                return  # the time is over: no statement about all orders
            else:
                value = answer.bound_bytes
                least = value if least is None else min(least, value)
        if least is not None and self.traffic is not None:
            self._take_bound(min(least, self.traffic), BY_ENUMERATION)
        elif self.traffic is None:
            order, clash = next(iter(self.infeasible_orders.items()))
            self.reasons = (self._placement_reason(clash, [order, *list(self.infeasible_orders)[1:8]]),)
            self._stop(Termination.PROVED)

    def _other_orders(self) -> None:
        """Look for any order whose stays can be placed; nothing better is known for networks with many orders."""
        for seed in range(1, SEEDS_FOR_ADDRESSES):
            if self.clock.expired:
                break
            order = joint.search(self.network, self.capacity, cutoff_bytes=None, progress=Progress(self.clock.within(0.2)), seed=seed).order
            if order is not None:
                self._quick(order)
        if self.layout is None:
            answer = least_traffic(
                self.network, self.network.given_order, self.scratchpad, options=self.options.solver, clock=self.clock.within(0.5)
            )
            if answer.clash:
                self.reasons = (self._placement_reason(answer.clash, [self.network.given_order]),)

    # what is held

    def _take(self, answer: OrderAnswer) -> None:
        if answer.layout is not None and answer.traffic_bytes is not None:
            self._take_layout(answer.layout, answer.traffic_bytes)
        if answer.termination == Termination.INTERRUPTED:
            self._stop(Termination.INTERRUPTED)

    def _take_layout(self, layout: Layout, traffic: int) -> None:
        if self.traffic is None or traffic < self.traffic:
            self.layout, self.traffic = layout, traffic
            self.progress.report("incumbent", incumbent=self.traffic, bound=self.bound.value)
        self._check_gap()

    def _take_bound(self, value: int, proved_by: str) -> None:
        if value > (self.bound.value or 0):
            self.bound = Bound(value, (proved_by,))
        self._check_gap()

    def _check_gap(self) -> None:
        gap = relative_gap(self.traffic, self.bound.value)
        if gap is not None and gap <= 0:
            self._stop(Termination.PROVED)
        if gap is not None and gap <= self.options.gap:
            self._stop(Termination.GAP_REACHED)

    def _stop(self, why: Termination) -> None:
        self.termination = why
        raise _Enough

    def _answer(self) -> Answer:
        termination = self.termination or Termination.EXHAUSTED
        if self.traffic is not None:
            proven = self.traffic == self.bound.value
            status = Status.OPTIMAL if proven else Status.FEASIBLE
            termination = Termination.PROVED if proven else termination
            if termination == Termination.EXHAUSTED and self.clock.expired:
                termination = Termination.TIME_LIMIT
            return Answer(status, termination, self.layout, self.traffic, self.bound, self.peaks)
        status = Status.INFEASIBLE if self.reasons and termination == Termination.PROVED else Status.UNKNOWN
        if termination == Termination.EXHAUSTED and self.clock.expired:
            termination = Termination.TIME_LIMIT
        bound = Bound(None) if status == Status.INFEASIBLE else self.bound
        return Answer(status, termination, None, None, bound, self.peaks, self.reasons)

    # why there is no plan

    def _placement_reason(self, clash: tuple[Stay, ...], orders: list[Order]) -> Reason:
        """Say which stays cannot be placed together, and the least scratchpad found with which a plan exists."""
        network = self.network
        terms = tuple((f'"{network.tensors[s.tensor].name}" steps {s.start} to {s.end - 1}', network.space[s.tensor]) for s in clash)
        first, last = max(stay.start for stay in clash), min(stay.end for stay in clash) - 1
        where = f"steps {min(stay.start for stay in clash)} to {max(stay.end for stay in clash) - 1}" if first > last else f"step {first}"
        least = self._least_capacity(orders)
        levers = () if least is None else (Lever("--scratchpad", least, "the least size found with a plan"),)
        is_one = len(clash) == 1
        who = "1 tensor cannot be placed where it is pinned" if is_one else f"{len(clash)} tensors cannot be placed together"
        return Reason(
            rule="placement",
            where=where,
            statement=(
                f"{who} in {self.scratchpad.capacity_bytes} bytes, and {'it cannot' if is_one else 'none of them can'} leave the scratchpad"
            ),
            demand=least,
            limit=self.scratchpad.capacity_bytes,
            short=None if least is None else least - self.scratchpad.capacity_bytes,
            terms=terms,
            levers=levers,
        )

    def _least_capacity(self, orders: list[Order]) -> int | None:
        """Return the least capacity found at which one of the orders has a plan, by bisection over multiples of the sizes' divisor."""
        clock = Clock(SECONDS_FOR_LEAST_CAPACITY if self.clock.remaining is None else min(SECONDS_FOR_LEAST_CAPACITY, self.clock.remaining))
        unit = math.gcd(*self.network.space)
        highest_pin = max((offset for _, offset in self.scratchpad.pins), default=0)
        low = self.capacity // unit
        found = self._height_within(
            orders, sum(self.network.space) + highest_pin, clock
        )  # enough for every tensor at an address of its own
        while found is not None and low + 1 < found // unit and not clock.expired:
            middle = (low + found // unit) // 2
            height = self._height_within(orders, middle * unit, clock)
            if height is None:
                low = middle
            else:
                found = height
        return None if found is None else found + self.scratchpad.bottom_bytes

    def _height_within(self, orders: list[Order], usable_bytes: int, clock: Clock) -> int | None:
        """Return the bytes that a plan of one of the orders uses, in whole units, if one is found within a usable size."""
        scratchpad = replace(self.scratchpad, capacity_bytes=usable_bytes + self.scratchpad.bottom_bytes)
        unit = math.gcd(*self.network.space)
        for order in orders:
            layout = quick_layout(self.network, order, scratchpad, clock=clock.within(0.1), seed=self.options.solver.seed)
            if layout is None:
                layout = least_traffic(self.network, order, scratchpad, options=self.options.solver, clock=clock.within(0.3)).layout
            if layout is not None:
                ends = (offset + self.network.space[stay.tensor] for stay, offset in zip(layout.stays, layout.offsets, strict=True))
                return -(-(max(ends) - self.scratchpad.bottom_bytes) // unit) * unit
        return None
