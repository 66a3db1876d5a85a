"""Rule 5: which operators join a neighbour, at which level, and what the merged operator looks like."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from tests.frontends.onnx_models import constant, data_edges, edges, model, node, read, types, value, weight

VECTORS = [weight(name, 4) for name in ("scale", "shift", "mean", "var")]
NORM = ["scale", "shift", "mean", "var"]
IMAGE = {"x": [1, 3, 8, 8]}


def convolution(after: list[onnx.NodeProto], outputs: list[str], **options: object) -> onnx.ModelProto:
    """Conv without bias from x to c, then what the caller adds."""
    parameters = [
        weight("w", 4, 3, 1, 1),
        *VECTORS,
        constant("k", 2.0, np.float32),
        constant("per_channel", np.ones((4, 1, 1)), np.float32),
    ]
    return model([node("Conv", ["x", "w"], ["c"], "conv", strides=[1, 1]), *after], IMAGE, outputs, initializers=parameters, **options)  # type: ignore[arg-type]


def conv_norm_relu() -> onnx.ModelProto:
    return convolution([node("BatchNormalization", ["c", *NORM], ["n"], "norm"), node("Relu", ["n"], ["y"], "relu")], ["y"])


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("none", ["Conv", "BatchNormalization", "Relu"]),
        ("batchnorm", ["Conv", "Relu"]),
        ("elementwise", ["Conv"]),
        ("prologue", ["Conv"]),
    ],
)
def test_each_level_folds_more(level: str, expected: list[str]) -> None:
    assert types(read(conv_norm_relu(), fold=level)) == expected


def test_a_merged_operator_keeps_its_main_node_and_lists_the_folded_ones() -> None:
    operator = read(conv_norm_relu(), fold="elementwise").operators[0]
    assert (operator.name, operator.type, operator.outputs) == ("conv", "Conv", ("y",))
    assert operator.attributes["strides"] == [1, 1]
    assert operator.attributes["folded"] == [
        {"name": "norm", "type": "BatchNormalization", "inputs": ["shift"]},
        {"name": "relu", "type": "Relu", "inputs": []},
    ]


def test_normalisation_folded_into_a_convolution_leaves_one_bias() -> None:
    assert read(conv_norm_relu(), fold="batchnorm").operators[0].inputs == ("x", "w", "shift")


def test_normalisation_folded_into_a_convolution_with_a_bias_leaves_nothing() -> None:
    nodes = [node("Conv", ["x", "w", "b"], ["c"]), node("BatchNormalization", ["c", *NORM], ["y"])]
    proto = model(nodes, IMAGE, ["y"], initializers=[weight("w", 4, 3, 1, 1), weight("b", 4), *VECTORS])
    assert read(proto, fold="batchnorm").operators[0].inputs == ("x", "w", "b")


def test_normalisation_after_anything_else_folds_at_elementwise_only() -> None:
    nodes = [node("MaxPool", ["x"], ["p"], kernel_shape=[2, 2]), node("BatchNormalization", ["p", *NORM], ["y"])]
    proto = model(nodes, {"x": [1, 4, 8, 8]}, ["y"], initializers=VECTORS)
    assert types(read(proto, fold="batchnorm")) == ["MaxPool", "BatchNormalization"]
    assert edges(read(proto, fold="elementwise")) == [("MaxPool", ("x", *NORM), ("y",))]


@pytest.mark.parametrize("kind", ["Relu", "Clip", "Sigmoid", "HardSigmoid", "HardSwish", "Gelu", "Tanh", "LeakyRelu", "Erf", "Sqrt", "Exp"])
def test_unary_functions_join_their_producer(kind: str) -> None:
    assert types(read(convolution([node(kind, ["c"], ["y"])], ["y"], opset=20), fold="elementwise")) == ["Conv"]


@pytest.mark.parametrize("kind", ["Add", "Sub", "Mul", "Div", "Pow", "PRelu"])
def test_arithmetic_with_a_constant_joins_its_producer(kind: str) -> None:
    graph = read(convolution([node(kind, ["c", "per_channel"], ["y"])], ["y"]), fold="elementwise")
    assert edges(graph) == [("Conv", ("x", "w", "per_channel"), ("y",))]


def test_the_constant_may_stand_first() -> None:
    assert types(read(convolution([node("Sub", ["k", "c"], ["y"])], ["y"]), fold="elementwise")) == ["Conv"]


def test_host_data_is_a_constant_too() -> None:
    nodes = [node("Size", ["x"], ["s"]), node("Cast", ["s"], ["f"], to=1), node("Div", ["c", "f"], ["y"])]
    assert types(read(convolution(nodes, ["y"]), fold="elementwise")) == ["Conv"]


@pytest.mark.parametrize("kind", ["Softmax", "Sin", "Neg", "GlobalAveragePool"])
def test_other_functions_do_not_fold(kind: str) -> None:
    assert types(read(convolution([node(kind, ["c"], ["y"])], ["y"]), fold="elementwise")) == ["Conv", kind]


def test_arithmetic_on_two_activations_does_not_fold() -> None:
    after = [node("Relu", ["x"], ["r"]), node("Conv", ["r", "w"], ["d"]), node("Add", ["c", "d"], ["y"])]
    assert types(read(convolution(after, ["y"]), fold="elementwise")) == ["Conv", "Relu", "Conv", "Add"]


def test_a_tensor_times_itself_does_not_fold() -> None:
    assert types(read(convolution([node("Mul", ["c", "c"], ["y"])], ["y"]), fold="elementwise")) == ["Conv", "Mul"]


def test_a_tensor_that_somebody_else_reads_stays() -> None:
    after = [node("Relu", ["c"], ["r"]), node("Add", ["r", "c"], ["y"])]
    assert types(read(convolution(after, ["y"]), fold="elementwise")) == ["Conv", "Relu", "Add"]


def test_a_view_counts_as_a_reader() -> None:
    after = [node("Relu", ["c"], ["r"]), node("Flatten", ["c"], ["v"]), node("Softmax", ["v"], ["z"])]
    assert types(read(convolution(after, ["r", "z"]), fold="elementwise")) == ["Conv", "Relu", "Softmax"]


def test_a_graph_output_stays() -> None:
    assert types(read(convolution([node("Relu", ["c"], ["y"])], ["y", "c"]), fold="elementwise")) == ["Conv", "Relu"]


def test_an_operator_that_reads_an_input_has_no_producer_to_join() -> None:
    assert types(read(model([node("Relu", ["x"], ["a"]), node("Exp", ["a"], ["y"])], {"x": [4]}, ["y"]), fold="elementwise")) == ["Relu"]


def test_an_operator_that_grows_its_input_does_not_fold() -> None:
    nodes = [node("GlobalAveragePool", ["x"], ["p"]), node("Add", ["p", "b"], ["y"])]
    proto = model(nodes, IMAGE, ["y"], initializers=[weight("b", 1, 3, 8, 8)])
    assert types(read(proto, fold="elementwise")) == ["GlobalAveragePool", "Add"]


def test_an_operator_on_part_of_a_tensor_does_not_fold() -> None:
    after = [node("Slice", ["c", "start", "end", "axis"], ["part"]), node("Relu", ["part"], ["y"])]
    proto = convolution(after, ["y"])
    proto.graph.initializer.extend([constant("start", [0]), constant("end", [2]), constant("axis", [1])])
    assert types(read(proto, fold="elementwise")) == ["Conv", "Relu"]


def test_a_part_that_a_constant_stretches_to_the_old_size_does_not_fold() -> None:
    """The slice has a quarter of the elements, the sum has all of them again; one is not computed from the other in place."""
    after = [node("Slice", ["c", "start", "end", "axis"], ["part"]), node("Add", ["part", "per_channel"], ["y"])]
    proto = convolution(after, ["y"])
    proto.graph.initializer.extend([constant("start", [0]), constant("end", [1]), constant("axis", [1])])
    assert types(read(proto, fold="elementwise")) == ["Conv", "Add"]


def test_an_operator_behind_a_view_folds() -> None:
    after = [node("Reshape", ["c", "shape"], ["v"]), node("Relu", ["v"], ["y"])]
    proto = convolution(after, ["y"])
    proto.graph.initializer.append(constant("shape", [4, 64]))
    graph = read(proto, fold="elementwise")
    assert types(graph) == ["Conv"]
    assert graph.tensors["y"].shape == (4, 64)


def test_chains_collapse() -> None:
    after = [node("Mul", ["c", "k"], ["a"]), node("Erf", ["a"], ["b"]), node("Add", ["b", "k"], ["d"]), node("Sqrt", ["d"], ["y"])]
    graph = read(convolution(after, ["y"]), fold="elementwise")
    assert edges(graph) == [("Conv", ("x", "w", "k", "k"), ("y",))]
    assert [entry["type"] for entry in graph.operators[0].attributes["folded"]] == ["Mul", "Erf", "Add", "Sqrt"]


def test_the_size_is_that_of_the_surviving_output() -> None:
    nodes = [node("Relu", ["x"], ["a"]), node("Tanh", ["a"], ["y"])]
    graph = read(model(nodes, {"x": [4]}, ["y"]), fold="elementwise")
    assert list(graph.tensors) == ["x", "y"]
    assert graph.tensors["y"].size_bytes == 16


def test_a_function_of_a_foreign_domain_does_not_fold() -> None:
    after = [node("Relu", ["c"], ["y"], domain="com.example"), node("Sin", ["y"], ["z"])]
    proto = convolution(after, ["z"], declared=[value("y", [1, 4, 8, 8])])
    assert types(read(proto, fold="elementwise")) == ["Conv", "Relu", "Sin"]


# Prologue


def shared_relu(kind: str = "Conv") -> onnx.ModelProto:
    """A pooled tensor is read by an Add and, through a Relu, by one convolution."""
    last = node("Conv", ["r", "w"], ["c"], "conv") if kind == "Conv" else node("MaxPool", ["r"], ["c"], "conv", kernel_shape=[1, 1])
    nodes = [
        node("MaxPool", ["x"], ["p"], "pool", kernel_shape=[1, 1]),
        node("Relu", ["p"], ["r"], "relu"),
        last,
        node("Add", ["c", "p"], ["y"], "add"),
    ]
    return model(nodes, {"x": [1, 4, 8, 8]}, ["y"], initializers=[weight("w", 4, 4, 1, 1)])


@pytest.mark.parametrize("kind", ["Conv", "MaxPool"])
def test_an_elementwise_operator_joins_the_one_consumer_that_takes_a_prologue(kind: str) -> None:
    assert types(read(shared_relu(kind), fold="elementwise")) == ["MaxPool", "Relu", kind, "Add"]
    graph = read(shared_relu(kind), fold="prologue")
    assert data_edges(graph) == [("MaxPool", ("x",), ("p",)), (kind, ("p",), ("c",)), ("Add", ("c", "p"), ("y",))]
    assert graph.operators[1].attributes["folded"] == [{"name": "relu", "type": "Relu", "inputs": []}]


def test_a_padding_joins_the_convolution_that_reads_it() -> None:
    nodes = [node("Pad", ["x", "pads"], ["p"], "pad"), node("Conv", ["p", "w"], ["y"])]
    numbers = [constant("pads", [0, 0, 1, 1, 0, 0, 1, 1]), weight("w", 4, 3, 3, 3)]
    proto = model(nodes, IMAGE, ["y"], initializers=numbers)
    assert types(read(proto, fold="elementwise")) == ["Pad", "Conv"]
    graph = read(proto, fold="prologue")
    assert edges(graph) == [("Conv", ("x", "w", "pads"), ("y",))]
    assert graph.operators[0].attributes["input_shapes"][0] == [1, 3, 10, 10]


def test_prologues_collapse_one_after_the_other() -> None:
    nodes = [
        node("Relu", ["x"], ["r"], "relu"),
        node("Pad", ["r", "pads"], ["p"], "pad"),
        node("Conv", ["p", "w"], ["c"]),
        node("Concat", ["c", "x"], ["y"], axis=1),
    ]
    proto = model(nodes, IMAGE, ["y"], initializers=[constant("pads", [0, 0, 1, 1, 0, 0, 1, 1]), weight("w", 4, 3, 3, 3)])
    graph = read(proto, fold="prologue")
    assert data_edges(graph) == [("Conv", ("x",), ("c",)), ("Concat", ("c", "x"), ("y",))]
    assert [entry["type"] for entry in graph.operators[0].attributes["folded"]] == ["Relu", "Pad"]


def test_a_prologue_that_two_consumers_read_stays() -> None:
    nodes = [node("Relu", ["x"], ["r"]), node("Conv", ["r", "w"], ["c"]), node("Conv", ["r", "w"], ["d"]), node("Add", ["c", "d"], ["y"])]
    proto = model(nodes, IMAGE, ["y"], initializers=[weight("w", 4, 3, 1, 1)])
    assert types(read(proto, fold="prologue")) == ["Relu", "Conv", "Conv", "Add"]


def test_a_prologue_of_any_other_consumer_stays() -> None:
    proto = model([node("Relu", ["x"], ["r"]), node("Softmax", ["r"], ["y"])], {"x": [4]}, ["y"])
    assert types(read(proto, fold="prologue")) == ["Relu", "Softmax"]


def test_a_prologue_that_is_a_graph_output_stays() -> None:
    proto = model([node("Relu", ["x"], ["r"]), node("Conv", ["r", "w"], ["y"])], IMAGE, ["y", "r"], initializers=[weight("w", 4, 3, 1, 1)])
    assert types(read(proto, fold="prologue")) == ["Relu", "Conv"]
