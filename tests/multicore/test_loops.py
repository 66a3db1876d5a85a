"""What operators read, against ONNX's reference evaluation: change one input element and see which outputs change."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from cosma_sched.graph import Operator
from cosma_sched.multicore.boxes import Box
from cosma_sched.multicore.loops import Loops, loops_of
from cosma_sched.multicore.splits import Cut

Shape = tuple[int, ...]

# type, shapes of operands, attributes, operator set, whether boxes are exact; windows read all taps of a kernel, also at padded borders.
# The reference evaluator leaves the last channel out of what LRN sums.
WINDOWS = {"Conv", "ConvTranspose"}
CASES: list[tuple[str, list[Shape], dict[str, Any], int, bool]] = [
    ("MatMul", [(3, 4), (4, 5)], {}, 13, True),
    ("MatMul", [(2, 3, 4), (4, 5)], {}, 13, True),
    ("MatMul", [(2, 3, 4), (2, 4, 2)], {}, 13, True),
    ("MatMul", [(3, 1, 2, 4), (2, 4, 2)], {}, 13, True),
    ("MatMul", [(4,), (2, 4, 3)], {}, 13, True),
    ("MatMul", [(2, 3, 4), (4,)], {}, 13, True),
    ("Gemm", [(3, 4), (4, 2), (2,)], {}, 13, True),
    ("Gemm", [(4, 3), (2, 4), (3, 1)], {"transA": 1, "transB": 1}, 13, True),
    ("Gemm", [(4, 3), (4, 2)], {"transA": 1}, 13, True),
    ("Conv", [(1, 2, 6, 5), (3, 2, 3, 3), (3,)], {"pads": [1, 1, 1, 1], "kernel_shape": [3, 3]}, 13, True),
    ("Conv", [(1, 4, 6, 5), (4, 2, 3, 2)], {"group": 2, "strides": [2, 1], "kernel_shape": [3, 2]}, 13, True),
    ("Conv", [(1, 3, 6, 6), (3, 1, 3, 3)], {"group": 3, "pads": [1, 0, 1, 0], "kernel_shape": [3, 3]}, 13, True),
    ("Conv", [(1, 2, 9, 5), (2, 2, 3, 1)], {"dilations": [2, 1], "pads": [2, 0, 2, 0], "kernel_shape": [3, 1]}, 13, False),
    ("Conv", [(1, 1, 7, 5), (2, 1, 3, 3)], {"auto_pad": "SAME_UPPER", "strides": [2, 2], "kernel_shape": [3, 3]}, 13, True),
    ("Conv", [(1, 2, 8), (3, 2, 3)], {"strides": [2], "kernel_shape": [3]}, 13, True),
    ("ConvTranspose", [(1, 2, 4, 3), (2, 3, 3, 3)], {"strides": [2, 2], "pads": [1, 0, 1, 0], "kernel_shape": [3, 3]}, 13, True),
    ("ConvTranspose", [(1, 4, 3, 3), (4, 2, 2, 2)], {"strides": [2, 2], "kernel_shape": [2, 2]}, 13, True),
    ("MaxPool", [(1, 2, 6, 5)], {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 0]}, 13, True),
    ("MaxPool", [(1, 1, 6, 6)], {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}, 13, True),
    ("AveragePool", [(1, 2, 5, 5)], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}, 13, True),
    ("GlobalAveragePool", [(1, 3, 4, 2)], {}, 13, True),
    ("LRN", [(1, 6, 2, 2)], {"size": 3}, 13, False),
    ("LRN", [(1, 6, 2, 1)], {"size": 4}, 13, False),
    ("Softmax", [(3, 4)], {"axis": -1}, 13, True),
    ("Softmax", [(3, 4, 2)], {"axis": 1}, 13, True),
    ("Softmax", [(2, 3, 2)], {}, 13, False),
    ("LayerNormalization", [(3, 4), (4,), (4,)], {"axis": -1}, 17, True),
    ("LayerNormalization", [(2, 3, 4), (3, 4)], {"axis": 1}, 17, True),
    ("InstanceNormalization", [(1, 3, 2, 2), (3,), (3,)], {}, 13, True),
    ("BatchNormalization", [(1, 3, 2, 2), (3,), (3,), (3,), (3,)], {}, 15, True),
    ("LpNormalization", [(3, 4)], {"axis": -1, "p": 2}, 13, True),
    ("ReduceMean", [(3, 4, 2)], {"axes": [1], "keepdims": 1}, 13, True),
    ("ReduceMax", [(3, 4, 2)], {"axes": [-1], "keepdims": 0}, 13, True),
    ("Add", [(3, 4), (4,)], {}, 13, True),
    ("Mul", [(2, 3, 4), (3, 1)], {}, 13, True),
    ("Sub", [(4,), (2, 3, 4)], {}, 13, True),
    ("PRelu", [(1, 3, 2, 2), (3, 1, 1)], {}, 16, True),
    ("Gelu", [(3, 4)], {}, 20, True),
    ("Concat", [(2, 3), (2, 2), (2, 1)], {"axis": 1}, 13, True),
]


def evaluator(kind: str, shapes: Sequence[Shape], attributes: Mapping[str, Any], opset: int) -> ReferenceEvaluator:
    names = [f"x{index}" for index in range(len(shapes))]
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in zip(names, shapes, strict=True)]
    node = helper.make_node(kind, names, ["y"], **attributes)
    graph = helper.make_graph([node], "one", inputs, [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
    return ReferenceEvaluator(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)]))


def dependencies(kind: str, shapes: Sequence[Shape], attributes: Mapping[str, Any], opset: int) -> tuple[Shape, list[np.ndarray]]:
    """Return the output's shape and, for each operand, which output elements (first axes) each of its elements (last axes) changes."""
    random = np.random.default_rng(7)
    data = [random.uniform(0.5, 1.5, shape).astype(np.float32) for shape in shapes]
    run = evaluator(kind, shapes, attributes, opset)
    names = [f"x{index}" for index in range(len(shapes))]
    if kind == "PRelu":
        data[0] = -data[0]
    base = run.run(None, dict(zip(names, data, strict=True)))[0]
    found = []
    for which, shape in enumerate(shapes):
        changed = np.zeros((*base.shape, *shape), dtype=bool)
        for index in np.ndindex(shape):
            altered = [array.copy() for array in data]
            altered[which][index] += 5
            result = run.run(None, dict(zip(names, altered, strict=True)))[0]
            changed[(..., *index)] = np.abs(result - base) > 1e-7
        found.append(changed)
    return base.shape, found


