"""Rules 2 to 4: constants and host data, views, and what nobody needs."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from cosma_sched.errors import InputError
from tests.frontends.onnx_models import constant, data_edges, edges, model, node, read, types, value, weight

# Constants and host data


def test_nodes_over_constants_only_yield_a_parameter() -> None:
    nodes = [node("Add", ["v", "w"], ["sum"]), node("Mul", ["x", "sum"], ["y"])]
    graph = read(model(nodes, {"x": [4]}, ["y"], initializers=[weight("v", 4), weight("w", 4)]))
    assert edges(graph) == [("Mul", ("x", "sum"), ("y",))]
    assert str(graph.tensors["sum"].kind) == "parameter"


def test_constant_nodes_are_parameters() -> None:
    nodes = [node("Constant", [], ["c"], value_float=2.0), node("Mul", ["x", "c"], ["y"])]
    assert edges(read(model(nodes, {"x": [4]}, ["y"]))) == [("Mul", ("x", "c"), ("y",))]


def test_a_transposed_weight_is_the_weight_so_that_tied_weights_are_one_tensor() -> None:
    nodes = [
        node("Transpose", ["w"], ["wt"], perm=[1, 0]),
        node("Gather", ["w", "ids"], ["e"]),
        node("MatMul", ["e", "wt"], ["y"]),
    ]
    graph = read(model(nodes, [value("ids", [3], TensorProto.INT64)], ["y"], initializers=[weight("w", 10, 4)]), views="strict")
    assert edges(graph) == [("Gather", ("w", "ids"), ("e",)), ("MatMul", ("e", "w"), ("y",))]
    assert graph.operators[1].attributes["input_shapes"] == [[3, 4], [4, 10]]


def test_a_slice_of_a_weight_is_a_parameter_of_its_own_size() -> None:
    limits = [constant("start", [0]), constant("end", [2])]
    nodes = [node("Slice", ["w", "start", "end"], ["part"]), node("MatMul", ["x", "part"], ["y"])]
    graph = read(model(nodes, {"x": [1, 2]}, ["y"], initializers=[weight("w", 8, 3), *limits]))
    assert (graph.tensors["part"].size_bytes, str(graph.tensors["part"].kind)) == (24, "parameter")


def test_a_shape_is_no_data_edge() -> None:
    """FCN resizes to the shape of its input: with a false edge the input stays alive to the end."""
    nodes = [
        node("Relu", ["x"], ["a"]),
        node("Shape", ["x"], ["s"]),
        node("Resize", ["a", "", "", "s"], ["y"], mode="nearest"),
    ]
    assert edges(read(model(nodes, {"x": [1, 3, 4, 4]}, ["y"]))) == [("Relu", ("x",), ("a",)), ("Resize", ("a",), ("y",))]


def test_an_operator_that_only_lends_its_shape_vanishes() -> None:
    nodes = [
        node("Tanh", ["x"], ["shaped"]),
        node("Shape", ["shaped"], ["s"]),
        node("Reshape", ["x", "s"], ["a"]),
        node("Relu", ["a"], ["y"]),
    ]
    assert types(read(model(nodes, {"x": [4]}, ["y"]))) == ["Relu"]


def test_what_is_computed_from_a_shape_vanishes() -> None:
    nodes = [
        node("Shape", ["w"], ["s"], start=0, end=1),
        node("Constant", [], ["zero"], value_float=0.0),
        node("CastLike", ["zero", "x"], ["typed"]),
        node("Expand", ["typed", "s"], ["bias"]),
        node("Conv", ["x", "w", "bias"], ["y"]),
    ]
    graph = read(model(nodes, {"x": [1, 3, 4, 4]}, ["y"], initializers=[weight("w", 5, 3, 1, 1)]))
    assert edges(graph) == [("Conv", ("x", "w"), ("y",))]


def test_the_second_input_of_castlike_is_a_type() -> None:
    nodes = [node("CastLike", ["c", "x"], ["k"]), node("Add", ["x", "k"], ["y"])]
    graph = read(model(nodes, {"x": [4]}, ["y"], initializers=[constant("c", 1)]))
    assert edges(graph) == [("Add", ("x", "k"), ("y",))]
    assert str(graph.tensors["k"].kind) == "parameter"


def test_random_numbers_are_no_constants() -> None:
    nodes = [node("RandomNormal", [], ["r"], shape=[4]), node("Add", ["x", "r"], ["y"])]
    assert data_edges(read(model(nodes, {"x": [4]}, ["y"]))) == [("RandomNormal", (), ("r",)), ("Add", ("x", "r"), ("y",))]


def test_an_output_known_before_the_network_runs_is_no_tensor() -> None:
    nodes = [node("Relu", ["x"], ["y"]), node("Shape", ["x"], ["s"]), node("Identity", ["w"], ["k"])]
    assert list(read(model(nodes, {"x": [4]}, ["y", "s", "k"], initializers=[weight("w", 4)])).tensors) == ["x", "y"]


# Views

WHOLE = [
    ("Identity", [], {}),
    ("Dropout", [], {}),
    ("Reshape", [constant("c0", [3, 2, 1])], {}),
    ("Flatten", [], {}),
    ("Squeeze", [constant("c0", [0])], {}),
    ("Unsqueeze", [constant("c0", [0])], {}),
    ("Transpose", [], {"perm": [0, 2, 1]}),
    ("Cast", [], {"to": int(TensorProto.INT32)}),
    ("Expand", [constant("c0", [1, 2, 3])], {}),
]
PARTIAL = [
    ("Slice", [constant("c0", [0]), constant("c1", [1]), constant("c2", [1])], {}),
    ("Gather", [constant("c0", 1)], {"axis": 1}),
]


def looking(kind: str, arguments: list[onnx.TensorProto], attributes: dict[str, object]) -> onnx.ModelProto:
    """Tanh, then a view, then Softmax: who reads the view reads what Tanh writes."""
    nodes = [
        node("Tanh", ["x"], ["a"]),
        node(kind, ["a", *(argument.name for argument in arguments)], ["v"], **attributes),
        node("Sin", ["v"], ["y"]),
    ]
    return model(nodes, {"x": [1, 2, 3]}, ["y"], initializers=arguments)


@pytest.mark.parametrize(("kind", "arguments", "attributes"), [*WHOLE, *PARTIAL])
def test_who_reads_a_view_reads_the_tensor(kind: str, arguments: list[onnx.TensorProto], attributes: dict[str, object]) -> None:
    graph = read(looking(kind, arguments, attributes))
    assert edges(graph) == [("Tanh", ("x",), ("a",)), ("Sin", ("a",), ("y",))]


@pytest.mark.parametrize(("kind", "arguments", "attributes"), [*PARTIAL, WHOLE[6]])
def test_strict_views_are_operators(kind: str, arguments: list[onnx.TensorProto], attributes: dict[str, object]) -> None:
    graph = read(looking(kind, arguments, attributes), views="strict")
    assert [edge[0] for edge in data_edges(graph)] == ["Tanh", kind, "Sin"]


@pytest.mark.parametrize(("kind", "arguments", "attributes"), [case for case in WHOLE if case[0] != "Transpose"])
def test_views_that_leave_every_byte_in_place_stay_views(
    kind: str, arguments: list[onnx.TensorProto], attributes: dict[str, object]
) -> None:
    assert types(read(looking(kind, arguments, attributes), views="strict")) == ["Tanh", "Sin"]


def test_a_reader_knows_the_shape_in_which_it_sees_the_tensor() -> None:
    graph = read(looking("Transpose", [], {"perm": [0, 2, 1]}))
    step = {"type": "Transpose", "perm": [0, 2, 1], "shape": [1, 3, 2]}
    assert graph.operators[1].attributes == {"input_shapes": [[1, 3, 2]], "input_views": [[step]]}
    assert graph.operators[0].attributes == {}


def test_views_of_views_are_views_of_the_tensor() -> None:
    nodes = [
        node("Transpose", ["x"], ["a"], perm=[1, 0]),
        node("Slice", ["a", "start", "end"], ["b"]),
        node("Identity", ["b"], ["c"]),
        node("Relu", ["c"], ["y"]),
    ]
    graph = read(model(nodes, {"x": [4, 6]}, ["y"], initializers=[constant("start", [1]), constant("end", [3])]))
    assert edges(graph) == [("Relu", ("x",), ("y",))]
    assert graph.tensors["y"].shape == (2, 4)


def test_a_cast_to_another_width_is_an_operator() -> None:
    assert types(read(looking("Cast", [], {"to": int(TensorProto.FLOAT16)}))) == ["Tanh", "Cast", "Sin"]


def test_the_width_of_a_cast_is_the_one_in_effect() -> None:
    assert types(read(looking("Cast", [], {"to": int(TensorProto.FLOAT16)}), dtype="int8")) == ["Tanh", "Sin"]
    assert types(read(looking("Cast", [], {"to": int(TensorProto.INT32)}), dtype="int8")) == ["Tanh", "Cast", "Sin"]


def test_an_expand_that_grows_is_an_operator() -> None:
    assert types(read(looking("Expand", [constant("c0", [4, 2, 3])], {}))) == ["Tanh", "Expand", "Sin"]


def test_a_gather_that_grows_is_an_operator() -> None:
    assert types(read(looking("Gather", [constant("c0", [0, 1, 0])], {"axis": 1}))) == ["Tanh", "Gather", "Sin"]


def test_a_gather_at_indices_that_are_data_is_an_operator() -> None:
    proto = model([node("Gather", ["x", "i"], ["y"])], [value("x", [4]), value("i", [2], TensorProto.INT64)], ["y"])
    assert edges(read(proto)) == [("Gather", ("x", "i"), ("y",))]


def test_a_dropout_whose_mask_is_read_is_an_operator() -> None:
    nodes = [node("Dropout", ["x"], ["a", "mask"]), node("Relu", ["a"], ["y"]), node("Not", ["mask"], ["z"])]
    assert types(read(model(nodes, {"x": [4]}, ["y", "z"]))) == ["Dropout", "Relu", "Not"]


def split(inputs: list[str], initializers: list[onnx.TensorProto]) -> onnx.ModelProto:
    nodes = [node("Tanh", ["x"], ["a"]), node("Split", inputs, ["p", "q"], axis=0), node("Add", ["p", "q"], ["y"])]
    return model(nodes, {"x": [4, 3]}, ["y"], initializers=initializers, opset=13)


def test_the_parts_of_a_split_keep_the_whole_alive() -> None:
    graph = read(split(["a"], []))
    assert edges(graph) == [("Tanh", ("x",), ("a",)), ("Add", ("a", "a"), ("y",))]


def test_a_strict_split_writes_its_parts() -> None:
    graph = read(split(["a", "sizes"], [constant("sizes", [2, 2])]), views="strict")
    assert data_edges(graph) == [("Tanh", ("x",), ("a",)), ("Split", ("a",), ("p", "q")), ("Add", ("p", "q"), ("y",))]


def sequence(index: int = 1) -> onnx.ModelProto:
    """Tanh, SplitToSequence, two SequenceAt at the same index and one at 0: what torch.chunk becomes."""
    nodes = [
        node("Tanh", ["x"], ["a"]),
        node("SplitToSequence", ["a", "sizes"], ["s"], axis=1),
        node("SequenceAt", ["s", "i"], ["p"]),
        node("SequenceAt", ["s", "zero"], ["q"]),
        node("SequenceAt", ["s", "i"], ["r"]),
        node("Concat", ["p", "q", "r"], ["y"], axis=1),
    ]
    return model(nodes, {"x": [2, 5]}, ["y"], initializers=[constant("sizes", [2, 3]), constant("i", index), constant("zero", 0)])


def test_what_is_taken_out_of_a_split_sequence_is_a_view() -> None:
    graph = read(sequence())
    assert edges(graph) == [("Tanh", ("x",), ("a",)), ("Concat", ("a", "a", "a"), ("y",))]
    assert graph.operators[1].attributes["input_shapes"] == [[2, 3], [2, 2], [2, 3]]


def test_a_strict_split_sequence_writes_each_part_once() -> None:
    graph = read(sequence(), views="strict")
    assert data_edges(graph)[1:] == [("SplitToSequence", ("a",), ("p", "q")), ("Concat", ("p", "q", "p"), ("y",))]


def test_a_sequence_used_in_another_way_is_refused() -> None:
    nodes = [node("SplitToSequence", ["x"], ["s"], "cut"), node("ConcatFromSequence", ["s"], ["y"], axis=0)]
    with pytest.raises(InputError, match='node "cut" \\(SplitToSequence\\): makes a sequence of tensors'):
        read(model(nodes, {"x": [4]}, ["y"], declared=[value("y", [4])]))


# Outputs, and what nobody needs


def test_an_output_that_is_a_view_makes_its_tensor_the_output() -> None:
    graph = read(model([node("Tanh", ["x"], ["a"]), node("Flatten", ["a"], ["y"])], {"x": [2, 3]}, ["y"]))
    assert {name: str(tensor.kind) for name, tensor in graph.tensors.items()} == {"x": "input", "a": "output"}


def test_an_output_that_is_a_view_of_an_input_keeps_the_kind_input() -> None:
    graph = read(model([node("Relu", ["x"], ["y"]), node("Flatten", ["x"], ["same"])], {"x": [2, 3]}, ["y", "same"]))
    assert {name: str(tensor.kind) for name, tensor in graph.tensors.items()} == {"x": "input", "y": "output"}


def test_an_output_that_is_read_inside_is_an_output() -> None:
    graph = read(model([node("Tanh", ["x"], ["a"]), node("Sin", ["a"], ["y"])], {"x": [4]}, ["a", "y"]))
    assert str(graph.tensors["a"].kind) == "output"


def test_secondary_outputs_that_nobody_reads_are_dropped() -> None:
    nodes = [node("MaxPool", ["x"], ["y", "indices"], kernel_shape=[2, 2])]
    assert edges(read(model(nodes, {"x": [1, 1, 4, 4]}, ["y"]))) == [("MaxPool", ("x",), ("y",))]


def test_a_secondary_output_that_is_read_stays() -> None:
    nodes = [node("TopK", ["x", "k"], ["values", "indices"]), node("Cast", ["indices"], ["y"], to=1)]
    graph = read(model(nodes, {"x": [8]}, ["y"], initializers=[constant("k", [3])]))
    assert data_edges(graph)[0] == ("TopK", ("x",), ("values", "indices"))


def test_arguments_that_are_left_out_do_not_appear() -> None:
    nodes = [node("Clip", ["x", "", "top"], ["y"])]
    assert edges(read(model(nodes, {"x": [4]}, ["y"], initializers=[constant("top", 6, np.float32)]))) == [("Clip", ("x", "top"), ("y",))]


def test_an_attention_node_stays_one_operator() -> None:
    proto = model([node("Attention", ["q", "k", "v"], ["y"])], {name: [1, 8, 16, 64] for name in "qkv"}, ["y"], opset=23)
    assert edges(read(proto)) == [("Attention", ("q", "k", "v"), ("y",))]


def test_operators_keep_type_name_and_attributes() -> None:
    made = node("Conv", ["x", "w"], ["y"], "/stem/conv", strides=[2, 2], pads=[1, 1, 1, 1], group=1)
    operator = read(model([made], {"x": [1, 3, 8, 8]}, ["y"], initializers=[weight("w", 4, 3, 3, 3)])).operators[0]
    assert (operator.name, operator.type, operator.inputs) == ("/stem/conv", "Conv", ("x", "w"))
    assert operator.attributes == {"strides": [2, 2], "pads": [1, 1, 1, 1], "group": 1}
