"""Random graphs for property tests, so that every planner is tried on the same ones.

Small graphs find more than large ones: at most eight operators, sizes of a few bytes. The shapes that have caused mistakes are drawn on
purpose: operators with several outputs, diamonds, operators without inputs, an operand that stands twice, inputs, parameters, outputs
that are read inside.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import networkx as nx
from hypothesis import strategies as st

from cosma_sched.graph import Graph, Operator, Tensor

MAX_OPERATORS = 8


@st.composite
def graphs(draw: st.DrawFn, max_operators: int = MAX_OPERATORS, max_bytes: int = 6, parameters: bool = False) -> Graph:
    """Draw a graph of 1 to `max_operators` operators with tensors of 1 to `max_bytes` bytes.

    What nobody reads becomes an output; some outputs are read inside. With `parameters`, some operators read weights too.
    """
    size = st.integers(1, max_bytes)
    kinds: dict[str, str] = {f"x{i}": "input" for i in range(draw(st.integers(0, 2)))}
    sizes = {name: draw(size) for name in kinds}
    operators: list[Operator] = []
    for index in range(draw(st.integers(1, max_operators))):
        inputs = draw(_reads(list(sizes)))
        if parameters and draw(st.booleans()):
            sizes[f"w{index}"], kinds[f"w{index}"] = draw(size), "parameter"
            inputs.append(f"w{index}")
        outputs = [f"t{index}_{j}" for j in range(draw(st.sampled_from([1, 1, 1, 2])))]
        for output in outputs:
            sizes[output], kinds[output] = draw(size), "activation"
        operators.append(Operator(f"op{index}", draw(st.sampled_from(["Conv", "Add", "Split"])), tuple(inputs), tuple(outputs)))
    read = {name for operator in operators for name in operator.inputs}
    for name, kind in kinds.items():
        if kind == "activation" and (name not in read or draw(st.integers(0, 7)) == 0):
            kinds[name] = "output"
    used = read | {name for operator in operators for name in operator.outputs}
    return Graph([Tensor(name, sizes[name], kinds[name]) for name in sizes if name in used], operators, name="random")


def _reads(known: list[str]) -> st.SearchStrategy[list[str]]:
    """Draw the operands of one operator: the newest tensors are likelier, so that chains and diamonds appear; rarely one stands twice."""
    if not known:
        return st.just([])
    recent = known[-4:]
    one = st.one_of(st.sampled_from(recent), st.sampled_from(known))
    several = st.lists(one, min_size=1, max_size=3, unique=True)
    twice = one.map(lambda name: [name, name])
    return st.one_of(several, several, several, st.just([]), twice)


def topological_orders(graph: Graph, limit: int = 200) -> Iterator[tuple[str, ...]]:
    """Yield operator orders that respect the data flow, at most `limit` of them."""
    dependencies: nx.DiGraph[str] = nx.DiGraph()
    dependencies.add_nodes_from(operator.name for operator in graph)
    for operator in graph:
        for tensor in operator.inputs:
            source = graph.producer(tensor)
            if source is not None:
                dependencies.add_edge(source.name, operator.name)
    yield from (tuple(order) for order in itertools.islice(nx.all_topological_sorts(dependencies), limit))
