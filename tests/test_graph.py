from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given

from cosma_sched.errors import InputError
from cosma_sched.files import encode_json
from cosma_sched.graph import Graph, Operator, Origin, Tensor, TensorKind
from tests.strategies import graphs, topological_orders


def document(**changes: Any) -> dict[str, Any]:
    """A good document of three tensors and two operators, with changes at the top level."""
    return {
        "schema": "cosma-sched/graph/1",
        "name": "toy",
        "tensors": [
            {"name": "x", "size_bytes": 4, "kind": "input"},
            {"name": "y", "size_bytes": 2, "kind": "activation", "shape": [1, 2], "dtype": "int8"},
            {"name": "z", "size_bytes": 1, "kind": "output"},
        ],
        "operators": [
            {"name": "conv", "type": "Conv", "inputs": ["x"], "outputs": ["y"], "attributes": {"strides": [1, 1]}},
            {"name": "head", "type": "Gemm", "inputs": ["y"], "outputs": ["z"]},
        ],
        **changes,
    }


def defects(content: object) -> list[str]:
    with pytest.raises(InputError) as caught:
        Graph.from_json(encode_json(content), "toy.json")
    lines = str(caught.value).splitlines()
    assert all(line.startswith("toy.json: ") for line in lines)
    return [line.removeprefix("toy.json: ") for line in lines]


# reading


def test_a_document_is_read_in_full() -> None:
    graph = Graph.from_json(encode_json(document()))
    assert graph.name == "toy"
    assert graph.tensors["y"] == Tensor("y", 2, TensorKind.ACTIVATION, (1, 2), "int8")
    assert [operator.name for operator in graph] == ["conv", "head"]
    assert graph.operators[0].attributes == {"strides": [1, 1]}


@given(graphs(parameters=True))
def test_a_graph_reads_back_from_json(graph: Graph) -> None:
    assert Graph.from_json(encode_json(graph.to_json())) == graph


@given(graphs(parameters=True))
def test_a_graph_reads_back_from_networkx(graph: Graph) -> None:
    assert Graph.from_networkx(graph.to_networkx()) == graph


@given(graphs())
def test_a_graph_survives_pickling_and_copying(graph: Graph) -> None:
    """It used to fail once its tensors had been looked at."""
    assert graph.tensors
    assert graph.operator_index
    assert pickle.loads(pickle.dumps(graph)) == graph == copy.deepcopy(graph)


@given(graphs())
def test_producers_and_consumers_are_those_of_the_operators(graph: Graph) -> None:
    for tensor in graph.tensors:
        producer = graph.producer(tensor)
        assert [producer] == ([operator for operator in graph if tensor in operator.outputs] or [None])
        assert graph.consumers(tensor) == tuple(operator for operator in graph if tensor in operator.inputs)


@given(graphs())
def test_the_given_order_is_one_of_the_topological_orders(graph: Graph) -> None:
    orders = list(topological_orders(graph, limit=300))
    given_order = tuple(operator.name for operator in graph)
    assert len(orders) == 300 or given_order in orders


def test_toys_are_graphs(toy: Graph) -> None:
    assert toy.operators[-1].outputs == (f"t{len(toy) - 1}",)
    assert toy.tensors[f"t{len(toy) - 1}"].kind == TensorKind.OUTPUT


# defects


def test_a_cycle_is_named() -> None:
    operators = [
        {"name": "a", "inputs": ["z"], "outputs": ["y"]},
        {"name": "b", "inputs": ["y"], "outputs": ["z"]},
    ]
    assert defects(document(operators=operators)) == ['operators: form a cycle: "a" -> "b" -> "a"']


def test_an_operator_that_reads_its_own_output_is_a_cycle() -> None:
    (line,) = defects(document(operators=[{"name": "a", "inputs": ["z"], "outputs": ["y", "z"]}]))
    assert line == 'operators: form a cycle: "a" -> "a"'


def test_an_order_that_is_not_topological_names_both_operators() -> None:
    (line,) = defects(document(operators=document()["operators"][::-1]))
    assert line == 'operators[0] "head": reads "y", which operators[1] "conv" produces later; operators must stand in topological order'


