"""What is refused before any shape is looked at: files that are no models, unsound names and orders, control flow."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cosma_sched.errors import InputError
from cosma_sched.frontends.onnx_document import MAX_VALUES, read_document
from tests.frontends.onnx_models import constant, edges, model, node, read, types, value, weight


def refused(content: bytes | onnx.ModelProto) -> str:
    """Return the message with which a file is refused."""
    data = content if isinstance(content, bytes) else content.SerializeToString()
    with pytest.raises(InputError) as caught:
        read_document("net.onnx", data)
    return str(caught.value)


def chain() -> onnx.ModelProto:
    return model([node("Relu", ["x"], ["a"]), node("Tanh", ["a"], ["y"])], {"x": [1, 4]}, ["y"])


def test_an_empty_file_is_refused() -> None:
    assert refused(b"") == "net.onnx: is empty"


@pytest.mark.parametrize("content", [b"hello world, this is no model", b"\x00" * 100, b'{"schema": 1}'])
def test_garbage_is_refused(content: bytes) -> None:
    assert "is no ONNX file, or is truncated or damaged" in refused(content)


def test_every_truncation_is_refused() -> None:
    proto = chain()
    del proto.opset_import[1:]  # a file that is cut between two operator sets is whole again
    content = proto.SerializeToString()
    for length in range(len(content)):
        with pytest.raises(InputError):
            read_document("net.onnx", content[:length])


def test_a_file_cut_between_graph_and_operator_sets_is_said_to_be_truncated() -> None:
    proto = chain()
    del proto.opset_import[:]
    assert refused(proto) == "net.onnx: opset_import: names no operator set version; the file is truncated or damaged"


def test_a_graph_without_outputs_is_refused() -> None:
    proto = chain()
    del proto.graph.output[:]
    assert "has no graph outputs" in refused(proto)


def test_names_that_are_no_text_are_refused() -> None:
    content = chain().SerializeToString().replace(b"Tanh", b"Ta\xffh")
    assert refused(content) == "net.onnx: holds names that are not UTF-8; it is damaged"


def test_a_cycle_is_named() -> None:
    proto = model([node("Add", ["x", "b"], ["a"], "one"), node("Relu", ["a"], ["b"], "two")], {"x": [4]}, ["b"])
    assert 'form a cycle: "' in refused(proto)
    assert '"one" -> "two"' in refused(proto)


def test_a_node_before_the_one_it_reads_is_refused() -> None:
    proto = model([node("Relu", ["a"], ["y"], "late"), node("Tanh", ["x"], ["a"], "early")], {"x": [4]}, ["y"])
    message = 'net.onnx: node "late" (Relu): reads "a", which node "early" (Tanh) writes later; nodes must stand in topological order'
    assert refused(proto) == message


def test_every_unsound_name_is_reported_at_once() -> None:
    proto = model(
        [
            node("Relu", ["x"], ["a"], "one"),
            node("Tanh", ["x"], ["a"], "two"),
            node("Relu", ["a"], ["x"], "three"),
            node("Add", ["a", "ghost"], ["b"], "four"),
        ],
        [value("x", [4]), value("x", [4])],
        ["b", "nothing"],
        initializers=[weight("w", 4), weight("w", 4)],
    )
    assert refused(proto).splitlines() == [
        'net.onnx: input "x": stands twice; names must be unique',
        'net.onnx: initializer "w": stands twice; names must be unique',
        'net.onnx: node "two" (Tanh): writes "a", which node "one" (Relu) writes too',
        'net.onnx: node "three" (Relu): writes "x", which is an input or initializer of the graph',
        'net.onnx: node "four" (Add): reads "ghost", which nothing in the file defines',
        'net.onnx: output "nothing": no node writes it',
    ]


def test_control_flow_is_refused_with_its_name() -> None:
    body = helper.make_graph([node("Relu", ["x"], ["b"])], "body", [], [value("b", [4])])
    proto = model(
        [node("If", ["c"], ["y"], "/cond", then_branch=body, else_branch=body)],
        [value("c", [], TensorProto.BOOL), value("x", [4])],
        ["y"],
    )
    assert refused(proto).startswith('net.onnx: node "/cond" (If): is control flow')


@pytest.mark.parametrize("kind", ["Loop", "Scan"])
def test_loops_are_refused_by_their_type(kind: str) -> None:
    assert f'node "l0" ({kind}): is control flow' in refused(model([node(kind, ["x"], ["y"], "l0")], {"x": [4]}, ["y"]))


def test_a_nameless_node_is_called_after_its_output() -> None:
    graph = read(chain())
    assert [operator.name for operator in graph.operators] == ["a", "y"]


def test_node_names_that_stand_twice_are_told_apart() -> None:
    proto = model(
        [node("Relu", ["x"], ["a"], "n"), node("Tanh", ["a"], ["b"], "n"), node("Exp", ["b"], ["n"]), node("Sin", ["n"], ["y"], "n")],
        {"x": [4]},
        ["y"],
    )
    assert [operator.name for operator in read(proto).operators] == ["n", "n:b", "n:2", "n:y"]


def test_initializers_among_the_inputs_are_parameters() -> None:
    """Files before IR version 4 list every initializer as an input too."""
    proto = model([node("Add", ["x", "w"], ["y"])], {"x": [4], "w": [4]}, ["y"], initializers=[constant("w", [1, 2, 3, 4], np.float32)])
    assert {name: str(tensor.kind) for name, tensor in read(proto).tensors.items()} == {"x": "input", "w": "parameter", "y": "output"}


def test_large_initializers_lose_their_values_and_keep_their_shape() -> None:
    big = numpy_helper.from_array(np.zeros((MAX_VALUES + 1,), np.float32), "w")
    small = numpy_helper.from_array(np.zeros((MAX_VALUES,), np.float32), "v")
    nodes = [node("Mul", ["x", "w"], ["a"]), node("Mul", ["z", "v"], ["b"])]
    proto = model(nodes, {"x": [1], "z": [1]}, ["a", "b"], initializers=[big, small])
    document = read_document("net.onnx", proto.SerializeToString())
    assert [len(document.initializers[name].raw_data) for name in "wv"] == [0, 4 * MAX_VALUES]
    assert read(proto).tensors["w"].size_bytes == 4 * (MAX_VALUES + 1)


def test_external_data_that_is_not_there_is_not_missed() -> None:
    proto = model([node("MatMul", ["x", "w"], ["y"])], {"x": [1, 8]}, ["y"], initializers=[weight("w", 8, 3)])
    assert read(proto).tensors["y"].shape == (1, 3)


def test_initializers_whose_values_were_taken_out_are_not_missed() -> None:
    emptied = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[8, 3])
    assert read(model([node("MatMul", ["x", "w"], ["y"])], {"x": [1, 8]}, ["y"], initializers=[emptied])).tensors["y"].shape == (1, 3)


def test_a_sparse_initializer_is_a_parameter_of_its_dense_size() -> None:
    proto = model([node("Add", ["x", "w"], ["y"])], {"x": [4]}, ["y"])
    sparse = proto.graph.sparse_initializer.add(dims=[4])
    sparse.values.CopyFrom(constant("w", [1.0], np.float32))
    sparse.indices.CopyFrom(constant("w_indices", [2]))
    assert read(proto).tensors["w"].size_bytes == 16


def test_nodes_that_no_output_needs_are_left_out() -> None:
    proto = model([node("Relu", ["x"], ["dead"]), node("Tanh", ["x"], ["y"])], {"x": [4]}, ["y"])
    assert types(read(proto)) == ["Tanh"]


def test_local_functions_are_written_out() -> None:
    body = [node("Relu", ["a"], ["t"]), node("Tanh", ["t"], ["b"])]
    function = helper.make_function("com.example", "Twice", ["a"], ["b"], body, [helper.make_opsetid("", 18)])
    proto = model([node("Twice", ["x"], ["y"], domain="com.example")], {"x": [4]}, ["y"], functions=[function])
    graph = read(proto)
    assert types(graph) == ["Relu", "Tanh"]
    assert edges(graph)[-1][2] == ("y",)
