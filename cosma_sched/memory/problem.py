"""What is asked of the memory planner: a network as integer-indexed sets, and a scratchpad to run it in.

Sets of operators and of tensors are Python integers used as bit masks: bit v stands for the operator at position v of the given order, bit
a for tensor a of `Network.tensors`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from cosma_sched.errors import InfeasibleError, Lever, Reason, UsageError
from cosma_sched.graph import Graph, TensorKind

Order = tuple[int, ...]
"""Operators, by position in the given order, in the order in which they run."""


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

    Parameters count only on request; tensors that no operator touches never count.

    Parameters
    ----------
    graph
        The graph.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        touched = {name for operator in graph for name in (*operator.inputs, *operator.outputs)}
        counted = [t for t in graph.tensors.values() if t.kind != TensorKind.PARAMETER and t.name in touched]
        index = {tensor.name: a for a, tensor in enumerate(counted)}
        self.tensors = tuple(counted)
        self.size: tuple[int, ...] = tuple(tensor.size_bytes for tensor in counted)
        """Bytes of each tensor."""
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
        self._bytes: dict[int, int] = {0: 0}

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

    def bytes_of(self, tensors: int) -> int:
        """Return the bytes of a set of tensors; remembered, because searches ask for the same sets again and again."""
        total = self._bytes.get(tensors)
        if total is None:
            total = sum(self.size[a] for a in bits(tensors))
            if len(self._bytes) > 1_000_000:
                self._bytes = {0: 0}
            self._bytes[tensors] = total
        return total

    def operands(self, v: int) -> int:
        """Return the tensors that operator v reads or writes."""
        return self.reads[v] | self.writes[v]

    def operand_bytes(self, v: int) -> int:
        """Return the bytes that operator v needs at once."""
        return self.bytes_of(self.operands(v))

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
        """Return for each step the bytes of the tensors between first and last use."""
        change = [0] * (self.num_operators + 1)
        for a, steps in enumerate(self.uses(order)):
            change[steps[0]] += self.size[a]
            change[steps[-1] + 1] -= self.size[a]
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


@dataclass(frozen=True, slots=True)
class Problem:
    """A network and the scratchpad it has to run in.

    Parameters
    ----------
    network
        The indexed graph.
    capacity_bytes
        Size of the scratchpad, > 0.
    order
        Which orders are allowed.
    """

    network: Network
    capacity_bytes: int
    order: OrderChoice = OrderChoice.FREE

    def __post_init__(self) -> None:
        if self.capacity_bytes <= 0:
            raise UsageError(f"scratchpad must be > 0 bytes, got {self.capacity_bytes}")


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
    network, capacity = problem.network, problem.capacity_bytes
    v = largest_operator(network)
    demand = network.operand_bytes(v)
    if demand <= capacity:
        return
    operator = network.graph.operators[v]
    terms = [
        (f'{role} "{network.tensors[a].name}"', network.size[a])
        for role, mask in (("input", network.reads[v]), ("output", network.writes[v]))
        for a in bits(mask)
    ]
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
