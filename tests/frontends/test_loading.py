"""`load`: what a source may be, which options apply to it, and what the graph says of its origin."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import pytest

import cosma_sched
from cosma_sched.errors import InputError, UsageError
from cosma_sched.frontends import load
from cosma_sched.graph import Graph, Origin
from tests.frontends.onnx_models import FLOAT, model, node, save, value, weight

TOY = {
    "schema": "cosma-sched/graph/1",
    "name": "toy",
    "tensors": [{"name": "x", "size_bytes": 4, "kind": "input"}, {"name": "y", "size_bytes": 2, "kind": "output"}],
    "operators": [{"name": "relu", "type": "Relu", "inputs": ["x"], "outputs": ["y"]}],
}


def again(origin: Origin | None) -> Graph:
    """Read a network a second time with the options in effect the first time."""
    assert origin is not None
    options = dict(origin.options)
    return load(origin.model, dims=options.pop("dim", None), **options)


@pytest.fixture
def network(tmp_path: Path) -> str:
    nodes = [node("Conv", ["x", "w"], ["c"]), node("Relu", ["c"], ["y"])]
    return save(model(nodes, {"x": ["batch", 3, 8, 8]}, ["y"], initializers=[weight("w", 4, 3, 1, 1)]), tmp_path)


@pytest.fixture
def document(tmp_path: Path) -> str:
    path = tmp_path / "toy.json"
    path.write_text(json.dumps(TOY))
    return str(path)


def test_a_zoo_name_is_read_as_int8() -> None:
    graph = load("transformer")
    assert graph.name == "transformer"
    assert {tensor.dtype for tensor in graph.tensors.values() if tensor.kind != "parameter"} == {"int8"}
    assert graph.origin is not None
    assert (graph.origin.model, graph.origin.options) == ("transformer", {"fold": "elementwise", "views": "free", "dtype": "int8"})


def test_the_files_of_the_zoo_keep_float32() -> None:
    narrow, wide = load("transformer"), load("transformer", dtype="file")
    assert [tensor.size_bytes for tensor in wide.tensors.values()] == [
        tensor.size_bytes * (4 if tensor.dtype == "int8" else 1) for tensor in narrow.tensors.values()
    ]


def test_a_file_keeps_its_own_types(network: str) -> None:
    graph = load(network, dims={"batch": 2})
    assert (graph.name, graph.tensors["y"].size_bytes, graph.tensors["y"].dtype) == ("net", 2 * 4 * 64 * 4, "float32")
    assert graph.origin is not None
    assert graph.origin.sha256 == hashlib.sha256(Path(network).read_bytes()).hexdigest()
    assert graph.origin.options == {"fold": "elementwise", "views": "free", "dtype": "float32", "dim": {"batch": 2}}


def test_a_file_with_several_floating_point_types_says_that_it_keeps_them(tmp_path: Path) -> None:
    nodes = [node("Cast", ["x"], ["a"], to=10), node("Softmax", ["a"], ["y"])]
    graph = load(save(model(nodes, {"x": [4]}, ["y"]), tmp_path))
    assert graph.origin is not None
    assert graph.origin.options["dtype"] == "file"
    assert again(graph.origin) == graph


@pytest.mark.parametrize(("dtype", "size"), [("int8", 5), ("int4", 3), ("float16", 10), ("float64", 40), ("uint2", 2)])
def test_the_width_of_floating_point_tensors_can_be_set(tmp_path: Path, dtype: str, size: int) -> None:
    inputs = [value("x", [5], FLOAT), value("i", [5], 6)]
    nodes = [node("Sin", ["x"], ["y"]), node("Neg", ["i"], ["z"])]
    graph = load(save(model(nodes, inputs, ["y", "z"]), tmp_path), dtype=dtype)
    assert [(tensor.dtype, tensor.size_bytes) for tensor in graph.tensors.values()] == [(dtype, size), ("int32", 20)] * 2


def test_a_graph_document_is_taken_as_it_is(document: str) -> None:
    graph = load(document)
    assert (graph.name, [operator.name for operator in graph.operators]) == ("toy", ["relu"])
    assert graph.origin is not None
    assert (graph.origin.model, graph.origin.options) == (document, {})
    assert graph.sha256 == hashlib.sha256(Path(document).read_bytes()).hexdigest()


def test_standard_input_is_a_graph_document(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(json.dumps(TOY).encode())))
    graph = load("-")
    assert graph.origin is not None
    assert graph.origin.model == "-"
    assert len(graph) == 1


def test_a_path_object_is_a_file(network: str, document: str) -> None:
    assert len(load(Path(network), dims={"batch": 1})) == 1
    assert len(load(Path(document))) == 1
    with pytest.raises(InputError, match="no such file"):
        load(Path("resnet50"))


def test_a_path_comes_before_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file called like a network of the zoo does not hide it; with ./ the file is meant."""
    (tmp_path / "transformer").write_text(json.dumps(TOY))
    monkeypatch.chdir(tmp_path)
    assert load("transformer").name == "transformer"
    assert load("./transformer").name == "toy"


