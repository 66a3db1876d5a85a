"""The checker: everything a memory plan claims, recomputed from the graph and the plan alone.

It shares no code with the planner and imports no solver. The rules carry the names and the order of ``docs/memory-planning.md``.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

from cosma_sched.errors import Defect, InputError, shown
from cosma_sched.graph import Graph, Tensor, TensorKind
from cosma_sched.memory.plan import MemoryPlan, Residency, Transfer, TransferKind
from cosma_sched.result import Provenance, Status, Termination, relative_gap

if TYPE_CHECKING:
    from cosma_sched.memory.bounds import MemoryBounds
    from cosma_sched.memory.curve_answer import MemoryCurve


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken rule.

    Parameters
    ----------
    rule
        Name of the rule.
    message
        What is wrong, with the values.
    tensor
        The tensor concerned, or None.
    step
        The step concerned, or None.
    """

    rule: str
    message: str
    tensor: str | None = None
    step: int | None = None

    def __str__(self) -> str:
        place = [f'tensor "{self.tensor}"'] if self.tensor is not None else []
        place += [f"step {self.step}"] if self.step is not None else []
        return f"{self.rule}: {', '.join(place)}{': ' if place else ''}{self.message}"


def verify(graph: Graph, plan: MemoryPlan) -> list[Violation]:
    """Return every rule that the plan breaks on this graph; an empty list means that the plan holds.

    Parameters
    ----------
    graph
        The graph the plan was made for.
    plan
        The plan; one without an answer (infeasible, unknown) is checked only for what it claims.

    Notes
    -----
    Cost: O(k log k + k w) for k stays of which at most w are resident at once.
    """
    if plan.order is None or plan.residency is None or plan.transfers is None:
        return [*_without_answer(graph, plan)]
    broken_order = [*_order(graph, plan)]
    if broken_order:
        return broken_order  # steps mean nothing without an order
    facts = _Facts(graph, plan)
    broken_entries = [*_entry(facts)]
    if any(violation.tensor not in graph.tensors for violation in broken_entries):
        return broken_entries
    return [*broken_entries, *(violation for rule in _RULES for violation in rule(facts))]


def verify_bounds(graph: Graph, bounds: MemoryBounds) -> list[Violation]:
    """Return every figure of the budgets that the graph contradicts; that no order has a lower peak than the bound is not re-proven."""
    given = [operator.name for operator in graph.operators]
    if sorted(bounds.order) != sorted(given):
        return [Violation("order", "is not a permutation of the operators")]
    step = {name: t for t, name in enumerate(bounds.order)}
    violations = []
    for operator in graph.operators:
        for tensor in dict.fromkeys(operator.inputs):
            producer = graph.producer(tensor)
            if producer and step[producer.name] >= step[operator.name]:
                message = f'operator "{operator.name}" reads it before "{producer.name}" has run'
                violations.append(Violation("order", message, tensor, step[operator.name]))
    if violations:
        return violations
    rules = _Rules.of(bounds.provenance)
    needed = _operator_bytes(graph, rules)
    computed = {
        "m_r_bytes": max(needed.values()),
        "m_p_bytes": _peak(graph, bounds.order, rules),
        "given_order_peak_bytes": _peak(graph, given, rules),
        "m_h_bytes": (bounds.m_r_bytes + bounds.m_p_bytes) // 2,
    }
    for name, value in computed.items():
        if getattr(bounds, name) != value:
            violations.append(Violation("totals", f"{name} says {getattr(bounds, name)}, the graph has {value}"))
    if needed.get(bounds.m_r_operator) != computed["m_r_bytes"]:
        violations.append(Violation("totals", f'operator "{bounds.m_r_operator}" does not need m_r_bytes'))
    if not bounds.m_r_bytes <= bounds.m_p_bound_bytes <= bounds.m_p_bytes:
        violations.append(Violation("bound", f"m_p_bound_bytes {bounds.m_p_bound_bytes} does not lie between M_R and M_P"))
    if (bounds.m_p_status == Status.OPTIMAL) != (bounds.m_p_bound_bytes == bounds.m_p_bytes):
        violations.append(Violation("bound", f"m_p_status {bounds.m_p_status} does not go with the bound {bounds.m_p_bound_bytes}"))
    return violations


