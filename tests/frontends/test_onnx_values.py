"""Values known before the network runs, held against ONNX's own reference implementation."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from cosma_sched.frontends.onnx_attributes import json_attributes
from cosma_sched.frontends.onnx_document import MAX_VALUES, read_document
from cosma_sched.frontends.onnx_types import infer_types
from tests.frontends.onnx_models import constant, model, node

INTS = [[3, -7, 12], [5, 2, -4]]


def known_values(proto: onnx.ModelProto) -> dict[str, np.ndarray[Any, Any]]:
    return dict(infer_types(read_document("net.onnx", proto.SerializeToString()), {}).values)


CASES: list[tuple[str, list[Any], dict[str, Any], int]] = [
    ("Identity", [INTS], {}, 18),
    ("Cast", [INTS], {"to": 1}, 18),
    ("CastLike", [INTS, np.float32(1)], {}, 18),
    ("Gather", [INTS, [1, 0]], {"axis": 1}, 18),
    ("Gather", [INTS, -1], {}, 18),
    ("Concat", [INTS, INTS], {"axis": 1}, 18),
    ("Concat", [INTS, INTS], {"axis": -2}, 18),
    ("Unsqueeze", [INTS, [0, 3]], {}, 18),
    ("Unsqueeze", [INTS], {"axes": [1]}, 11),
    ("Squeeze", [[INTS], [0]], {}, 18),
    ("Squeeze", [[[[4]]]], {}, 18),
    ("Squeeze", [[INTS]], {"axes": [0]}, 11),
    ("Slice", [INTS, [1], [3], [1]], {}, 18),
    ("Slice", [INTS, [0, 0], [2, 3]], {}, 18),
    ("Slice", [INTS, [-1], [-1000], [1], [-2]], {}, 18),
    ("Slice", [INTS, [0], [9223372036854775807], [1], [2]], {}, 18),
    ("Slice", [INTS], {"starts": [1], "ends": [3], "axes": [1]}, 9),
    ("Reshape", [INTS, [3, -1]], {}, 18),
    ("Reshape", [INTS, [0, 1, 3]], {}, 18),
    ("Transpose", [INTS], {}, 18),
    ("Transpose", [[INTS]], {"perm": [2, 0, 1]}, 18),
    ("Expand", [[[1], [2]], [2, 3]], {}, 18),
    ("ConstantOfShape", [[2, 3]], {}, 18),
    ("ConstantOfShape", [[2]], {"value": constant("v", [7])}, 18),
    ("Range", [2, 11, 4], {}, 18),
    ("Tile", [INTS, [1, 2]], {}, 18),
    ("ReduceProd", [INTS], {"keepdims": 0}, 18),
    ("ReduceProd", [INTS, [1]], {}, 18),
    ("ReduceSum", [INTS, [0]], {"keepdims": 0}, 18),
    ("ReduceSum", [INTS], {"noop_with_empty_axes": 1}, 18),
    ("ReduceMax", [INTS], {"axes": [1]}, 13),
    ("ReduceMin", [INTS], {}, 18),
    ("Add", [INTS, [1, 2, 3]], {}, 18),
    ("Sub", [INTS, 4], {}, 18),
    ("Mul", [INTS, -3], {}, 18),
    ("Pow", [[2, 3], [3, 2]], {}, 18),
    ("Mod", [INTS, 5], {}, 18),
    ("Neg", [INTS], {}, 18),
    ("Abs", [INTS], {}, 18),
    ("Floor", [np.float32([1.5, -1.5])], {}, 18),
    ("Ceil", [np.float32([1.5, -1.5])], {}, 18),
    ("Sqrt", [np.float32([4, 2])], {}, 18),
    ("Div", [np.float32([4, 2]), np.float32([3, 8])], {}, 18),
    ("Max", [[1, 9], [5, 6], [7, 3]], {}, 18),
    ("Min", [[1, 9], [5, 6]], {}, 18),
    ("Equal", [INTS, 12], {}, 18),
    ("Less", [INTS, 3], {}, 18),
    ("LessOrEqual", [INTS, 3], {}, 18),
    ("Greater", [INTS, 3], {}, 18),
    ("GreaterOrEqual", [INTS, 3], {}, 18),
    ("And", [[True, False], [True, True]], {}, 18),
    ("Or", [[True, False], [False, False]], {}, 18),
    ("Not", [[True, False]], {}, 18),
    ("Where", [[True, False], [1, 2], [3, 4]], {}, 18),
]


@pytest.mark.parametrize(("kind", "arguments", "attributes", "opset"), CASES, ids=[f"{case[0]}-{i}" for i, case in enumerate(CASES)])
def test_a_rule_agrees_with_the_reference_implementation(kind: str, arguments: list[Any], attributes: dict[str, Any], opset: int) -> None:
    arrays = [np.asarray(argument) for argument in arguments]
    initializers = [constant(f"c{index}", array, array.dtype) for index, array in enumerate(arrays)]
    proto = model(
        [node(kind, [i.name for i in initializers], ["y"], **attributes)], {"x": [1]}, ["y"], initializers=initializers, opset=opset
    )
    del proto.opset_import[1:]
    expected = ReferenceEvaluator(proto).run(None, {"x": np.zeros(1, np.float32)})[0]
    found = known_values(proto)["y"]
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("left", "right", "quotient"), [(7, 2, 3), (-7, 2, -3), (7, -2, -3), (-7, -2, 3)])
def test_whole_numbers_are_divided_towards_zero(left: int, right: int, quotient: int) -> None:
    proto = model([node("Div", ["a", "b"], ["y"])], {"x": [1]}, ["y"], initializers=[constant("a", left), constant("b", right)])
    assert known_values(proto)["y"] == quotient


@pytest.mark.parametrize("sizes", [[1, 3], None])
def test_every_part_of_a_split_is_known(sizes: list[int] | None) -> None:
    numbers = [constant("a", [1, 2, 3, 4])] + ([constant("s", sizes)] if sizes else [])
    proto = model([node("Split", [n.name for n in numbers], ["p", "q"], axis=0)], {"x": [1]}, ["p", "q"], initializers=numbers, opset=13)
    values = known_values(proto)
    assert [values["p"].tolist(), values["q"].tolist()] == ([[1], [2, 3, 4]] if sizes else [[1, 2], [3, 4]])


@pytest.mark.parametrize(("start", "end", "expected"), [(None, None, [2, 3, 5]), (1, None, [3, 5]), (0, -1, [2, 3]), (-1, None, [5])])
def test_a_shape_is_known_with_its_limits(start: int | None, end: int | None, expected: list[int]) -> None:
    attributes = {name: limit for name, limit in (("start", start), ("end", end)) if limit is not None}
    proto = model([node("Shape", ["x"], ["y"], **attributes)], {"x": [2, 3, 5]}, ["y"])
    assert known_values(proto)["y"].tolist() == expected


def test_a_size_is_known() -> None:
    assert known_values(model([node("Size", ["x"], ["y"])], {"x": [2, 3, 5]}, ["y"]))["y"] == 30


@pytest.mark.parametrize(
    ("attribute", "value", "expected"),
    [("value_int", 3, 3), ("value_ints", [1, 2], [1, 2]), ("value_float", 0.5, 0.5), ("value", constant("v", [4]), [4])],
)
def test_a_constant_node_is_known(attribute: str, value: Any, expected: Any) -> None:
    proto = model([node("Constant", [], ["y"], **{attribute: value})], {"x": [1]}, ["y"])
    assert known_values(proto)["y"].tolist() == expected


def test_large_values_stay_unknown() -> None:
    size = constant("n", [MAX_VALUES + 1])
    proto = model([node("ConstantOfShape", ["n"], ["a"]), node("Add", ["a", "a"], ["y"])], {"x": [1]}, ["y"], initializers=[size])
    assert "a" not in known_values(proto)


def test_division_by_zero_is_no_crash() -> None:
    proto = model([node("Div", ["a", "b"], ["y"])], {"x": [1]}, ["y"], initializers=[constant("a", [1]), constant("b", [0])])
    known_values(proto)


def test_attributes_become_json_values() -> None:
    made = node(
        "Any", ["x"], ["y"], alpha=0.1, big=float("inf"), axis=-1, mode="linear", pads=[0, 1], scales=[0.1, 2.0], names=["a", "b"],
        value=constant("v", [1, 2]),
    )  # fmt: skip
    assert json_attributes(made) == {
        "alpha": 0.1,
        "big": "inf",
        "axis": -1,
        "mode": "linear",
        "pads": [0, 1],
        "scales": [0.1, 2.0],
        "names": ["a", "b"],
        "value": {"shape": [2], "dtype": "int64", "values": [1, 2]},
    }
