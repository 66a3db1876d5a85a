"""What an operator is told of the views between it and the tensor, against ONNX's reference evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from tests.frontends.onnx_models import constant, model, node, read

SHAPE = (2, 6, 4)
VIEWS: list[tuple[str, list[onnx.TensorProto], dict[str, Any], int]] = [
    ("Transpose", [], {"perm": [2, 0, 1]}, 1),
    ("Transpose", [], {}, 1),
    ("Slice", [constant("c0", [1, -3]), constant("c1", [2, 100]), constant("c2", [0, 1])], {}, 1),
    ("Slice", [constant("c0", [0]), constant("c1", [6]), constant("c2", [-2]), constant("c3", [2])], {}, 1),
    ("Slice", [constant("c0", [-1]), constant("c1", [-100]), constant("c2", [1]), constant("c3", [-1])], {}, 1),
    ("Split", [constant("c0", [1, 2, 3])], {"axis": 1}, 3),
    ("Split", [], {"axis": 2, "num_outputs": 2}, 2),
    ("Gather", [constant("c0", -2)], {"axis": 1}, 1),
    ("Gather", [constant("c0", [3])], {"axis": -1}, 1),
]


def seen(data: np.ndarray, steps: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Return what the steps say is seen of an array."""
    for step in steps:
        if step["type"] == "Transpose":
            data = np.transpose(data, step["perm"])
        elif step["type"] == "Slice":
            sizes = list(step["shape"])
            if "drops" in step:
                sizes.insert(step["drops"], 1)
            picked = [s + d * np.arange(n) for s, d, n in zip(step["start"], step["step"], sizes, strict=True)]
            data = data[np.ix_(*picked)].reshape(step["shape"])
        else:
            assert step["type"] == "Reshape"
            data = data.reshape(step["shape"])
    return data


@pytest.mark.parametrize(("kind", "arguments", "attributes", "outputs"), VIEWS)
def test_steps_pick_the_elements_that_onnx_picks(
    kind: str, arguments: list[onnx.TensorProto], attributes: dict[str, Any], outputs: int
) -> None:
    names = [f"a{index}" for index in range(outputs)]
    nodes = [node(kind, ["x", *(entry.name for entry in arguments)], names, **attributes)]
    nodes += [node("Neg", [name], [f"y{index}"]) for index, name in enumerate(names)]
    proto = model(nodes, {"x": SHAPE}, [f"y{index}" for index in range(outputs)], initializers=arguments)
    data = np.arange(48, dtype=np.float32).reshape(SHAPE)
    expected = ReferenceEvaluator(proto).run(None, {"x": data})
    for operator, result in zip(read(proto).operators, expected, strict=True):
        assert np.array_equal(-seen(data, operator.attributes["input_views"][0]), result)


def test_a_chain_of_views_is_told_from_the_tensor_on() -> None:
    nodes = [
        node("Reshape", ["x", "to"], ["a"]),
        node("Transpose", ["a"], ["b"], perm=[1, 0]),
        node("Split", ["b"], ["c", "d"], axis=0, num_outputs=2),
        node("Add", ["c", "d"], ["y"]),
    ]
    proto = model(nodes, {"x": SHAPE}, ["y"], initializers=[constant("to", [12, 4])])
    data = np.arange(48, dtype=np.float32).reshape(SHAPE)
    left, right = read(proto).operators[0].attributes["input_views"]
    assert np.array_equal(seen(data, left) + seen(data, right), ReferenceEvaluator(proto).run(None, {"x": data})[0])


def test_views_that_shapes_describe_are_not_spelled_out() -> None:
    nodes = [node("Flatten", ["x"], ["a"]), node("Relu", ["a"], ["y"])]
    assert "input_views" not in read(model(nodes, {"x": SHAPE}, ["y"])).operators[0].attributes


def test_a_gather_of_several_indices_is_some_part() -> None:
    nodes = [node("Gather", ["x", "i"], ["a"], axis=1), node("Relu", ["a"], ["y"])]
    graph = read(model(nodes, {"x": SHAPE}, ["y"], initializers=[constant("i", [3, 1])]))
    assert graph.operators[0].attributes["input_views"] == [[{"type": "Part", "shape": [2, 2, 4]}]]


@pytest.mark.parametrize(("kind", "arguments", "attributes", "outputs"), [case for case in VIEWS if case[0] != "Transpose"])
def test_strict_views_say_the_same_of_their_outputs(
    kind: str, arguments: list[onnx.TensorProto], attributes: dict[str, Any], outputs: int
) -> None:
    """An output that nobody reads is left out of the graph, so that offsets cannot be told from the sizes that remain."""
    names = [f"a{index}" for index in range(outputs)]
    nodes = [node(kind, ["x", *(entry.name for entry in arguments)], names, **attributes), node("Neg", names[-1:], ["y"])]
    proto = model(nodes, {"x": SHAPE}, ["y"], initializers=arguments)
    data = np.arange(48, dtype=np.float32).reshape(SHAPE)
    step = read(proto, views="strict").operators[0].attributes["output_views"][names[-1]]
    assert np.array_equal(-seen(data, [step]), ReferenceEvaluator(proto).run(None, {"x": data})[0])
