"""What is asked of the memory planner: a network as integer-indexed sets, and a scratchpad to run it in.

Sets of operators and of tensors are Python integers used as bit masks: bit v stands for the operator at position v of the given order, bit
a for tensor a of `Network.tensors`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from itertools import pairwise

from cosma_sched.errors import InfeasibleError, Lever, Reason, UsageError, suggestion
from cosma_sched.graph import Graph, TensorKind

Order = tuple[int, ...]
"""Operators, by position in the given order, in the order in which they run."""


_MOST_SUMS_REMEMBERED = 1_000_000


class OrderChoice(StrEnum):
    """Which orders are allowed."""

    FREE = "free"
    GIVEN = "given"
    MIN_PEAK = "min-peak"


def bits(mask: int) -> Iterator[int]:
    """Yield the positions of the set bits, lowest first."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def mask_of(members: Sequence[int]) -> int:
    """Return the set of the given positions."""
    mask = 0
    for member in members:
        mask |= 1 << member
    return mask


class Network:
    """A graph as the memory planner sees it: tensors that count, masks of operands and of precedence.

    Tensors that no operator touches never count.

    Parameters
    ----------
    graph
        The graph.
    parameters
        Whether parameters count; they are inputs then.
    align_bytes
        In the scratchpad every tensor occupies its size rounded up to a multiple of this.
    """

    def __init__(self, graph: Graph, *, parameters: bool = False, align_bytes: int = 1) -> None:
        self.graph = graph
        touched = {name for operator in graph for name in (*operator.inputs, *operator.outputs)}
        counted = [t for t in graph.tensors.values() if (parameters or t.kind != TensorKind.PARAMETER) and t.name in touched]
        index = {tensor.name: a for a, tensor in enumerate(counted)}
        self.index: Mapping[str, int] = index
        """Position of each tensor by name."""
        self.tensors = tuple(counted)
        self.size: tuple[int, ...] = tuple(tensor.size_bytes for tensor in counted)
        """Bytes of each tensor: what a transfer costs."""
        self.space: tuple[int, ...] = tuple(-(-size // align_bytes) * align_bytes for size in self.size)
        """Bytes each tensor occupies in the scratchpad."""
        self.reads: tuple[int, ...] = tuple(mask_of([index[name] for name in op.inputs if name in index]) for op in graph)
        """Tensors each operator reads."""
        self.writes: tuple[int, ...] = tuple(mask_of([index[name] for name in op.outputs]) for op in graph)
        """Tensors each operator writes."""
        self.num_operators = len(graph)
        self.everything = (1 << self.num_operators) - 1
        self.consumers: tuple[int, ...] = self._consumers()
        """Operators that read each tensor."""
        self.producer: tuple[int | None, ...] = self._producers()
        """Operator that writes each tensor; None for an input."""
        self.backed = mask_of([a for a, tensor in enumerate(counted) if tensor.kind != TensorKind.ACTIVATION])
        """Tensors that have a copy in DRAM anyway: inputs from the start, outputs once they are stored."""
        self.inputs = mask_of([a for a, tensor in enumerate(counted) if not tensor.kind.is_produced])
        """Tensors that start in DRAM."""
        self.fixed: tuple[int, ...] = (0,) * self.num_operators
        """Bytes of the scratchpad that each operator needs for tensors that are not looked at (`part`)."""
        self.members: tuple[int, ...] = tuple(range(self.num_operators))
        """Position of each operator in the whole network."""
        self._bytes: dict[int, int] = {0: 0}
        self._space = self._bytes if self.space == self.size else {0: 0}

    def _consumers(self) -> tuple[int, ...]:
        masks = [0] * len(self.tensors)
        for v, read in enumerate(self.reads):
            for a in bits(read):
                masks[a] |= 1 << v
        return tuple(masks)

    def _producers(self) -> tuple[int | None, ...]:
        producers: list[int | None] = [None] * len(self.tensors)
        for v, written in enumerate(self.writes):
            for a in bits(written):
                producers[a] = v
        return tuple(producers)

    @cached_property
    def predecessors(self) -> tuple[int, ...]:
        """Operators whose outputs each operator reads."""
        masks = []
        for read in self.reads:
            mask = 0
            for a in bits(read):
                producer = self.producer[a]
                if producer is not None:
                    mask |= 1 << producer
            masks.append(mask)
        return tuple(masks)

    @cached_property
    def successors(self) -> tuple[int, ...]:
        """Operators that read what each operator writes."""
        masks = []
        for written in self.writes:
            mask = 0
            for a in bits(written):
                mask |= self.consumers[a]
            masks.append(mask)
        return tuple(masks)

    @cached_property
    def operand_pairs(self) -> tuple[tuple[tuple[int, int], ...], ...]:
        """For each operator (bit, consumers) of its operands, for loops that run very often."""
        return tuple(tuple((1 << a, self.consumers[a]) for a in bits(self.operands(v))) for v in range(self.num_operators))

    @cached_property
    def successor_pairs(self) -> tuple[tuple[tuple[int, int], ...], ...]:
        """For each operator (bit, predecessors) of its successors, for loops that run very often."""
        return tuple(tuple((1 << w, self.predecessors[w]) for w in bits(mask)) for mask in self.successors)

    @cached_property
    def ancestors(self) -> tuple[int, ...]:
        """Operators that must run before each operator, itself left out."""
        masks: list[int] = []
        for direct in self.predecessors:
            mask = direct
            for u in bits(direct):
                mask |= masks[u]
            masks.append(mask)
        return tuple(masks)

    @cached_property
    def descendants(self) -> tuple[int, ...]:
        """Operators that must run after each operator, itself left out."""
        masks = [0] * self.num_operators
        for v in reversed(range(self.num_operators)):
            mask = self.successors[v]
            for w in bits(self.successors[v]):
                mask |= masks[w]
            masks[v] = mask
        return tuple(masks)

    @cached_property
    def created_before(self) -> tuple[int, ...]:
        """Tensors that in every order are there before each operator runs: what its ancestors write, and the inputs they read."""
        masks = [0] * self.num_operators
        for v in sorted(range(self.num_operators), key=lambda v: self.ancestors[v].bit_count()):
            for u in bits(self.predecessors[v]):
                masks[v] |= masks[u] | self.writes[u] | (self.reads[u] & self.inputs)
        return tuple(masks)

    @cached_property
    def read_after(self) -> tuple[int, ...]:
        """Tensors that in every order are read after each operator has run."""
        masks = [0] * self.num_operators
        for v in sorted(range(self.num_operators), key=lambda v: self.descendants[v].bit_count()):
            for w in bits(self.successors[v]):
                masks[v] |= masks[w] | self.reads[w]
        return tuple(masks)

    def bytes_of(self, tensors: int) -> int:
        """Return the bytes of a set of tensors; remembered, because searches ask for the same sets again and again."""
        return _remembered_sum(self._bytes, self.size, tensors)

    def space_of(self, tensors: int) -> int:
        """Return the bytes that a set of tensors occupies in the scratchpad."""
        return _remembered_sum(self._space, self.space, tensors)

    def part(self, tensors: int) -> Network:
        """Return the sub-problem that looks at some tensors only.

        Its operators are those that touch one of the tensors, under the precedence that the whole network implies; each needs its
        other operands as fixed bytes. Whatever traffic these tensors cause in a plan for the whole network, this sub-problem can do with no
        more, so the least traffic of disjoint parts adds up to a lower bound. Tensors keep their positions, operators are renumbered
        (`members`). `graph` stays that of the whole network.
        """
        part = self._without_precedence()
        part.members = tuple(v for v in range(self.num_operators) if self.operands(v) & tensors)
        place = {v: i for i, v in enumerate(part.members)}
        chosen = mask_of(part.members)
        part.num_operators = len(part.members)
        part.everything = (1 << part.num_operators) - 1
        part.reads = tuple(self.reads[v] & tensors for v in part.members)
        part.writes = tuple(self.writes[v] & tensors for v in part.members)
        part.fixed = tuple(self.fixed[v] + self.space_of(self.operands(v) & ~tensors) for v in part.members)
        part.consumers = part._consumers()
        part.producer = part._producers()
        closest: list[int] = []
        for v in part.members:
            earlier = self.ancestors[v] & chosen
            for u in bits(earlier):
                earlier &= ~self.ancestors[u]
            closest.append(mask_of([place[u] for u in bits(earlier)]))
        following = [0] * part.num_operators
        for i, mask in enumerate(closest):
            for j in bits(mask):
                following[j] |= 1 << i
        part.__dict__["predecessors"], part.__dict__["successors"] = tuple(closest), tuple(following)
        return part

    def chained(self, sequence: Sequence[int]) -> Network:
        """Return the same network with some operators kept in the order given; a plan for it is a plan for this network.

        Parameters
        ----------
        sequence
            Operators in an order that the precedence allows.
        """
        chained = self._without_precedence()
        predecessors, successors = list(self.predecessors), list(self.successors)
        for before, after in pairwise(sequence):
            predecessors[after] |= 1 << before
            successors[before] |= 1 << after
        missing = [mask.bit_count() for mask in predecessors]
        order = [v for v in range(self.num_operators) if not missing[v]]
        for v in order:  # grows as it is read
            for w in bits(successors[v]):
                missing[w] -= 1
                if not missing[w]:
                    order.append(w)
        ancestors, descendants = [0] * self.num_operators, [0] * self.num_operators
        for v in order:
            ancestors[v] = predecessors[v]
            for u in bits(predecessors[v]):
                ancestors[v] |= ancestors[u]
        for v in reversed(order):
            descendants[v] = successors[v]
            for w in bits(successors[v]):
                descendants[v] |= descendants[w]
        chained.__dict__["predecessors"], chained.__dict__["successors"] = tuple(predecessors), tuple(successors)
        chained.__dict__["ancestors"], chained.__dict__["descendants"] = tuple(ancestors), tuple(descendants)
        return chained

    def _without_precedence(self) -> Network:
        """Return a copy that has forgotten everything derived from which operator comes before which."""
        copied = copy.copy(self)
        for name in (
            "predecessors",
            "successors",
            "operand_pairs",
            "successor_pairs",
            "ancestors",
            "descendants",
            "created_before",
            "read_after",
        ):
            copied.__dict__.pop(name, None)
        return copied

    def operands(self, v: int) -> int:
        """Return the tensors that operator v reads or writes."""
        return self.reads[v] | self.writes[v]

    def operand_bytes(self, v: int) -> int:
        """Return the bytes of the scratchpad that operator v needs at once."""
        return self.space_of(self.operands(v))

    def name_of(self, v: int) -> str:
        """Return the name of operator v."""
        return self.graph.operators[v].name

    @property
    def given_order(self) -> Order:
        """The order of the graph itself."""
        return tuple(range(self.num_operators))

    def operator_names(self, order: Order) -> tuple[str, ...]:
        """Return an order by name."""
        return tuple(self.name_of(v) for v in order)

    def uses(self, order: Order) -> list[list[int]]:
        """Return for each tensor the steps, ascending, at which its operator writes it or an operator reads it.

        The list of an unread tensor holds its creation alone.
        """
        steps: list[list[int]] = [[] for _ in self.tensors]
        for t, v in enumerate(order):
            for a in bits(self.operands(v)):
                steps[a].append(t)
        return steps

    def live_bytes(self, order: Order) -> list[int]:
        """Return for each step the bytes that the tensors between first and last use occupy."""
        change = [0] * (self.num_operators + 1)
        for a, steps in enumerate(self.uses(order)):
            change[steps[0]] += self.space[a]
            change[steps[-1] + 1] -= self.space[a]
        live, total = [], 0
        for t in range(self.num_operators):
            total += change[t]
            live.append(total)
        return live

    def count_orders(self, limit: int) -> int:
        """Return the number of topological orders, or `limit` if there are at least as many."""
        counts = {0: 1}
        for _ in range(self.num_operators):
            following: dict[int, int] = {}
            for done, ways in counts.items():
                for v in bits(self.ready(done)):
                    after = done | 1 << v
                    following[after] = min(limit, following.get(after, 0) + ways)
            counts = following
            if sum(counts.values()) >= limit:
                return limit
        return counts[self.everything]

    def orders(self) -> Iterator[Order]:
        """Yield every topological order; there may be very many."""
        stack: list[tuple[Order, int]] = [((), 0)]
        while stack:
            order, done = stack.pop()
            if done == self.everything:
                yield order
                continue
            stack.extend(((*order, v), done | 1 << v) for v in reversed(list(bits(self.ready(done)))))

    def ready(self, done: int) -> int:
        """Return the operators whose predecessors are all in `done` and which are not."""
        return mask_of([v for v in bits(self.everything & ~done) if not self.predecessors[v] & ~done])


def _remembered_sum(known: dict[int, int], weights: Sequence[int], members: int) -> int:
    total = known.get(members)
    if total is None:
        total = sum(weights[a] for a in bits(members))
        if len(known) > _MOST_SUMS_REMEMBERED:
            known.clear()
        known[members] = total
    return total


@dataclass(frozen=True, slots=True)
class Scratchpad:
    """The scratchpad and the rules for placing tensors in it.

    Parameters
    ----------
    capacity_bytes
        Its size, > 0.
    align_bytes
        Offsets are multiples of this.
    reserve_bytes
        Bytes at the bottom that no tensor may use.
    pins
        (tensor name, offset): where a tensor lies whenever it is resident.
    allow_relocation
        Whether a tensor without a copy in DRAM may be written and read again between two adjacent steps to change its address.
    """

    capacity_bytes: int
    align_bytes: int = 1
    reserve_bytes: int = 0
    pins: tuple[tuple[str, int], ...] = ()
    allow_relocation: bool = False

    def __post_init__(self) -> None:
        if self.capacity_bytes <= 0:
            raise UsageError(f"scratchpad must be > 0 bytes, got {self.capacity_bytes}")
        if self.align_bytes < 1:
            raise UsageError(f"align must be >= 1 byte, got {self.align_bytes}")
        if self.reserve_bytes < 0:
            raise UsageError(f"reserve must be >= 0 bytes, got {self.reserve_bytes}")
        for name, offset in self.pins:
            if offset < self.bottom_bytes or offset % self.align_bytes:
                least = f"a multiple of {self.align_bytes} and >= {self.bottom_bytes}"
                raise UsageError(f'pin of "{name}" must be {least}, got {offset}')

    @property
    def bottom_bytes(self) -> int:
        """The lowest offset that a tensor may have: the reserved bytes, rounded up to the alignment."""
        return -(-self.reserve_bytes // self.align_bytes) * self.align_bytes

    @property
    def usable_bytes(self) -> int:
        """Bytes that tensors can share: the capacity without the reserved bytes, in whole multiples of the alignment."""
        return max(0, (self.capacity_bytes - self.bottom_bytes) // self.align_bytes * self.align_bytes)


@dataclass(frozen=True, slots=True)
class Problem:
    """A network and the scratchpad it has to run in.

    Parameters
    ----------
    network
        The indexed graph.
    scratchpad
        The scratchpad with its rules.
    order
        Which orders are allowed.
    """

    network: Network
    scratchpad: Scratchpad
    order: OrderChoice = OrderChoice.FREE

    def __post_init__(self) -> None:
        for name, _ in self.scratchpad.pins:
            if name not in self.network.index:
                raise UsageError(f'pin of "{name}": no such tensor{suggestion(name, self.network.index)}')


def largest_operator(network: Network) -> int:
    """Return the operator whose own tensors need the most bytes, the first of several: its need is M_R."""
    return max(range(network.num_operators), key=lambda v: (network.operand_bytes(v), -v))


def require_operators_fit(problem: Problem) -> None:
    """Check that each operator's own tensors fit into the scratchpad together.

    Raises
    ------
    InfeasibleError
        If the largest operator does not fit; the reason names it, its tensors, their bytes and M_R.
    """
    network, scratchpad = problem.network, problem.scratchpad
    v = largest_operator(network)
    if network.operand_bytes(v) <= scratchpad.usable_bytes:
        return
    capacity, reserved = scratchpad.capacity_bytes, scratchpad.bottom_bytes
    demand = network.operand_bytes(v) + reserved
    operator = network.graph.operators[v]
    terms = [
        (f'{role} "{network.tensors[a].name}"', network.space[a])
        for role, mask in (("input", network.reads[v]), ("output", network.writes[v]))
        for a in bits(mask)
    ]
    if reserved:
        terms.append(("reserved", reserved))
    reason = Reason(
        rule="operator-fits",
        where=f'step {v}, {operator.type} "{operator.name}"'
        if problem.order == OrderChoice.GIVEN
        else f'{operator.type} "{operator.name}"',
        statement=f'{operator.type} "{operator.name}" needs {demand} bytes at once, {demand - capacity} too many',
        demand=demand,
        limit=capacity,
        short=demand - capacity,
        terms=tuple(terms),
        levers=(Lever("--scratchpad", demand, "M_R"),),
    )
    raise InfeasibleError([reason])