def boxes(shape: Shape, loops: Loops) -> list[Box]:
    """Return all boxes that cut each dimension in up to three parts."""
    bounds = [(0, size) for size in shape]
    cuts = []
    for axis, size in enumerate(shape):
        limits = Cut("rows", parts=3).bounds(size) if axis in loops.axes.values() else bounds[axis]
        cuts.append(list(itertools.pairwise(limits)))
    return list(itertools.product(*cuts))


@pytest.mark.parametrize(("kind", "shapes", "attributes", "opset", "exact"), CASES)
def test_boxes_hold_what_outputs_depend_on(kind: str, shapes: list[Shape], attributes: dict[str, Any], opset: int, exact: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        output, changes = dependencies(kind, shapes, attributes, opset)
    operator = Operator("op", kind, tuple(f"x{index}" for index in range(len(shapes))), ("y",), attributes)
    loops = loops_of(operator, shapes, output)
    assert loops.is_known
    summed = (0, max(1, loops.contraction))
    for box in boxes(output, loops):
        place = tuple(slice(*limits) for limits in box)
        for position, (changed, shape, read) in enumerate(zip(changes, shapes, loops.reads(box, summed), strict=True)):
            needed = changed[place].any(axis=tuple(range(len(output))))
            held = np.zeros(shape, dtype=bool)
            if read is not None:
                held[tuple(slice(*limits) for limits in read)] = True
            assert not (needed & ~held).any(), (box, read)
            if exact and needed.any() and not (position and kind in WINDOWS):
                hull = tuple((int(axis.min()), int(axis.max()) + 1) for axis in np.nonzero(needed))
                assert read == hull, box


@pytest.mark.parametrize(
    ("kind", "shapes", "attributes", "opset", "_exact"), [case for case in CASES if case[0] in {"MatMul", "Gemm", "Conv"}]
)
def test_parts_of_a_contraction_read_every_operand_element_once(
    kind: str, shapes: list[Shape], attributes: dict[str, Any], opset: int, _exact: bool
) -> None:
    if int(attributes.get("group", 1)) > 1:
        pytest.skip("input channels of several groups lie apart")
    output = evaluator(kind, shapes, attributes, opset).run(None, {f"x{i}": np.ones(s, np.float32) for i, s in enumerate(shapes)})[0].shape
    operator = Operator("op", kind, tuple(f"x{index}" for index in range(len(shapes))), ("y",), attributes)
    loops = loops_of(operator, shapes, output)
    everything = tuple((0, size) for size in output)
    counts = [np.zeros(shape, dtype=int) for shape in shapes[:2]]
    for limits in itertools.pairwise(Cut("contraction", parts=2).bounds(loops.contraction)):
        for count, read in zip(counts, loops.reads(everything, limits), strict=False):
            assert read is not None
            count[tuple(slice(*part) for part in read)] += 1
    assert all(count.max() == 1 for count in counts)
    assert loops.nest is not None
    parts = [loops.nest(everything, limits) for limits in itertools.pairwise(Cut("contraction", parts=2).bounds(loops.contraction))]
    dims, repeat = loops.nest(everything, (0, loops.contraction))
    assert sum(int(np.prod(part)) * times for part, times in parts) == int(np.prod(dims)) * repeat


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize(("size", "target"), [((1, 1, 6, 5), (1, 1, 12, 10)), ((1, 1, 9, 8), (1, 1, 4, 5))])
def test_a_resize_reads_a_neighbourhood_that_holds_what_it_depends_on(mode: str, size: Shape, target: Shape) -> None:
    names = ["x", "", "", "sizes"]
    node = helper.make_node("Resize", names, ["y"], mode=mode)
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, size)]
    sizes = helper.make_tensor("sizes", TensorProto.INT64, [4], target)
    graph = helper.make_graph([node], "one", inputs, [helper.make_tensor_value_info("y", TensorProto.FLOAT, target)], [sizes])
    run = ReferenceEvaluator(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]))
    data = np.random.default_rng(3).uniform(0, 1, size).astype(np.float32)
    base = run.run(None, {"x": data})[0]
    loops = loops_of(Operator("op", "Resize", ("x",), ("y",), {"mode": mode}), [size], target)
    for index in np.ndindex(size):
        altered = data.copy()
        altered[index] += 5
        changed = np.abs(run.run(None, {"x": altered})[0] - base) > 1e-6
        for row in np.unique(np.nonzero(changed)[2]):
            read = loops.reads(((0, 1), (0, 1), (int(row), int(row) + 1), (0, target[3])), (0, 1))[0]
            assert read is not None
            assert read[2][0] <= index[2] < read[2][1]


