"""Networks that are built from a description."""

from __future__ import annotations

import math

import pytest

from cosma_sched.errors import InputError, UsageError
from cosma_sched.frontends import load
from cosma_sched.graph import Graph, TensorKind


def _bytes(graph: Graph, *kinds: TensorKind) -> int:
    return sum(tensor.size_bytes for tensor in graph.tensors.values() if tensor.kind in kinds)


def _macs(graph: Graph) -> int:
    total = 0
    for operator in graph:
        if operator.type == "MatMul":
            shapes = operator.attributes.get("input_shapes") or [graph.tensors[name].shape for name in operator.inputs]
            total += math.prod(shapes[0]) * shapes[1][-1]
    return total


@pytest.mark.parametrize(("shape", "macs"), [("1024x128", 318_767_104), ("81x32", 668_736)])  # 3 M N^2 + 2 M^2 N
def test_an_attention_head_has_the_multiplications_of_its_formula(shape: str, macs: int) -> None:
    assert _macs(load(f"attention-head:{shape}")) == macs


def test_a_head_of_another_input_width_multiplies_by_that_width() -> None:
    assert _macs(load("attention-head:16x4,width=12")) == 3 * 16 * 12 * 4 + 2 * 16 * 16 * 4


def test_a_head_names_its_layers_as_the_literature_does() -> None:
    assert [operator.name for operator in load("attention-head:8x4", views="strict")] == ["Q", "K", "V", "Kt", "S", "P", "A"]


def test_with_free_views_the_transposition_is_a_view_that_the_reader_records() -> None:
    graph = load("attention-head:4x4")
    scores = graph.operators[graph.operator_index["S"]]
    assert scores.inputs == ("Q", "K")
    assert scores.attributes["input_views"] == [[], [{"type": "Transpose", "perm": [1, 0], "shape": [4, 4]}]]


def test_heads_share_their_input_and_nothing_else() -> None:
    graph = load("attention-heads:81x32,heads=8")
    assert _macs(graph) == 8 * 668_736
    assert [tensor.name for tensor in graph.tensors.values() if tensor.kind is TensorKind.INPUT] == ["I"]
    assert sum(tensor.kind is TensorKind.OUTPUT for tensor in graph.tensors.values()) == 8


def test_a_transformer_layer_moves_the_bytes_that_the_specification_counts() -> None:
    graph = load("transformer-layer:seq=197,width=768,heads=12,ffn=3072,dtype=int8")
    assert _bytes(graph, TensorKind.INPUT, TensorKind.PARAMETER, TensorKind.OUTPUT) == 922_560 * 8  # one port of 64 bits a cycle


def test_swiglu_reads_and_writes_what_the_comparison_states() -> None:
    graph = load("swiglu:256x2048x8192,dtype=bf16")
    assert 8 * _bytes(graph, TensorKind.INPUT, TensorKind.PARAMETER, TensorKind.OUTPUT) == 822_083_584
    assert [operator.type for operator in graph] == ["MatMul", "MatMul", "Silu", "Mul", "MatMul"]


def test_two_convolutions_have_the_bits_of_the_comparison() -> None:
    graph = load("two-conv:8x32x32,16,32,k3,dtype=bf16")
    bits = {name: 8 * tensor.size_bytes for name, tensor in graph.tensors.items()}
    assert bits == {"x": 131_072, "W_1": 18_432, "W_2": 73_728, "conv1": 262_144, "conv2": 524_288}


@pytest.mark.parametrize(("word", "size"), [("int8", 1), ("bf16", 2), ("fp32", 4)])
def test_dtype_sets_the_bytes_of_an_element(word: str, size: int) -> None:
    assert load(f"attention-head:8x4,dtype={word}").tensors["S"].size_bytes == 64 * size


def test_the_option_sets_the_element_type_where_the_description_names_none() -> None:
    assert load("attention-head:8x4", dtype="float16").tensors["S"].size_bytes == 128
    with pytest.raises(UsageError, match="names another element type"):
        load("attention-head:8x4,dtype=bf16", dtype="int8")


def test_the_origin_reads_the_same_graph_again() -> None:
    graph = load("swiglu:4x8x16,dtype=bf16", views="strict")
    assert graph.origin is not None
    again = load(graph.origin.model, **graph.origin.options)
    assert again == graph
    assert again.sha256 == graph.sha256


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ("attention-head:1024", 'MxN: must be 2 whole numbers written MxN, got "1024"'),
        ("attention-head:0x128", 'M: must be a whole number from 1 to 16777216, got "0"'),
        ("attention-head:8x4,heads=2", '"heads=2": is none of width=, dtype='),
        ("attention-heads:8x4", "heads: is missing"),
        ("attention-heads:8x4,heads=2,heads=3", "heads: stands twice"),
        ("attention-head:8x4,dtype=int9", 'dtype: must be one of int8, bf16, fp32, got "int9"; did you mean "int8"?'),
        ("transformer-layer:seq=4,width=10,heads=3,ffn=8", "heads: must divide width 10, got 3"),
        ("transformer-layer:seq=4,width=-1,heads=3", "ffn: is missing"),
        ("two-conv:8x32x32,16,32,k2", "K: must be odd"),
        ("two-conv:8x32x32,16,32,3", 'kK: must be 1 whole number written kK, got "3"'),
        ("two-conv:8x32x32", "ends before C1"),
        ("swiglu:", 'TxExF: must be 3 whole numbers written TxExF, got ""'),
    ],
)
def test_a_wrong_value_is_named(description: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        load(description)
    assert message in str(error.value)
    assert "the form is" in str(error.value)


def test_every_wrong_value_of_a_description_is_reported_at_once() -> None:
    with pytest.raises(InputError) as error:
        load("transformer-layer:seq=x,width=0,heads=2,fnn=8")
    assert len(error.value.defects) == 5


def test_an_unknown_family_lists_the_families() -> None:
    with pytest.raises(InputError, match=r'attention-head:MxN.*did you mean "swiglu"'):
        load("swigly:4x4x4")


def test_options_that_cannot_apply_are_refused() -> None:
    with pytest.raises(UsageError, match="nothing is folded"):
        load("attention-head:8x4", fold="prologue")
    with pytest.raises(UsageError, match="no symbolic dimension"):
        load("attention-head:8x4", dims={"batch": 1})
