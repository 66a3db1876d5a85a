"""Weights that a file does not hold, weights among the graph inputs, and functions that are kept."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from cosma_sched.errors import InputError, UsageError
from cosma_sched.frontends import load
from cosma_sched.graph import Graph, TensorKind
from tests.frontends.onnx_models import model, node, value, weight


def saved(folder: Path, proto: onnx.ModelProto) -> str:
    path = folder / "net.onnx"
    path.write_bytes(proto.SerializeToString())
    return str(path)


def kinds(graph: Graph) -> dict[str, str]:
    return {name: str(tensor.kind) for name, tensor in graph.tensors.items()}


def warnings(graph: Graph) -> tuple[str, ...]:
    return graph.origin.warnings if graph.origin is not None else ()


def head() -> onnx.ModelProto:
    nodes = [
        node("MatMul", ["x", "w"], ["a"]),
        node("Gemm", ["a", "v"], ["b"]),
        node("MatMul", ["b", "m"], ["c"]),
        node("Add", ["c", "m"], ["y"]),
    ]
    return model(nodes, {"x": [4, 4], "w": [4, 4], "v": [4, 4], "m": [4, 4]}, ["y"])


def test_inputs_that_only_ever_multiply_from_the_right_count_as_parameters_where_asked(tmp_path: Path) -> None:
    graph = load(saved(tmp_path, head()), parameters="auto")
    assert {name: kind for name, kind in kinds(graph).items() if name in {"x", "w", "v", "m"}} == {
        "x": "input",
        "w": "parameter",
        "v": "parameter",
        "m": "input",
    }
    assert warnings(graph) == ("graph inputs 'w', 'v' only ever multiply: they count as parameters (see --parameters)".replace("'", '"'),)


def test_by_default_an_input_is_an_input(tmp_path: Path) -> None:
    graph = load(saved(tmp_path, head()))
    assert kinds(graph)["w"] == "input"
    assert warnings(graph) == ()


def test_named_parameters_override_what_would_be_found(tmp_path: Path) -> None:
    graph = load(saved(tmp_path, head()), parameters=["m"])
    assert (kinds(graph)["m"], kinds(graph)["w"]) == ("parameter", "input")
    assert warnings(graph) == ()


def test_a_name_that_is_no_input_lists_the_inputs(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--parameters wQ: no such input; the inputs are x, w, v, m"):
        load(saved(tmp_path, head()), parameters=["wQ"])


def test_the_origin_reads_the_same_parameters_again(tmp_path: Path) -> None:
    graph = load(saved(tmp_path, head()), parameters="auto")
    assert graph.origin is not None
    assert load(graph.origin.model, **graph.origin.options) == graph


def test_an_input_of_open_size_is_no_weight(tmp_path: Path) -> None:
    proto = model([node("MatMul", ["x", "w"], ["y"])], [value("x", [4, 4]), value("w", [4, "n"])], ["y"])
    assert kinds(load(saved(tmp_path, proto), parameters="auto", dims={"n": 3}))["w"] == "input"


def test_an_unknown_word_in_place_of_names_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="list of names or auto"):
        load(saved(tmp_path, head()), parameters="all")


def test_parameters_are_for_onnx_files(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="says itself what its parameters are"):
        load("attention-head:4x4", parameters=["W_Q"])


def test_a_missing_file_of_weights_is_one_warning(tmp_path: Path) -> None:
    nodes = [node("MatMul", ["x", "w"], ["a"]), node("MatMul", ["a", "v"], ["y"])]
    path = saved(tmp_path, model(nodes, {"x": [4, 4]}, ["y"], initializers=[weight("w", 4, 4), weight("v", 4, 4)]))
    assert warnings(load(path)) == ('its weights are stored in "weights.bin", which is missing; only their shapes count',)
    (tmp_path / "weights.bin").write_bytes(b"")
    assert warnings(load(path)) == ()


def test_weights_without_values_are_one_warning(tmp_path: Path) -> None:
    cleared = TensorProto(name="w", data_type=TensorProto.BFLOAT16, dims=[4, 4])
    inputs = [value("x", [4, 4], TensorProto.BFLOAT16)]
    graph = load(saved(tmp_path, model([node("MatMul", ["x", "w"], ["y"])], inputs, ["y"], initializers=[cleared])))
    assert warnings(graph) == ('1 of its weights hold no values ("w"); only their shapes count',)
    assert graph.tensors["w"].size_bytes == 32


def test_networks_of_the_zoo_are_without_weights_by_design() -> None:
    assert warnings(load("fsrcnn")) == ()


def gated() -> onnx.ModelProto:
    body = [node("Sigmoid", ["X"], ["S"]), node("Mul", ["X", "S"], ["Y"])]
    silu = helper.make_function("com.example", "Silu", ["X"], ["Y"], body, [helper.make_opsetid("", 18)])
    return model([node("Silu", ["x"], ["y"], "act", domain="com.example")], {"x": [4, 4]}, ["y"], functions=[silu])


def test_a_known_activation_that_the_file_defines_is_kept_where_asked(tmp_path: Path) -> None:
    path = saved(tmp_path, gated())
    assert [operator.type for operator in load(path, fold="none")] == ["Sigmoid", "Mul"]
    kept = load(path, functions="keep")
    assert [operator.type for operator in kept] == ["Silu"]
    assert kept.tensors["y"].shape == (4, 4)
    assert kept.origin is not None
    assert load(path, **kept.origin.options) == kept


def test_an_activation_of_another_domain_has_the_shape_of_its_input(tmp_path: Path) -> None:
    proto = model([node("Silu", ["x"], ["a"], domain="other"), node("Neg", ["a"], ["y"])], {"x": [2, 3]}, ["y"])
    assert load(saved(tmp_path, proto)).tensors["a"].shape == (2, 3)


# Files of the comparison: operators with their known activations kept, warnings
FILES = {
    "2conv_1_8_32_32_16_32_3": (2, 1),
    "swiglu_64_128_256": (5, 1),
    "attention_head": (6, 1),
    "fsrcnn": (8, 0),
    "resnet18": (31, 1),
    "alexnet": (14, 1),
}


def workload(data: Path, name: str) -> str:
    path = data / "stream" / "workload" / f"{name}.onnx"
    if not path.exists():
        pytest.skip(f"the shared data lack {path.name}")
    return str(path)


@pytest.mark.parametrize("name", FILES)
def test_files_that_onnx_refuses_are_read_with_their_warnings(name: str, shared_data: Path) -> None:
    graph = load(workload(shared_data, name), parameters="auto", functions="keep")
    assert (len(graph), len(warnings(graph))) == FILES[name]
    assert all(tensor.shape for tensor in graph.tensors.values())


@pytest.mark.slow
def test_a_file_that_holds_hundreds_of_megabytes_of_weights_is_read(shared_data: Path) -> None:
    graph = load(workload(shared_data, "swiglu_256_4096_14336"), functions="keep")
    assert [operator.type for operator in graph] == ["Gemm", "Gemm", "Silu", "Mul", "Gemm"]


def test_weights_of_the_head_among_the_inputs_are_found(shared_data: Path) -> None:
    graph = load(workload(shared_data, "attention_head"), parameters="auto")
    assert [name for name, tensor in graph.tensors.items() if tensor.kind is TensorKind.PARAMETER] == ["wQ", "wK", "wV"]
