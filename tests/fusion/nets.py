"""Tiny networks for the tests of fusion: convolutions, residuals and pools of a few elements, drawn at random or by hand."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from cosma_sched.graph import Graph, Operator, Tensor
from cosma_sched.mapping.layer import Layer

Extents = tuple[int, int, int, int]
"""Batch, channels, rows, columns of a tensor."""


@dataclass(frozen=True)
class Window:
    """A window along rows and columns: kernel, stride, padding before and after the first element."""

    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    pad: tuple[int, int] = (0, 0)
    after: tuple[int, int] = (0, 0)

    def rows(self, axis: int, position: int) -> Iterator[int]:
        """Yield the coordinates that one output element reads, padding included."""
        for tap in range(self.kernel[axis]):
            yield position * self.stride[axis] - self.pad[axis] + tap

    def extent(self, axis: int, size: int) -> int:
        """Return how many output elements there are."""
        return (size + self.pad[axis] + self.after[axis] - self.kernel[axis]) // self.stride[axis] + 1


@dataclass(frozen=True)
class Node:
    """An operator of a tiny network.

    Parameters
    ----------
    name
        Also the name of its result.
    kind
        ``conv``, ``pool`` (the maximum of a window) or ``join`` (a sum that folds into no drain).
    reads
        The operand of the window first; then what is added to the result while it drains.
    channels
        Of the result.
    groups
        Of a convolution.
    """

    name: str
    kind: str
    reads: tuple[str, ...]
    channels: int
    window: Window = field(default_factory=Window)
    groups: int = 1


@dataclass(frozen=True)
class Net:
    """A tiny network with one input, ``x``; what nobody reads is an output, and what `outputs` names besides."""

    size: Extents
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...] = ()

    def node(self, name: str) -> Node:
        """Return a node by its name."""
        return next(node for node in self.nodes if node.name == name)

    def extents(self) -> dict[str, Extents]:
        """Return the extents of every tensor."""
        found = {"x": self.size}
        for node in self.nodes:
            n, _, rows, cols = found[node.reads[0]]
            found[node.name] = (n, node.channels, node.window.extent(0, rows), node.window.extent(1, cols))
        return found

    def readers(self, name: str) -> list[Node]:
        """Return who reads a tensor."""
        return [node for node in self.nodes if name in node.reads]

    def is_output(self, name: str) -> bool:
        """Whether a tensor leaves the network."""
        return name in self.outputs or not self.readers(name)

    def layer(self, name: str) -> Layer:
        """Return the seven dims of a convolution."""
        node, extents = self.node(name), self.extents()
        n, _, rows, cols = extents[name]
        channels = extents[node.reads[0]][1]
        window = node.window
        dims = (n, node.channels // node.groups, channels // node.groups, rows, cols, *window.kernel)
        return Layer(name, dims, *window.stride, repeat=node.groups, pad_p=window.pad[0], pad_q=window.pad[1])

    def graph(self) -> Graph:
        """Return the network as the planners read it; a sum that folds is an operator of its own after its convolution."""
        extents = self.extents()
        tensors = [_tensor("x", self.size, "input")]
        operators = []
        for node in self.nodes:
            kind = "output" if self.is_output(node.name) else "activation"
            if node.kind != "join":
                made = f"{node.name}.sum" if len(node.reads) > 1 else node.name
                made_kind = "activation" if len(node.reads) > 1 else kind
                operators.append(_window_operator(node, made))
                tensors.append(_tensor(made, extents[node.name], made_kind))
                if node.kind == "conv":
                    shape = (node.channels, extents[node.reads[0]][1] // node.groups, *node.window.kernel)
                    tensors.append(_tensor(f"{node.name}.w", shape, "parameter"))
                for index, other in enumerate(node.reads[1:]):
                    last = index == len(node.reads) - 2
                    result = node.name if last else f"{node.name}.sum{index}"
                    operators.append(Operator(f"{node.name}.add{index}", "Add", (made, other), (result,)))
                    tensors.append(_tensor(result, extents[node.name], kind if last else "activation"))
                    made = result
            else:
                operators.append(Operator(node.name, "Add", node.reads, (node.name,)))
                tensors.append(_tensor(node.name, extents[node.name], kind))
        return Graph(tensors, operators, "tiny")


def _tensor(name: str, shape: tuple[int, ...], kind: str) -> Tensor:
    return Tensor(name, math.prod(shape), kind, shape, "int8")  # type: ignore[arg-type]


def _window_operator(node: Node, result: str) -> Operator:
    window = node.window
    attributes = {"kernel_shape": list(window.kernel), "strides": list(window.stride), "pads": [*window.pad, *window.after]}
    if node.kind == "pool":
        return Operator(node.name, "MaxPool", node.reads[:1], (result,), attributes)
    return Operator(node.name, "Conv", (node.reads[0], f"{node.name}.w"), (result,), {**attributes, "group": node.groups})


# At random


def draw_net(
    random_: random.Random, *, most_layers: int = 4, most_rows: int = 6, most_cols: int = 4, most_channels: int = 3, pools: bool = False
) -> Net:
    """Draw a network of two to `most_layers` nodes: chains, branches, residual sums, several outputs."""
    net = Net(
        (random_.choice([1, 1, 1, 2]), random_.randint(1, most_channels), random_.randint(2, most_rows), random_.randint(1, most_cols)), ()
    )
    count = random_.randint(2, most_layers)
    for index in range(count):
        net = Net(net.size, (*net.nodes, _draw_node(random_, net, f"n{index}", most_channels, pools)))
    spare = [node.name for node in net.nodes if net.readers(node.name)]
    return Net(net.size, net.nodes, tuple(name for name in spare if random_.random() < 0.1))


def _draw_node(random_: random.Random, net: Net, name: str, most_channels: int, pools: bool) -> Node:
    extents = net.extents()
    names = ["x", *(node.name for node in net.nodes)]
    source = names[-1] if random_.random() < 0.75 else random_.choice(names)
    n, channels, rows, cols = extents[source]
    window = _draw_window(random_, rows, cols)
    if pools and random_.random() < 0.2:
        return Node(name, "pool", (source,), channels, window)
    depthwise = channels > 1 and random_.random() < 0.1
    made = channels if depthwise else random_.randint(1, most_channels)
    shape = (n, made, window.extent(0, rows), window.extent(1, cols))
    fitting = [other for other in names if other != source and extents[other] == shape]
    if not fitting and random_.random() < 0.5 and extents[source] != shape and window.stride == (1, 1):
        # A residual sum needs equal shapes: give the branch that of an earlier tensor where the window allows it.
        made, shape = _shape_like(random_, extents, names, shape, depthwise)
        fitting = [other for other in names if other != source and extents[other] == shape]
    adds = (random_.choice(fitting),) if fitting and random_.random() < 0.6 else ()
    return Node(name, "conv", (source, *adds), made, window, channels if depthwise else 1)


def _shape_like(
    random_: random.Random, extents: dict[str, Extents], names: list[str], shape: Extents, depthwise: bool
) -> tuple[int, Extents]:
    same = [extents[name][1] for name in names[1:] if (extents[name][0], *extents[name][2:]) == (shape[0], *shape[2:])]
    made = shape[1] if depthwise or not same else random_.choice(same)
    return made, (shape[0], made, *shape[2:])


def _draw_window(random_: random.Random, rows: int, cols: int) -> Window:
    pairs = [_draw_axis(random_, size) for size in (rows, cols)]
    return Window(*(tuple(values) for values in zip(*pairs, strict=True)))  # type: ignore[arg-type]


def _draw_axis(random_: random.Random, size: int) -> tuple[int, int, int, int]:
    while True:
        kernel, stride = random_.choice([1, 1, 2, 3, 3, 5]), random_.choice([1, 1, 1, 2])
        before, after = random_.randint(0, kernel // 2), random_.randint(0, kernel // 2)
        if size + before + after >= kernel:
            return kernel, stride, before, after