def test_two_producers_are_both_named() -> None:
    operators = [*document()["operators"], {"name": "again", "inputs": ["x"], "outputs": ["y"]}]
    assert defects(document(operators=operators)) == ['operators[2] "again": writes "y", which operators[0] "conv" writes too']


def test_an_unknown_tensor_comes_with_the_near_name() -> None:
    tensors = [{"name": "hidden", "size_bytes": 1}, {"name": "z", "size_bytes": 1, "kind": "output"}]
    operators = [{"name": "a", "outputs": ["hidden"]}, {"name": "b", "inputs": ["hiden"], "outputs": ["z"]}]
    (line,) = defects(document(tensors=tensors, operators=operators))
    assert line == 'operators[1] "b": reads "hiden", which is no tensor; did you mean "hidden"?'


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (0, "size_bytes must be > 0, got 0"),
        (-4, "size_bytes must be > 0, got -4"),
        (True, "size_bytes: must be a whole number"),
        (12.0, "size_bytes: must be a whole number"),
        ("12", "size_bytes: must be a whole number"),
        (None, "size_bytes: must be a whole number"),
    ],
)
def test_a_size_must_be_a_whole_positive_number(size: object, message: str) -> None:
    (line,) = defects(document(tensors=[{"name": "x", "size_bytes": size, "kind": "input"}, *document()["tensors"][1:]]))
    assert message in line


def test_every_defect_of_a_file_is_reported_at_once() -> None:
    tensors = [
        {"name": "x", "size_bytes": 0, "kind": "input"},
        {"name": "y", "size_bytes": 2},
        {"name": "y", "size_bytes": 2},
        {"name": "lonely", "size_bytes": 1, "kind": "output"},
    ]
    operators = [
        {"name": "a", "inputs": ["nobody"], "outputs": ["y"]},
        {"name": "a", "inputs": ["y"], "outputs": ["y", "x"]},
    ]
    text = "\n".join(defects(document(tensors=tensors, operators=operators)))
    for part in [
        "must be > 0",
        "an earlier tensor",
        'reads "nobody"',
        "name of operators[0]",
        "writes too",
        "of kind input",
        "no operator writes it",
    ]:
        assert part in text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "must be an object"),
        ({}, "schema: must be"),
        (document(schema="cosma-sched/graph/2"), 'got "cosma-sched/graph/2"'),
        (document(operators=[]), "the graph has no operators"),
        (document(tensors=3), "tensors: must be a list, got 3"),
        (document(extra=1), "extra: unknown field"),
        (document(tensors=[{"name": "x"}]), "tensors[0].size_bytes: is missing"),
        (document(operators=[{"inputs": []}]), "operators[0].name: is missing"),
        (document(tensors=[{"name": "", "size_bytes": 1}]), "tensors[0].name: must not be empty"),
        (document(tensors=[{"name": "x", "size_bytes": 1, "kind": "weight"}]), "tensors[0].kind: must be"),
        (document(tensors=[{"name": "x", "size_bytes": 1, "shape": [0]}]), "tensors[0].shape[0]: must be > 0, got 0"),
    ],
)
def test_the_form_of_a_document_is_checked(content: object, message: str) -> None:
    assert any(message in line for line in defects(content))


def test_a_name_with_line_breaks_stays_on_one_line() -> None:
    assert len(defects(document(operators=[{"name": "a\nb", "inputs": ["q\nr"]}]))) == 3


@pytest.mark.parametrize(
    "content", [b"", b"{", b"null", b"[1]", b'"text"', b"\xff", b'{"schema": "cosma-sched/graph/1", "schema": "cosma-sched/graph/1"}']
)
def test_what_is_no_document_is_an_input_error(content: bytes) -> None:
    with pytest.raises(InputError, match=r"toy\.json"):
        Graph.from_json(content, "toy.json")


