"""Shapes: inferred, declared, given with --dim, or refused with the place where they are missing."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from cosma_sched.errors import InputError
from tests.frontends.onnx_models import constant, model, node, read, types, value, weight


def refused(proto: onnx.ModelProto, **options: object) -> list[str]:
    """Return the lines with which a model is refused, without the name of the file."""
    with pytest.raises(InputError) as caught:
        read(proto, **options)  # type: ignore[arg-type]
    return [line.removeprefix("net.onnx: ") for line in str(caught.value).splitlines()]


def test_shapes_are_inferred_where_the_file_states_none() -> None:
    proto = model([node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])], {"x": [1, 3, 8, 8]}, ["y"], initializers=[weight("w", 5, 3, 3, 3)])
    assert read(proto).tensors["y"].shape == (1, 5, 8, 8)


def test_a_symbolic_dimension_is_named_with_the_option_that_gives_it_a_value() -> None:
    proto = model([node("Relu", ["tokens"], ["y"])], {"tokens": ["batch", 4]}, ["y"])
    assert refused(proto) == ['input "tokens": dimension "batch" (axis 0) is symbolic; give it a value with --dim batch=1']


def test_every_symbolic_dimension_is_reported_at_once() -> None:
    proto = model([node("Add", ["a", "b"], ["y"])], {"a": ["batch", "seq"], "b": ["batch", None]}, ["y"])
    assert [line.partition(";")[0] for line in refused(proto)] == [
        'input "a": dimension "batch" (axis 0) is symbolic',
        'input "a": dimension "seq" (axis 1) is symbolic',
        'input "b": dimension "batch" (axis 0) is symbolic',
        'input "b": the dimension of axis 1 is symbolic',
    ]


def test_a_symbolic_dimension_takes_the_size_given() -> None:
    proto = model([node("Relu", ["x"], ["y"])], {"x": ["batch", 4]}, ["y"])
    assert read(proto, dims={"batch": 3}).tensors["y"].shape == (3, 4)


@pytest.mark.parametrize("unknown", [None, -1])
def test_a_dimension_without_a_name_is_called_by_tensor_and_axis(unknown: int | None) -> None:
    proto = model([node("Relu", ["x"], ["y"])], {"x": [unknown, 4]}, ["y"])
    assert refused(proto)[0].endswith("give it a value with --dim x.0=1")
    assert read(proto, dims={"x.0": 3}).tensors["y"].shape == (3, 4)


def test_a_mistyped_dimension_is_refused_with_the_known_names() -> None:
    proto = model([node("Add", ["a", "b"], ["y"])], {"a": ["batch", "seq"], "b": ["batch", "seq"]}, ["y"])
    message = '--dim bacth=1: no dimension is called "bacth"; known names are batch, seq; did you mean "batch"?'
    assert refused(proto, dims={"bacth": 1, "seq": 2})[-1] == message


def test_a_dimension_for_a_file_without_any_is_refused() -> None:
    proto = model([node("Relu", ["x"], ["y"])], {"x": [1, 4]}, ["y"])
    assert refused(proto, dims={"batch": 1}) == ['--dim batch=1: no dimension is called "batch"; the file has no symbolic dimension']


def test_names_that_shape_inference_has_invented_are_not_offered() -> None:
    proto = model([node("Relu", ["x"], ["a"]), node("Tanh", ["a"], ["y"])], {"x": [1, 4]}, ["y"], declared=[value("a", ["unk__0", 4])])
    assert refused(proto, dims={"batch": 1})[0].endswith("; the file has no symbolic dimension")


def test_an_input_that_nobody_reads_may_stay_symbolic() -> None:
    graph = read(model([node("Relu", ["x"], ["y"])], {"x": [4], "unused": ["n"]}, ["y"]))
    assert list(graph.tensors) == ["x", "y"]


def test_a_shape_computed_from_a_dimension_follows_it() -> None:
    """Shape, Gather, Mul, Concat, Reshape: what exporters write for x.view(batch * seq, -1)."""
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "zero"], ["batch"], axis=0),
        node("Gather", ["s", "one"], ["seq"], axis=0),
        node("Mul", ["batch", "seq"], ["rows"]),
        node("Div", ["rows", "two"], ["half"]),
        node("Unsqueeze", ["half", "axis"], ["row"]),
        node("Concat", ["row", "minus"], ["target"], axis=0),
        node("Reshape", ["x", "target"], ["flat"]),
        node("Relu", ["flat"], ["y"]),
    ]
    numbers = [constant("zero", 0), constant("one", 1), constant("two", 2), constant("axis", [0]), constant("minus", [-1])]
    proto = model(nodes, {"x": ["batch", "seq", 6]}, ["y"], initializers=numbers)
    assert read(proto, dims={"batch": 4, "seq": 3}).tensors["y"].shape == (6, 12)


def test_a_dimension_that_depends_on_data_is_refused_with_tensor_and_axis() -> None:
    proto = model([node("NonZero", ["x"], ["found"], "nz"), node("Relu", ["found"], ["y"])], {"x": [4]}, ["y"])
    expected = 'node "nz" (NonZero): axis 1 of its output "found" depends on data; give it a value with --dim found.1=N'
    assert refused(proto) == [expected]
    assert read(proto, dims={"found.1": 3}).tensors["y"].shape == (1, 3)


def test_a_data_dependent_dimension_that_the_file_names_takes_a_value_by_that_name() -> None:
    proto = model(
        [node("NonZero", ["x"], ["found"]), node("Relu", ["found"], ["y"])],
        {"x": [4]},
        ["y"],
        declared=[value("found", [1, "count"], TensorProto.INT64)],
    )
    assert read(proto, dims={"count": 2}).tensors["y"].shape == (1, 2)


def test_a_rank_that_depends_on_data_is_refused() -> None:
    axes = value("axes", [1], TensorProto.INT64)
    proto = model([node("Squeeze", ["x", "axes"], ["a"], "s"), node("Relu", ["a"], ["y"])], [value("x", [1, 1, 4]), axes], ["y"])
    assert refused(proto)[0].startswith('node "s" (Squeeze): the shape of its output "a" depends on data')


def test_operator_types_without_a_rule_are_listed_with_counts() -> None:
    nodes = [
        node("Spell", ["x"], ["a"], "s1", domain="com.example"),
        node("Spell", ["a"], ["b"], "s2", domain="com.example"),
        node("Magic", ["b"], ["y"], "/m", domain="com.example"),
    ]
    lines = refused(model(nodes, {"x": [4]}, ["y"]))
    assert lines[0].startswith('no shape rule for 2 operator types: Spell (2: "s1", "s2"), Magic (1: "/m")')


def test_an_unknown_operator_is_read_where_the_file_states_its_shapes() -> None:
    nodes = [node("Silu", ["x"], ["a"], domain="com.example"), node("Relu", ["a"], ["y"])]
    graph = read(model(nodes, {"x": [4]}, ["y"], declared=[value("a", [4])]))
    assert types(graph) == ["Silu", "Relu"]
    assert graph.operators[0].attributes["domain"] == "com.example"


def test_shapes_that_contradict_each_other_are_refused_with_the_node() -> None:
    proto = model([node("MatMul", ["x", "w"], ["y"], "mm")], {"x": [1, 4]}, ["y"], initializers=[weight("w", 5, 3)])
    assert refused(proto)[0].startswith('node "mm" (MatMul): its shapes do not fit together: ')


def test_only_the_place_where_a_shape_is_lost_is_reported() -> None:
    nodes = [node("Magic", ["x"], ["a"], "m", domain="com.example"), node("Relu", ["a"], ["b"]), node("Tanh", ["b"], ["y"])]
    assert len(refused(model(nodes, {"x": [4]}, ["y"]))) == 1


def test_inference_wins_over_a_declaration_that_is_out_of_date() -> None:
    proto = model([node("Relu", ["x"], ["a"]), node("Tanh", ["a"], ["y"])], {"x": [2, 4]}, ["y"], declared=[value("a", [1, 4])])
    assert read(proto).tensors["a"].shape == (2, 4)


@pytest.mark.parametrize("shape", [[0, 4], [4, 0]])
def test_an_empty_input_is_refused_once(shape: list[int]) -> None:
    proto = model([node("Relu", ["x"], ["a"]), node("Tanh", ["a"], ["y"])], {"x": shape}, ["y"])
    axis = shape.index(0)
    assert refused(proto) == [f'input "x": axis {axis} has size 0 (shape {shape}); every dimension must be >= 1']


def test_an_empty_activation_is_refused() -> None:
    limits = [constant("start", [2]), constant("end", [2])]
    proto = model([node("Slice", ["x", "start", "end"], ["a"]), node("Relu", ["a"], ["y"])], {"x": [4]}, ["y"], initializers=limits)
    assert refused(proto, views="strict") == ['tensor "a": axis 0 has size 0 (shape [0]); every dimension must be >= 1']


def test_an_empty_constant_stands_for_an_argument_left_out() -> None:
    """Old exporters write an empty constant where Resize takes no region."""
    numbers = [constant("roi", [], np.float32), constant("scales", [1, 1, 2, 2], np.float32)]
    proto = model([node("Resize", ["x", "roi", "scales"], ["y"])], {"x": [1, 1, 2, 2]}, ["y"], initializers=numbers)
    graph = read(proto)
    assert graph.operators[0].inputs == ("x", "scales")
    assert graph.tensors["y"].shape == (1, 1, 4, 4)


def test_an_input_without_any_shape_is_refused() -> None:
    assert 'input "x": has no shape' in refused(model([node("Relu", ["x"], ["y"])], {"x": None}, ["y"]))[0]


def test_a_sequence_as_input_is_refused() -> None:
    sequence = onnx.helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, [4])
    proto = model([node("SequenceAt", ["s", "i"], ["a"]), node("Relu", ["a"], ["y"])], [sequence], ["y"], initializers=[constant("i", 0)])
    assert refused(proto)[0] == 'input "s": is a sequence; only tensors are read'


def test_strings_have_no_size() -> None:
    proto = model([node("StringNormalizer", ["x"], ["y"])], [value("x", [3], TensorProto.STRING)], ["y"])
    assert refused(proto, dims={"y.0": 3})[0] == 'input "x": has the element type string, which has no size'


def test_an_element_type_of_a_later_operator_set_is_read() -> None:
    """Conv takes bfloat16 from operator set 22 on; exporters do not wait for that."""
    proto = model(
        [node("Conv", ["x", "w"], ["y"])],
        [value("x", [1, 3, 8, 8], TensorProto.BFLOAT16)],
        ["y"],
        initializers=[weight("w", 5, 3, 3, 3, dtype=TensorProto.BFLOAT16)],
        opset=13,
    )
    tensor = read(proto).tensors["y"]
    assert (tensor.shape, tensor.dtype, tensor.size_bytes) == ((1, 5, 6, 6), "bfloat16", 360)


@pytest.mark.parametrize("kind", ["MeanVarianceNormalization", "GroupNormalization"])
def test_an_operator_that_onnx_defines_by_others_has_a_shape(kind: str) -> None:
    """These have a body of other operators and no rule of their own."""
    inputs, attributes = (["x"], {}) if kind == "MeanVarianceNormalization" else (["x", "scale", "bias"], {"num_groups": 2})
    proto = model(
        [node(kind, inputs, ["y"], **attributes)], {"x": [1, 4, 8, 8]}, ["y"], initializers=[weight("scale", 2), weight("bias", 2)]
    )
    assert read(proto).tensors["y"].shape == (1, 4, 8, 8)


def test_a_type_that_contradicts_its_operator_does_not_crash() -> None:
    nodes = [node("Relu", ["x", "x", "x"], ["a"], "r"), node("Conv", ["a"], ["y"], "c")]
    assert 'node "r" (Relu): its shapes do not fit together' in refused(model(nodes, {"x": [1, 4]}, ["y"]))[0]


def test_a_network_that_computes_nothing_is_refused() -> None:
    assert refused(model([node("Identity", ["x"], ["y"])], {"x": [4]}, ["y"]))[0].startswith("holds no operators")
