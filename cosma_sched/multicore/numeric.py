"""Running a schedule with numbers: every node computes its box from what lies on its core at that cycle; numpy's dense result is the judge.

This finds boxes that are wrong in the same way wherever they are checked symbolically: a number that is not there is not a number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cosma_sched.errors import InputError
from cosma_sched.graph import Graph, Operator
from cosma_sched.multicore.platform import OFFCHIP
from cosma_sched.multicore.problem import ScheduleProblem
from cosma_sched.multicore.schedule import Schedule, Transfer
from cosma_sched.multicore.verify import Violation
from cosma_sched.multicore.verify_facts import Facts

Numbers = NDArray[np.float64]
Limits = tuple[tuple[int, int], ...]
_CLOSE = 1e-9


class NodeWork(Protocol):
    """What a node computes: an operator, a box of its first output, a range of its contraction."""

    @property
    def operator(self) -> str:
        """Name of the operator."""

    @property
    def box(self) -> Limits:
        """What of its output the node writes or adds to."""

    @property
    def summed(self) -> tuple[int, int]:
        """What of the contraction it sums over."""

    @property
    def is_reduction(self) -> bool:
        """Whether it adds up partial sums."""


def run_with_numbers(
    graph: Graph, works: Sequence[NodeWork], boxes: Sequence[Limits], problem: ScheduleProblem, schedule: Schedule, *, seed: int = 0
) -> list[Violation]:
    """Return every node whose numbers are missing or differ from those of the dense network.

    Parameters
    ----------
    graph
        The network; small, of products, softmax and element-wise operators.
    works, boxes
        What each node computes, and the box of its tensor that each tile holds.
    problem, schedule
        A schedule whose names the problem knows and whose nodes run once each.
    seed
        Of inputs and parameters.

    Raises
    ------
    InputError
        If the network holds an operator that cannot be run.
    """
    return _Machine(graph, works, boxes, Facts.of(problem, schedule), seed).run()


def dense_values(graph: Graph, seed: int = 0) -> dict[str, Numbers]:
    """Return all tensors of a network for random inputs and parameters."""
    generator = np.random.default_rng(seed)
    values: dict[str, Numbers] = {}
    for name, tensor in graph.tensors.items():
        if not tensor.kind.is_produced:
            values[name] = generator.uniform(-1.0, 1.0, tensor.shape or ())
    for operator in graph:
        operands = [_seen(operator, position, values[name]) for position, name in enumerate(operator.inputs)]
        values[operator.outputs[0]] = _apply(graph, operator, operands)
    return values


class _Machine:
    """Memories with numbers in them.

    Copies of tiles are arrays of their boxes. `ledger` holds, for each tensor, what has been completed anywhere: a softmax in place has no
    run of its own, and takes maximum and sum of its rows from there.
    """

    def __init__(self, graph: Graph, works: Sequence[NodeWork], boxes: Sequence[Limits], facts: Facts, seed: int) -> None:
        self.graph, self.works, self.boxes, self.facts = graph, works, boxes, facts
        self.problem = facts.problem
        self.dense = dense_values(graph, seed)
        self.copies: dict[tuple[int, str], Numbers] = {}
        self.offchip: dict[int, Numbers] = {}
        self.pending: dict[int, Numbers] = {}
        self.left = [len(writers) for writers in self.problem.writers]
        self.found: list[Violation] = []
        self.operators = {operator.name: operator for operator in graph}
        self.maker = {name: operator for operator in graph for name in operator.outputs}
        self.kept_in = {tile.tensor: tile.tensor for tile in self.problem.tiles}
        for node, work in zip(self.problem.nodes, works, strict=True):
            self.kept_in[self.operators[work.operator].outputs[0]] = self.problem.tiles[node.writes].tensor
        self.ledger = {name: np.full(np.shape(self.dense[name]), np.nan) for name in set(self.kept_in.values())}
        for position, tile in enumerate(self.problem.tiles):
            if not self.problem.writers[position]:
                self.offchip[position] = self.dense[tile.tensor][_slices(boxes[position])]
                self.ledger[tile.tensor][_slices(boxes[position])] = self.offchip[position]
                if self.problem.takes_memory(tile) and not self.problem.is_fetched(tile):
                    self.copies.update({(position, memory): self.offchip[position] for memory in self.problem.platform.memories})

    def run(self) -> list[Violation]:
        """Let everything happen in its order: what ends at a cycle before what begins there."""
        events: list[tuple[int, int, int, Callable[[], None]]] = []
        for node, run in enumerate(self.facts.runs):
            events.append((run.end, 0, node, lambda node=node: self._finish(node)))  # type: ignore[misc]
            events.append((run.start, 4, node, lambda node=node: self._start(node)))  # type: ignore[misc]
        for number, transfer in enumerate(self.facts.schedule.transfers):
            phase = 1 if transfer.end > transfer.start else 2
            events.append((transfer.end, phase, number, lambda transfer=transfer: self._deliver(transfer)))  # type: ignore[misc]
        for (tile, memory), stays in self.facts.stays.items():
            for _, end in stays:
                events.append((end, 3, tile, lambda place=(tile, memory): self._evict(place)))  # type: ignore[misc]
        for *_, happens in sorted(events, key=lambda event: event[:3]):
            happens()
        return self.found

    def _evict(self, place: tuple[int, str]) -> None:
        self.copies.pop(place, None)

    def _deliver(self, transfer: Transfer) -> None:
        tile = self.facts.tile_at[transfer.tile]
        place = tile, OFFCHIP if transfer.source == OFFCHIP else self.problem.memory_of(tile, transfer.source)
        numbers = self.offchip.get(tile) if transfer.source == OFFCHIP else self.copies.get(place)
        if numbers is None or self.left[tile]:
            told = "is moved before it is there" if numbers is None else "is moved before it is complete"
            self.found.append(Violation("numeric", told, tile=transfer.tile, place=transfer.source, cycle=transfer.end))
            return
        for core in transfer.targets:
            if core == OFFCHIP:
                self.offchip[tile] = numbers
            else:
                self.copies[tile, self.problem.memory_of(tile, core)] = numbers

    # Nodes

    def _start(self, node: int) -> None:
        facts, work, run = self.problem.nodes[node], self.works[node], self.facts.runs[node]
        operator = self.operators[work.operator]
        if work.is_reduction:
            self.pending[node] = self._sum(facts.reads, run.core)
            return
        around = {*facts.reads, facts.writes} if len(self.problem.writers[facts.writes]) > 1 else set(facts.reads)
        operands = []
        for position, name in enumerate(operator.inputs):
            operands.append(_seen(operator, position, self._visible(name, around, run.core)))
        whole = _apply(self.graph, operator, operands, work.summed)
        self.pending[node] = whole[_slices(work.box)]
        self.copies.setdefault((facts.writes, self.problem.memory_of(facts.writes, run.core)), np.zeros_like(self.pending[node]))

    def _sum(self, tiles: Sequence[int], core: str) -> Numbers:
        addends = [self.copies.get((tile, self.problem.memory_of(tile, core))) for tile in tiles]
        missing = np.full([b - a for a, b in self.boxes[tiles[0]]], np.nan)
        total: Numbers = sum((missing if addend is None else addend for addend in addends), start=np.zeros_like(missing))
        return total

    def _visible(self, tensor: str, around: set[int], core: str) -> Numbers:
        """Return a tensor as a node on a core sees it: numbers where tiles that it reads lie, elsewhere none."""
        if tensor in self.kept_in:
            return self._lying(self.kept_in[tensor], around, core)
        operator = self.maker[tensor]
        operands = [_seen(operator, k, self._visible(name, around, core)) for k, name in enumerate(operator.inputs)]
        if operator.type == "Softmax":
            rows = _seen(operator, 0, self.ledger[self.kept_in[operator.inputs[0]]])
            axis = int(operator.attributes.get("axis", -1))
            top = rows.max(axis=axis, keepdims=True)
            shares: Numbers = np.exp(operands[0] - top) / np.exp(rows - top).sum(axis=axis, keepdims=True)
            return shares
        return _apply(self.graph, operator, operands)

    def _lying(self, tensor: str, around: set[int], core: str) -> Numbers:
        array = np.full(np.shape(self.dense[tensor]), np.nan)
        for tile in around:
            facts = self.problem.tiles[tile]
            if facts.tensor == tensor:
                free = not self.problem.takes_memory(facts)
                numbers = self.offchip.get(tile) if free else self.copies.get((tile, self.problem.memory_of(tile, core)))
                if numbers is not None:
                    array[_slices(self.boxes[tile])] = numbers
        return array

    def _finish(self, node: int) -> None:
        facts, run = self.problem.nodes[node], self.facts.runs[node]
        tile, numbers = facts.writes, self.pending.pop(node, None)
        if numbers is None or np.isnan(numbers).any():
            self.found.append(
                Violation("numeric", "computes from numbers that are not there", node=facts.name, place=run.core, cycle=run.start)
            )
        place = tile, self.problem.memory_of(tile, run.core)
        before = self.copies.get(place, np.zeros(()))
        overwrites = self._overwrites(node)
        after = np.full([b - a for a, b in self.boxes[tile]], np.nan) if numbers is None else numbers + (0.0 if overwrites else before)
        self.copies[place] = after
        self.left[tile] -= 1
        if not self.left[tile]:
            tensor, box = self.problem.tiles[tile].tensor, _slices(self.boxes[tile])
            self.ledger[tensor][box] = after
            self._compare(node, after, box)

    def _overwrites(self, node: int) -> bool:
        """Return whether a node replaces what another operator wrote into its tile, as a softmax in place of its scores does."""
        writers = self.problem.writers[self.problem.nodes[node].writes]
        return self.works[node].is_reduction or any(
            self.works[other].operator != self.works[node].operator for other in writers if other < node
        )

    def _compare(self, node: int, after: Numbers, box: tuple[slice, ...]) -> None:
        tile, work = self.problem.nodes[node].writes, self.works[node]
        if len({self.works[other].summed for other in self.problem.writers[tile]}) == 1 and self._is_partial(node):
            return  # one addend of a sum that a reduction completes
        due = self.dense[self.operators[work.operator].outputs[0]][box]
        if not np.allclose(after, due, rtol=_CLOSE, atol=_CLOSE, equal_nan=False):
            run = self.facts.runs[node]
            told = f"makes other numbers than the dense network, by up to {np.nanmax(np.abs(after - due), initial=0.0):.3g}"
            self.found.append(Violation("numeric", told, node=run.name, tile=self.problem.tiles[tile].name, place=run.core, cycle=run.end))

    def _is_partial(self, node: int) -> bool:
        """Return whether a node sums over a part of the contraction alone in its tile."""
        mine = self.works[node]
        same = [work for work in self.works if work.operator == mine.operator and work.box == mine.box and not work.is_reduction]
        return not mine.is_reduction and len({work.summed for work in same}) > 1


def _slices(box: Limits) -> tuple[slice, ...]:
    return tuple(slice(start, end) for start, end in box)


def _seen(operator: Operator, position: int, array: Numbers) -> Numbers:
    """Return an operand as its operator sees it, through the views that joined it."""
    views = operator.attributes.get("input_views", ())
    for step in views[position] if position < len(views) else ():
        if step["type"] == "Transpose":
            array = np.transpose(array, step["perm"])
        elif "shape" in step and math.prod(step["shape"]) == array.size:
            array = np.reshape(array, step["shape"])
        else:
            raise InputError(operator.name, f"a view {step['type']} cannot be run with numbers")
    return array


def _apply(graph: Graph, operator: Operator, operands: Sequence[Numbers], summed: tuple[int, int] | None = None) -> Numbers:
    """Return the first output of an operator; of a product, the sum over a part of its contraction."""
    rule = _RULES.get(operator.type)
    if rule is None:
        raise InputError(graph.name, f"operator {operator.name} of type {operator.type} cannot be run with numbers")
    if operator.type in _PRODUCTS and summed is not None:
        operands = _cut(operator, operands, summed)
    return rule(operator.attributes, *operands)


def _cut(operator: Operator, operands: Sequence[Numbers], summed: tuple[int, int]) -> Sequence[Numbers]:
    part = slice(*summed)
    left = operands[0][part] if operator.attributes.get("transA") else operands[0][..., part]
    right = operands[1][..., part] if operator.attributes.get("transB") else operands[1][..., part, :]
    return left, right


_PRODUCTS = frozenset({"MatMul", "Gemm"})


def _gemm(facts: Mapping[str, Any], a: Numbers, b: Numbers, *more: Numbers) -> Numbers:
    left, right = (a.T if facts.get("transA") else a), (b.T if facts.get("transB") else b)
    product: Numbers = left @ right
    return product + sum(more) if more else product


def _softmax(facts: Mapping[str, Any], x: Numbers) -> Numbers:
    axis = int(facts.get("axis", -1))
    raised: Numbers = np.exp(x - x.max(axis=axis, keepdims=True))
    shares: Numbers = raised / raised.sum(axis=axis, keepdims=True)
    return shares


def _axes(facts: Mapping[str, Any]) -> tuple[int, ...]:
    return tuple(facts.get("axes", (-1,)))


def _exponential(_: Mapping[str, Any], x: Numbers, *less: Numbers) -> Numbers:
    """``Exp``, or with a second operand the exponential of the difference, as an expanded softmax has it."""
    return np.exp(x - less[0]) if less else np.exp(x)


_RULES: Mapping[str, Callable[..., Numbers]] = {
    "MatMul": lambda _, a, b: a @ b,
    "Gemm": _gemm,
    "Softmax": _softmax,
    "Transpose": lambda facts, x: np.transpose(x, facts.get("perm")),
    "Concat": lambda facts, *parts: np.concatenate(parts, axis=int(facts["axis"])),
    "Add": lambda _, a, b: a + b,
    "Sub": lambda _, a, b: a - b,
    "Mul": lambda _, a, b: a * b,
    "Div": lambda _, a, b: a / b,
    "Exp": _exponential,
    "Relu": lambda _, x: np.maximum(x, 0.0),
    "Sigmoid": lambda _, x: 1.0 / (1.0 + np.exp(-x)),
    "Silu": lambda _, x: x / (1.0 + np.exp(-x)),
    "ReduceMax": lambda facts, x: x.max(axis=_axes(facts), keepdims=True),
    "ReduceSum": lambda facts, x: x.sum(axis=_axes(facts), keepdims=True),
}