def test_a_look_up_needs_all_rows_of_its_table_and_its_own_indices() -> None:
    loops = loops_of(Operator("op", "Gather", ("table", "ids"), ("y",), {"axis": 0}), [(9, 4), (2, 3)], (2, 3, 4))
    assert loops.reads(((0, 1), (1, 2), (0, 4)), (0, 1)) == (((0, 9), (0, 4)), ((0, 1), (1, 2)))


def test_operands_that_joined_by_folding_are_read_by_channel_or_broadcast() -> None:
    folded = [{"type": "BatchNormalization", "inputs": ["b"]}, {"type": "Add", "inputs": ["c"]}]
    operator = Operator("op", "Conv", ("x", "w", "b", "c"), ("y",), {"kernel_shape": [1, 1], "folded": folded})
    loops = loops_of(operator, [(1, 2, 4, 4), (6, 2, 1, 1), (6,), (6, 1, 1)], (1, 6, 4, 4))
    assert loops.reads(((0, 1), (2, 4), (0, 4), (0, 4)), (0, 2))[2:] == (((2, 4),), ((2, 4), (0, 1), (0, 1)))


def test_an_operator_without_a_rule_cannot_be_cut_and_reads_everything() -> None:
    loops = loops_of(Operator("op", "NonZero", ("x",), ("y",)), [(3, 4)], (2, 5))
    assert (loops.extents, loops.is_known) == ({}, False)
    assert loops.reads(((0, 2), (0, 5)), (0, 1)) == (((0, 3), (0, 4)),)