@dataclass(frozen=True, slots=True)
class _Rules:
    """The options that change what a valid plan is."""

    parameters: bool
    align: int
    reserve: int
    pins: Mapping[str, int]
    relocation: bool

    @classmethod
    def of(cls, provenance: Provenance) -> _Rules:
        options = provenance.options
        wrong = [*_misstated(options)]
        if wrong:
            raise InputError("provenance", wrong)
        return cls(
            parameters=options.get("tensors") == "all",
            align=options.get("align", 1),
            reserve=options.get("reserve", 0),
            pins=dict(options.get("pin") or {}),
            relocation=options.get("allow-relocation", False),
        )

    def counts(self, tensor: Tensor) -> bool:
        """Return whether the plan has to place a tensor of this kind."""
        return self.parameters or tensor.kind != TensorKind.PARAMETER

    def space(self, tensor: Tensor) -> int:
        """Return the bytes that a tensor occupies."""
        return -(-tensor.size_bytes // self.align) * self.align

    @property
    def bottom(self) -> int:
        """The lowest offset that a tensor may have."""
        return -(-self.reserve // self.align) * self.align


def _misstated(options: Mapping[str, Any]) -> Iterator[Defect]:
    """Yield the options that are no values of theirs: a rule read wrongly would make a check of something else."""
    for name, least in (("align", 1), ("reserve", 0)):
        value = options.get(name, least)
        if type(value) is not int or value < least:
            yield Defect(f"options.{name}", f"must be a whole number >= {least}, got {shown(value)}")
    pins = options.get("pin") or {}
    if not isinstance(pins, Mapping) or any(type(offset) is not int for offset in pins.values()):
        yield Defect("options.pin", f"must give a whole number for each tensor, got {shown(pins)}")
    if not isinstance(options.get("allow-relocation", False), bool):
        yield Defect("options.allow-relocation", f"must be true or false, got {shown(options['allow-relocation'])}")


def verify_curve(graph: Graph, curve: MemoryCurve) -> list[Violation]:
    """Return what is wrong with a curve by itself; that no size needs less traffic than its bound is not re-proven."""
    needed = max(_operator_bytes(graph, _Rules.of(curve.provenance)).values())
    violations = []
    for point in curve.points:
        if point.scratchpad_bytes < needed:
            violations.append(Violation("totals", f"point at {point.scratchpad_bytes} bytes is below M_R {needed}"))
        if not 0 <= point.bound_bytes <= point.traffic_bytes:
            violations.append(Violation("bound", f"point at {point.scratchpad_bytes} bytes: bound {point.bound_bytes} exceeds the traffic"))
        if (point.status == Status.OPTIMAL) != (point.bound_bytes == point.traffic_bytes):
            violations.append(
                Violation("bound", f"point at {point.scratchpad_bytes} bytes: status {point.status} does not go with its bound")
            )
    for before, after in pairwise(curve.points):
        if after.scratchpad_bytes <= before.scratchpad_bytes or after.traffic_bytes >= before.traffic_bytes:
            sizes = f"{before.scratchpad_bytes} and {after.scratchpad_bytes} bytes"
            violations.append(Violation("totals", f"points at {sizes}: more scratchpad does not mean less traffic"))
    if curve.order == "given" and curve.points and curve.points[-1].traffic_bytes == 0:
        peak = _peak(graph, [operator.name for operator in graph.operators], _Rules.of(curve.provenance))
        if curve.points[-1].scratchpad_bytes != peak:
            violations.append(
                Violation("totals", f"no traffic from {curve.points[-1].scratchpad_bytes} bytes on, the order's peak is {peak}")
            )
    return violations


class _Facts:
    """Stays and transfers by tensor, steps by operator: what several rules look up."""

    def __init__(self, graph: Graph, plan: MemoryPlan) -> None:
        self.graph, self.plan = graph, plan
        self.order = plan.order or ()
        self.residency = plan.residency or ()
        self.transfers = plan.transfers or ()
        self.rules = _Rules.of(plan.provenance)
        step = {name: t for t, name in enumerate(self.order)}
        self.uses: dict[str, list[int]] = defaultdict(list)
        self.created: dict[str, int] = {}
        for operator in graph.operators:
            for name in dict.fromkeys((*operator.inputs, *operator.outputs)):
                self.uses[name].append(step[operator.name])
            for name in operator.outputs:
                self.created[name] = step[operator.name]
        self.stays: dict[str, list[Residency]] = defaultdict(list)
        for entry in sorted(self.residency, key=lambda entry: (entry.start, entry.end)):
            self.stays[entry.tensor].append(entry)
        self.moves: dict[tuple[str, TransferKind], list[Transfer]] = defaultdict(list)
        for transfer in self.transfers:
            self.moves[transfer.tensor, transfer.kind].append(transfer)

    def tensors(self) -> Iterator[Tensor]:
        """Yield the tensors that the plan has to place: those that some operator touches, parameters only where they were asked for."""
        for tensor in self.graph.tensors.values():
            if self.rules.counts(tensor) and self.uses.get(tensor.name):
                yield tensor


def _order(graph: Graph, plan: MemoryPlan) -> Iterator[Violation]:
    """Rule 1: the order is a permutation of the operators and topological, and the given one where that was asked for."""
    order = plan.order or ()
    counts = Counter(order)
    known = set(graph.operator_index)
    for name in sorted(counts.keys() - known):
        yield Violation("order", f'"{name}" is no operator of the graph')
    for name in sorted(known - counts.keys()):
        yield Violation("order", f'operator "{name}" does not run')
    for name in sorted(name for name, count in counts.items() if count > 1):
        yield Violation("order", f'operator "{name}" runs {counts[name]} times')
    step = {name: t for t, name in enumerate(order)}
    for operator in graph.operators:
        for tensor in dict.fromkeys(operator.inputs):
            producer = graph.producer(tensor)
            if producer and operator.name in step and producer.name in step and step[producer.name] >= step[operator.name]:
                message = f'operator "{operator.name}" reads it, but its producer "{producer.name}" runs at step {step[producer.name]}'
                yield Violation("order", message, tensor, step[operator.name])
    if plan.provenance.options.get("order") == "given" and list(order) != [operator.name for operator in graph.operators]:
        yield Violation("order", "is not the given order, which was asked for")


def _entry(facts: _Facts) -> Iterator[Violation]:
    """Rule 2: every stay and transfer is of a known tensor, inside the run and the scratchpad, aligned, with the tensor's size."""
    steps, capacity = len(facts.order), facts.plan.scratchpad_bytes
    for entry in facts.residency:
        tensor = facts.graph.tensors.get(entry.tensor)
        if tensor is None or not facts.rules.counts(tensor):
            yield Violation("entry", "is no tensor that the plan places", entry.tensor, entry.start)
            continue
        if not 0 <= entry.start < entry.end <= steps:
            yield Violation("entry", f"stay [{entry.start}, {entry.end}) is empty or outside steps 0 to {steps}", entry.tensor, entry.start)
        if entry.size_bytes != tensor.size_bytes:
            yield Violation("entry", f"size_bytes {entry.size_bytes} is not {tensor.size_bytes}", entry.tensor, entry.start)
        end = entry.offset + facts.rules.space(tensor)
        if entry.offset < facts.rules.bottom or end > capacity:
            place = f"the scratchpad of {capacity}" + (f" above {facts.rules.bottom} reserved bytes" if facts.rules.bottom else "")
            yield Violation("entry", f"bytes {entry.offset} to {end} are outside {place}", entry.tensor, entry.start)
        if entry.offset % facts.rules.align:
            yield Violation("entry", f"offset {entry.offset} is no multiple of {facts.rules.align}", entry.tensor, entry.start)
        if entry.offset != facts.rules.pins.get(entry.tensor, entry.offset):
            message = f"offset {entry.offset} is not {facts.rules.pins[entry.tensor]}, where the tensor is pinned"
            yield Violation("entry", message, entry.tensor, entry.start)
    for transfer in facts.transfers:
        tensor = facts.graph.tensors.get(transfer.tensor)
        if tensor is None or not facts.rules.counts(tensor):
            yield Violation("entry", f"{transfer.kind} of no tensor that the plan places", transfer.tensor, transfer.step)
        elif transfer.size_bytes != tensor.size_bytes:
            message = f"{transfer.kind} moves {transfer.size_bytes} bytes, not {tensor.size_bytes}"
            yield Violation("entry", message, transfer.tensor, transfer.step)


def _one_place_at_a_time(facts: _Facts) -> Iterator[Violation]:
    """Rule 3: stays of one tensor do not overlap in time."""
    for name, stays in facts.stays.items():
        for before, after in pairwise(stays):
            if after.start < before.end:
                message = f"stays [{before.start}, {before.end}) and [{after.start}, {after.end}) overlap"
                yield Violation("one-place-at-a-time", message, name, after.start)


def _operands_resident(facts: _Facts) -> Iterator[Violation]:
    """Rule 4: every operand of ``order[t]`` is resident during step t."""
    for tensor in facts.tensors():
        for t in facts.uses[tensor.name]:
            if not any(stay.start <= t < stay.end for stay in facts.stays[tensor.name]):
                yield Violation("operands-resident", f'operator "{facts.order[t]}" needs it, but it is not resident', tensor.name, t)


def _no_overlap(facts: _Facts) -> Iterator[Violation]:
    """Rule 5: no two stays overlap in time and address."""
    resident: list[Residency] = []
    for entry in sorted(facts.residency, key=lambda entry: entry.start):
        resident = [other for other in resident if other.end > entry.start]
        for other in resident:
            overlap = min(entry.offset + entry.size_bytes, other.offset + other.size_bytes) - max(entry.offset, other.offset)
            if overlap > 0 and other.tensor != entry.tensor:
                message = f'overlaps "{other.tensor}" by {overlap} bytes at offset {max(entry.offset, other.offset)}'
                yield Violation("no-overlap", message, entry.tensor, entry.start)
        resident.append(entry)


def _first_stay(facts: _Facts) -> Iterator[Violation]:
    """Rule 6: a tensor first appears when it is created, or with its one load at or before its first use."""
    for tensor in facts.tensors():
        stays, loads = facts.stays[tensor.name], facts.moves[tensor.name, TransferKind.LOAD]
        if not stays:
            continue  # rule 4 has said so
        first = stays[0]
        if tensor.kind.is_produced:
            if first.start != facts.created[tensor.name]:
                message = f"first stay starts at step {first.start}, not at step {facts.created[tensor.name]}, where it is created"
                yield Violation("first-stay", message, tensor.name, first.start)
            for load in loads:
                yield Violation("first-stay", "is created in the scratchpad, so it has no load", tensor.name, load.step)
            continue
        if [load.step for load in loads] != [first.start]:
            message = f"needs one load, at step {first.start}, where its first stay starts; has {[load.step for load in loads]}"
            yield Violation("first-stay", message, tensor.name, first.start)
        if first.start > min(facts.uses[tensor.name]):
            yield Violation("first-stay", "first stay starts after its first use", tensor.name, first.start)


def _retrieve(facts: _Facts) -> Iterator[Violation]:
    """Rule 7: each later stay starts with exactly one retrieve of a valid copy, and nothing else is retrieved."""
    for tensor in facts.tensors():
        starts = [stay.start for stay in facts.stays[tensor.name][1:]]
        retrieves = Counter(transfer.step for transfer in facts.moves[tensor.name, TransferKind.RETRIEVE])
        for t in sorted(retrieves.keys() - set(starts)):
            yield Violation("retrieve", "is retrieved, but no later stay starts there", tensor.name, t)
        for t in starts:
            if retrieves[t] != 1:
                yield Violation("retrieve", f"a later stay starts with {retrieves[t]} retrieves, not 1", tensor.name, t)
            if not _copy_is_valid(facts, tensor, t):
                yield Violation("retrieve", "there is no valid copy in DRAM to retrieve", tensor.name, t)


def _copy_is_valid(facts: _Facts, tensor: Tensor, t: int) -> bool:
    """Return whether DRAM holds a copy that a retrieve at step t can read; with relocation a spill of the same step counts (rule 12)."""
    if not tensor.kind.is_produced:
        return True
    stored = any(store.step < t for store in facts.moves[tensor.name, TransferKind.STORE])
    latest = t if facts.rules.relocation else t - 1
    return stored or any(spill.step <= latest for spill in facts.moves[tensor.name, TransferKind.SPILL])


def _spill(facts: _Facts) -> Iterator[Violation]:
    """Rule 8: at most one spill, at the end of a stay and with the tensor absent; no stay beyond the last use."""
    for tensor in facts.tensors():
        stays, spills = facts.stays[tensor.name], facts.moves[tensor.name, TransferKind.SPILL]
        if len(spills) > 1:
            yield Violation("spill", f"is spilled {len(spills)} times; the first copy stays valid", tensor.name, spills[1].step)
        for spill in spills:
            if not any(stay.end == spill.step for stay in stays):
                yield Violation("spill", "is spilled, but no stay ends there", tensor.name, spill.step)
            if not facts.rules.relocation and any(stay.start <= spill.step < stay.end for stay in stays):
                yield Violation("spill", "is spilled, so it must be absent during the step", tensor.name, spill.step)
        last = max(facts.uses[tensor.name])
        for stay in stays:
            if stay.end > last + 1:
                yield Violation(
                    "spill", f"stay [{stay.start}, {stay.end}) reaches beyond its last use at step {last}", tensor.name, stay.start
                )


def _store(facts: _Facts) -> Iterator[Violation]:
    """Rule 9: every output is stored once, while resident, before it first leaves; nothing else is stored."""
    for tensor in facts.tensors():
        stores = [transfer.step for transfer in facts.moves[tensor.name, TransferKind.STORE]]
        if tensor.kind != TensorKind.OUTPUT:
            for t in stores:
                yield Violation("store", f"is of kind {tensor.kind}, so it is not stored", tensor.name, t)
            continue
        if len(stores) != 1:
            yield Violation("store", f"is an output with {len(stores)} stores, not 1", tensor.name)
        first = facts.stays[tensor.name][:1]
        for t in stores:
            if not any(stay.start <= t < stay.end for stay in first):
                yield Violation("store", "is stored outside its first stay", tensor.name, t)


def _totals(facts: _Facts) -> Iterator[Violation]:
    """Rule 10: spills, retrieves, traffic, compulsory bytes, peak, height and budgets are what the plan says."""
    plan = facts.plan
    moved: Counter[TransferKind] = Counter()
    for transfer in facts.transfers:
        moved[transfer.kind] += transfer.size_bytes
    resident = [0] * (len(facts.order) + 1)
    for entry in facts.residency:
        resident[max(0, min(entry.start, len(facts.order)))] += entry.size_bytes
        resident[max(0, min(entry.end, len(facts.order)))] -= entry.size_bytes
    peak = total = 0
    for change in resident:
        total += change
        peak = max(peak, total)
    computed = {
        "spill_bytes": moved[TransferKind.SPILL],
        "retrieve_bytes": moved[TransferKind.RETRIEVE],
        "traffic_bytes": moved[TransferKind.SPILL] + moved[TransferKind.RETRIEVE],
        "compulsory_bytes": moved[TransferKind.LOAD] + moved[TransferKind.STORE],
        "peak_bytes": peak,
        "height_bytes": max((entry.offset + entry.size_bytes for entry in facts.residency), default=0),
    }
    for name, value in computed.items():
        if getattr(plan, name) != value:
            yield Violation("totals", f"{name} says {getattr(plan, name)}, the plan has {value}")
    yield from _budgets(facts.graph, plan)


def _budgets(graph: Graph, plan: MemoryPlan) -> Iterator[Violation]:
    if plan.budgets is None:
        return
    needed = max(_operator_bytes(graph, _Rules.of(plan.provenance)).values())
    if plan.budgets.m_r_bytes != needed:
        yield Violation("totals", f"budgets.m_r_bytes says {plan.budgets.m_r_bytes}, the graph has {needed}")
    if plan.budgets.m_h_bytes != (plan.budgets.m_r_bytes + plan.budgets.m_p_bytes) // 2:
        yield Violation("totals", f"budgets.m_h_bytes says {plan.budgets.m_h_bytes}, which is not half way between M_R and M_P")


def _operator_bytes(graph: Graph, rules: _Rules) -> dict[str, int]:
    """Return for each operator the bytes of the scratchpad that it needs: its own tensors and what is reserved."""
    sizes = {name: rules.space(tensor) for name, tensor in graph.tensors.items() if rules.counts(tensor)}
    return {
        operator.name: rules.bottom + sum(sizes.get(name, 0) for name in {*operator.inputs, *operator.outputs})
        for operator in graph.operators
    }


def _peak(graph: Graph, order: Sequence[str], rules: _Rules) -> int:
    """Return the most bytes live at one step, and reserved, when tensors live from creation, or first use, to last use."""
    operators = {operator.name: operator for operator in graph.operators}
    span: dict[str, tuple[int, int]] = {}
    for t, name in enumerate(order):
        for tensor in (*operators[name].inputs, *operators[name].outputs):
            if rules.counts(graph.tensors[tensor]):
                span[tensor] = (span.get(tensor, (t, t))[0], t)
    live = [0] * (len(order) + 1)
    for tensor, (first, last) in span.items():
        live[first] += rules.space(graph.tensors[tensor])
        live[last + 1] -= rules.space(graph.tensors[tensor])
    return rules.bottom + max(accumulate(live))


def _bound(facts: _Facts) -> Iterator[Violation]:
    """Rule 11: the bound does not exceed the traffic; "optimal" if and only if they are equal; the gap is theirs."""
    yield from _claims(facts.plan)


def _claims(plan: MemoryPlan) -> Iterator[Violation]:
    traffic, bound = plan.traffic_bytes, plan.bound_bytes
    if bound is not None and bound < 0:
        yield Violation("bound", f"bound_bytes {bound} is negative")
    if traffic is not None and bound is not None and bound > traffic:
        yield Violation("bound", f"bound_bytes {bound} exceeds traffic_bytes {traffic}")
    proven = traffic is not None and traffic == bound and plan.bound_scope is None
    if (plan.status == Status.OPTIMAL) != proven:
        yield Violation("bound", f"status {plan.status} does not go with traffic_bytes {traffic} and bound_bytes {bound}")
    if (plan.status in {Status.OPTIMAL, Status.INFEASIBLE}) != (plan.termination == Termination.PROVED):
        yield Violation("bound", f"status {plan.status} does not go with termination {plan.termination}")
    expected = relative_gap(traffic, bound)
    if (plan.gap is None) != (expected is None) or (plan.gap is not None and expected is not None and abs(plan.gap - expected) > 1e-9):
        yield Violation("bound", f"gap says {plan.gap}, traffic and bound give {expected}")


def _without_answer(graph: Graph, plan: MemoryPlan) -> Iterator[Violation]:
    if plan.status in {Status.OPTIMAL, Status.FEASIBLE}:
        yield Violation("bound", f"status {plan.status} without order, residency and transfers")
    if (plan.status == Status.INFEASIBLE) != (plan.termination == Termination.PROVED):
        yield Violation("bound", f"status {plan.status} does not go with termination {plan.termination}")
    for name in ("traffic_bytes", "spill_bytes", "retrieve_bytes", "compulsory_bytes", "peak_bytes", "height_bytes", "gap"):
        if getattr(plan, name) is not None:
            yield Violation("totals", f"{name} says {getattr(plan, name)}, but there is no plan")
    needed = max(_operator_bytes(graph, _Rules.of(plan.provenance)).values())
    for reason in plan.reasons:
        if reason.rule == "operator-fits" and not (reason.demand == needed > plan.scratchpad_bytes):
            yield Violation("totals", f"reason {reason.rule} says {reason.demand} bytes, the graph needs {needed}")
    yield from _budgets(graph, plan)


_RULES: tuple[Callable[[_Facts], Iterator[Violation]], ...] = (
    _one_place_at_a_time,
    _operands_resident,
    _no_overlap,
    _first_stay,
    _retrieve,
    _spill,
    _store,
    _totals,
    _bound,
)