def test_the_public_name_loads_the_same() -> None:
    assert cosma_sched.load("transformer", fold="none") == load("transformer", fold="none")


def test_a_graph_can_be_read_again_from_its_origin(network: str) -> None:
    for graph in (load(network, fold="none", dims={"batch": 3}, dtype="int8"), load("transformer", views="strict")):
        assert again(graph.origin) == graph


def test_an_unknown_name_lists_the_known_ones_and_the_near_one() -> None:
    with pytest.raises(InputError) as caught:
        load("densenet12")
    message = str(caught.value)
    assert message.startswith("densenet12: no such model; known names are ")
    assert "bert_base, " in message
    assert message.endswith('; did you mean "densenet121"?')


@pytest.mark.parametrize("source", ["missing.onnx", "missing.json", "folder/missing", "net.pt"])
def test_a_missing_file_is_said_to_be_missing(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        load(source)
    assert str(caught.value) == f"{source}: no such file"


def test_a_folder_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a directory, not a file"):
        load(str(tmp_path))


def test_mistakes_carry_the_name_as_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("cut.onnx").write_bytes(b"\x08")
    with pytest.raises(InputError) as caught:
        load("cut.onnx")
    assert caught.value.path == "cut.onnx"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"fold": "elementwize"},
            '--fold "elementwize": must be one of none, batchnorm, elementwise, prologue; did you mean "elementwise"?',
        ),
        ({"views": "loose"}, '--views "loose": must be one of free, strict'),
        ({"dtype": "float"}, '--dtype "float": no such element type; known names are '),
        ({"dims": {"batch": 0}}, "--dim batch=0: the size must be a whole number >= 1"),
        ({"dims": {"batch": True}}, "--dim batch=True: the size must be a whole number >= 1"),
        ({"dims": {"batch": "two"}}, '--dim batch="two": the size must be a whole number >= 1'),
    ],
)
def test_a_malformed_option_is_a_usage_error(network: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(network, **options)  # type: ignore[arg-type]
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({"dtype": "int8"}, "--dtype int8"),
        ({"fold": "none"}, "--fold none"),
        ({"views": "strict"}, "--views strict"),
        ({"dims": {"batch": 1}}, "--dim batch=1"),
    ],
)
def test_an_option_that_cannot_apply_to_a_graph_document_is_refused(document: str, options: dict[str, object], shown: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(document, **options)  # type: ignore[arg-type]
    assert str(caught.value).startswith(f"{shown}: ")
    assert "is a graph document" in str(caught.value)


def test_a_dimension_that_a_zoo_network_does_not_have_is_refused() -> None:
    with pytest.raises(InputError, match="the file has no symbolic dimension"):
        load("transformer", dims={"batch": 1})


def test_graphs_of_files_survive_a_round_trip_through_json() -> None:
    graph = load("lraspp_mobilenet_v3_large")
    assert Graph.from_json(json.dumps(graph.to_json())) == graph


@pytest.mark.parametrize(
    ("name", "operators"), [("2conv_1_8_32_32_16_32_3", 2), ("alexnet", 14), ("attention_head", 6), ("fsrcnn", 8), ("resnet18", 31)]
)
def test_files_that_the_onnx_checker_refuses_are_read(shared_data: Path, name: str, operators: int) -> None:
    """Cleared weights, missing external data, bfloat16 before its time: files of another project."""
    path = shared_data / "stream" / "workload" / f"{name}.onnx"
    if not path.is_file():
        pytest.skip(f"{path.name} is not among the shared data")
    assert len(load(path)) == operators