def test_thousands_of_defects_are_reported_in_short() -> None:
    operators = [{"name": f"op{i}", "inputs": [f"missing{i}"], "outputs": []} for i in range(3000)]
    lines = defects(document(operators=operators))
    assert len(lines) == 21
    assert "more" in lines[-1]


# in Python


def test_a_tensor_takes_the_integers_of_numpy() -> None:
    tensor = Tensor("a", np.int64(5))  # type: ignore[arg-type]
    assert type(tensor.size_bytes) is int
    with pytest.raises(InputError, match="whole number"):
        Graph([Tensor("a", 5.0, "output")], [Operator("op", "Op", (), ("a",))])  # type: ignore[arg-type]


def test_operands_may_be_given_as_lists() -> None:
    operator = Operator("op", "Op", ["a"], ["b"])  # type: ignore[arg-type]
    assert operator == Operator("op", "Op", ("a",), ("b",))
    assert hash(operator)


def test_an_operand_may_stand_twice_and_counts_as_one_edge() -> None:
    graph = Graph([Tensor("x", 1, "input"), Tensor("y", 1, "output")], [Operator("square", "Mul", ("x", "x"), ("y",))])
    assert graph.consumers("x") == (graph.operators[0],)
    assert graph.to_networkx().number_of_edges() == 2


def test_a_graph_is_compared_by_value_and_its_origin_takes_no_part(small: Graph) -> None:
    moved = small.with_origin(Origin("small.json", "ab"))
    assert moved == small
    assert hash(moved) == hash(small)
    assert moved.sha256 == "ab" != small.sha256
    assert small != Graph(small.tensors.values(), small.operators, name="other")


def test_the_digest_of_a_graph_built_in_python_does_not_depend_on_the_run(small: Graph) -> None:
    code = f"import json, cosma_sched as cs; print(cs.Graph.from_json(json.loads({json.dumps(json.dumps(small.to_json()))})).sha256)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == small.sha256


def test_tensors_cannot_be_changed_from_outside(small: Graph) -> None:
    with pytest.raises(TypeError):
        small.tensors["x"] = Tensor("x", 1)  # type: ignore[index]
    small.to_networkx().remove_node(("tensor", "x"))
    assert "x" in small.tensors


# networkx


def test_a_plain_digraph_is_a_graph_of_operators() -> None:
    digraph: nx.DiGraph[Any] = nx.DiGraph(name="plain")
    digraph.add_node("b", size_bytes=2, type="Relu")
    digraph.add_node("a", size_bytes=np.int32(3))
    digraph.add_edge("a", "b")
    graph = Graph.from_networkx(digraph)
    assert graph.name == "plain"
    assert [operator.name for operator in graph] == ["a", "b"]
    assert [tensor.kind for tensor in graph.tensors.values()] == ["activation", "output"]
    assert graph.operators[1].type == "Relu"


def test_a_digraph_without_sizes_names_every_node() -> None:
    digraph: nx.DiGraph[Any] = nx.DiGraph([("a", "b")])
    with pytest.raises(InputError) as caught:
        Graph.from_networkx(digraph, name="sizes")
    assert str(caught.value).splitlines() == [f'sizes: node "{name}": has no attribute size_bytes' for name in "ab"]


def test_a_cyclic_digraph_is_refused() -> None:
    with pytest.raises(InputError, match="cycle: a -> b -> a"):
        Graph.from_networkx(nx.DiGraph([("a", "b"), ("b", "a")]))


def test_a_digraph_whose_edges_contradict_its_operators_is_refused(small: Graph) -> None:
    """An edge that was removed used to come back without a word."""
    digraph = small.to_networkx()
    digraph.remove_edge(("tensor", "a"), ("operator", "last"))
    with pytest.raises(InputError, match="nodes and edges"):
        Graph.from_networkx(digraph)


@pytest.mark.parametrize("kind", [nx.Graph, nx.MultiDiGraph])
def test_only_a_digraph_is_taken(kind: type[Any]) -> None:
    with pytest.raises(InputError, match="DiGraph"):
        Graph.from_networkx(kind([("a", "b")]))
