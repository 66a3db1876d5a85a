"""The network as fusion sees it: layers and vector operators, who reads whose result and by which window, and where fusion must stop.

A node is a layer with the element-wise operators that drain with it, or a vector operator of its own. Its result is a map of
``extent = (N, P, Q)`` positions with all channels in each. An operand says which rows and columns of its producer's map a band of result
rows and columns needs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from cosma_sched.graph import Origin
from cosma_sched.mapping.layer import Layer, Unsupported, VectorOperator

CHANNELS_FIRST, FEATURES_LAST = "channels-first", "features-last"


@dataclass(frozen=True, slots=True)
class Window:
    """Which part of an axis a band [a, b) of results needs: [a stride - pad, (b - 1) stride - pad + (kernel - 1) dilation + 1)."""

    kernel: int = 1
    stride: int = 1
    pad: int = 0
    dilation: int = 1

    @property
    def reach(self) -> int:
        """Rows or columns that one result needs, those between its taps included."""
        return (self.kernel - 1) * self.dilation + 1


SAME = Window()
"""Element by element."""


@dataclass(frozen=True, slots=True)
class Operand:
    """Something that a node reads.

    Parameters
    ----------
    role
        ``input`` or ``weight`` of a layer, ``drain``: a further operand of an element-wise operator that runs while the layer drains,
        ``vector``: an operand of a vector operator.
    producer
        Node that makes it, or None where it comes from DRAM anyway.
    rows, columns
        Windows; None for the whole axis.
    words
        Words of the whole operand as the node reads it.
    regional
        True where a step reads only the words of its region, False where each step reads the whole operand.
    barrier
        Why the producer cannot run in the same group, or None.
    extent
        Batch, rows and columns of an input that comes from outside, where they are known.
    """

    role: str
    producer: int | None
    words: int
    rows: Window | None = SAME
    columns: Window | None = SAME
    regional: bool = True
    barrier: str | None = None
    extent: tuple[int, int, int] | None = None


@dataclass(frozen=True, slots=True)
class Node:
    """A layer, or a vector operator of its own.

    Parameters
    ----------
    name, type
        Of the operator; type ``Layer`` rows come from a table.
    extent
        Batch, rows and columns of the result.
    words
        Words of the result, all channels.
    layer, vector
        One of the two.
    operands
        What it reads; parameters of layers are not listed, they are the layer's W.
    is_output
        The network's result, or part of it.
    barrier
        Why it runs alone, or None.
    layout
        How its result lies, which decides what softmax and the like need.
    features
        Of a softmax, how many features it normalises together.
    """

    name: str
    type: str
    extent: tuple[int, int, int]
    words: int
    layer: Layer | None = None
    vector: VectorOperator | None = None
    operands: tuple[Operand, ...] = ()
    is_output: bool = False
    barrier: str | None = None
    layout: str = CHANNELS_FIRST
    features: int | None = None

    @property
    def position_words(self) -> int:
        """Words of all channels at one position."""
        n, p, q = self.extent
        return self.words // (n * p * q)

    @property
    def weight_words(self) -> int:
        """Words of a layer's W, all repetitions included; 0 for a vector operator."""
        return self.layer.size("W") * self.layer.repeat * self.layer.element_bytes[0] if self.layer is not None else 0

    @property
    def producers(self) -> tuple[int, ...]:
        """Nodes whose results it reads, each once."""
        return tuple(dict.fromkeys(operand.producer for operand in self.operands if operand.producer is not None))


@dataclass(frozen=True)
class FusionProblem:
    """A network to be fused.

    Parameters
    ----------
    name
        For tables.
    nodes
        In the order in which they run, which is topological.
    charged
        Vector operators cost words and cycles.
    remarks
        What was assumed, one sentence each.
    skipped
        Operators that could not be expressed; they stand in `nodes` as barriers that cost nothing.
    origin
        Where the network was read from.
    """

    name: str
    nodes: tuple[Node, ...]
    charged: bool = False
    remarks: tuple[str, ...] = ()
    skipped: tuple[Unsupported, ...] = ()
    origin: Origin | None = None

    @cached_property
    def consumers(self) -> tuple[tuple[int, ...], ...]:
        """For each node, the nodes that read its result, each once."""
        found: list[list[int]] = [[] for _ in self.nodes]
        for index, node in enumerate(self.nodes):
            for producer in node.producers:
                found[producer].append(index)
        return tuple(tuple(readers) for readers in found)

    @cached_property
    def layers(self) -> tuple[int, ...]:
        """The nodes that are layers."""
        return tuple(index for index, node in enumerate(self.nodes) if node.layer is not None)

    @property
    def is_chain(self) -> bool:
        """True where every node reads at most the one before it."""
        return all(set(node.producers) <= {index - 1} for index, node in enumerate(self.nodes))

    def barriers(self) -> Iterator[str]:
        """Yield where fusion must stop and why."""
        for node in self.nodes:
            if node.barrier is not None:
                yield f"{node.name} runs alone: {node.barrier}"
            for operand in node.operands:
                if operand.barrier is not None and operand.producer is not None:
                    yield f"{self.nodes[operand.producer].name} and {node.name} stay apart: {operand.barrier}"

    def fusable(self, members: Sequence[int]) -> bool:
        """Return whether nothing named a barrier stands inside a set of nodes."""
        if len(members) == 1:
            return True
        inside = set(members)
        return all(
            self.nodes[index].barrier is None
            and not any(operand.barrier is not None and operand.producer in inside for operand in self.nodes[index].operands)
            for index in members
        )
