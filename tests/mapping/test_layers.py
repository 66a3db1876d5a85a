"""From operators and tables to layers: what each becomes, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from cosma_sched.errors import InputError
from cosma_sched.frontends import load
from cosma_sched.graph import Graph, Operator, Tensor
from cosma_sched.mapping.extract import workload_of
from cosma_sched.mapping.layer import Layer, Workload
from cosma_sched.mapping.layer_table import read_layer_table


def tensor(name: str, *shape: int, kind: str = "activation", element: int = 1) -> Tensor:
    return Tensor(name, math.prod(shape) * element, kind, shape, "int8" if element == 1 else "float32")


def one(kind: str, operands: list[tuple[int, ...]], result: tuple[int, ...], **attributes: Any) -> Workload:
    """Return the workload of one operator; its first operand is the graph's input, the others are parameters."""
    tensors = [tensor(f"t{i}", *shape, kind="parameter" if i else "input") for i, shape in enumerate(operands)]
    names = tuple(each.name for each in tensors)
    operator = Operator("op", kind, names, ("y",), attributes)
    return workload_of(Graph([*tensors, tensor("y", *result, kind="output")], [operator]))


def dims(workload: Workload) -> list[str]:
    return [str(layer) for layer in workload.layers]


@pytest.mark.parametrize(
    ("kind", "operands", "result", "attributes", "expected"),
    [
        ("Conv", [(2, 3, 8, 8), (16, 3, 3, 3)], (2, 16, 4, 4), {"strides": [2, 2], "pads": [1, 1, 1, 1]}, "N2 K16 C3 P4 Q4 R3 S3 stride 2"),
        ("Conv", [(1, 8, 8, 9), (16, 4, 3, 1)], (1, 16, 6, 9), {"group": 2, "strides": [1, 1]}, "K8 C4 P6 Q9 R3 x2"),
        ("Conv", [(1, 8, 8, 8), (8, 1, 3, 3)], (1, 8, 8, 8), {"group": 8, "pads": [1, 1, 1, 1]}, "P8 Q8 R3 S3 x8"),
        ("Conv", [(1, 4, 9, 9), (4, 4, 3, 3)], (1, 4, 5, 5), {"dilations": [2, 2]}, "K4 C4 P5 Q5 R3 S3 dilation 2"),
        ("Conv", [(1, 4, 9), (6, 4, 3)], (1, 6, 7), {}, "K6 C4 Q7 S3"),
        ("Conv", [(1, 4, 5, 8, 8), (6, 4, 1, 3, 3)], (1, 6, 5, 6, 6), {}, "N5 K6 C4 P6 Q6 R3 S3"),
        ("Conv", [(1, 4, 5, 8, 8), (6, 4, 3, 1, 1)], (1, 6, 3, 8, 8), {}, "K6 C4 P3 Q64 R3"),
        ("ConvTranspose", [(1, 8, 5, 5), (8, 3, 2, 2)], (1, 3, 10, 10), {"strides": [2, 2]}, "K12 C8 P5 Q5"),
        ("ConvTranspose", [(1, 8, 5, 5), (8, 3, 9, 9)], (1, 3, 20, 20), {"strides": [4, 4]}, "K48 C8 P5 Q5 R3 S3"),
        ("Gemm", [(4, 6), (10, 6)], (4, 10), {"transB": 1}, "K10 C6 P4"),
        ("Gemm", [(6, 4), (6, 10)], (4, 10), {"transA": 1}, "K10 C6 P4"),
        ("MatMul", [(2, 5, 6), (6, 10)], (2, 5, 10), {}, "K10 C6 P10"),
        ("MatMul", [(2, 3, 5, 6), (2, 3, 6, 7)], (2, 3, 5, 7), {}, "K7 C6 P5 x6"),
        ("MatMul", [(2, 3, 5, 6), (3, 6, 7)], (2, 3, 5, 7), {}, "K7 C6 P10 x3"),
        ("MatMul", [(6,), (6, 7)], (7,), {}, "K7 C6"),
        ("MatMul", [(5, 6), (6,)], (5,), {}, "C6 P5"),
    ],
)  # fmt: skip
def test_an_operator_becomes_a_layer(kind: str, operands: list, result: tuple, attributes: dict, expected: str) -> None:
    assert dims(one(kind, operands, result, **attributes)) == [expected]


def test_attention_is_two_products_and_a_softmax() -> None:
    shapes = [(2, 3, 5, 8), (2, 3, 7, 8), (2, 3, 7, 6)]
    workload = one("Attention", shapes, (2, 3, 5, 6))
    assert dims(workload) == ["K7 C8 P5 x6", "K6 C7 P5 x6"]
    assert [layer.name for layer in workload.layers] == ["op.scores", "op.values"]
    [softmax] = workload.vector_operators
    assert (softmax.type, softmax.words) == ("Softmax", (2 * 3 * 5 * 7,) * 2)


def test_attention_over_three_dims_takes_its_heads_from_the_attributes() -> None:
    workload = one("Attention", [(1, 4, 12), (1, 6, 6), (1, 6, 6)], (1, 4, 12), q_num_heads=4, kv_num_heads=2)
    assert dims(workload) == ["K6 C3 P4 x4", "K3 C6 P4 x4"]


def test_a_cache_of_keys_lengthens_the_context() -> None:
    shapes = [(1, 2, 1, 8), (1, 2, 1, 8), (1, 2, 1, 8), (1, 1, 1, 10), (1, 2, 9, 8), (1, 2, 9, 8)]
    assert dims(one("Attention", shapes, (1, 2, 1, 8))) == ["K10 C8 x2", "K8 C10 x2"]


def test_a_transposed_convolution_whose_taps_do_not_fill_its_phases_is_remarked() -> None:
    [remark] = one("ConvTranspose", [(1, 8, 5, 5), (8, 3, 9, 9)], (1, 3, 20, 20), strides=[4, 4]).remarks
    assert "zero taps included" in remark
    assert one("ConvTranspose", [(1, 8, 5, 5), (8, 3, 2, 2)], (1, 3, 10, 10), strides=[2, 2]).remarks == ()


@pytest.mark.parametrize(
    ("kind", "operands", "attributes", "reason"),
    [
        ("Conv", [(1, 4, 5, 8, 8), (4, 4, 3, 3, 3)], {}, "3x3x3 kernel moves along three dims"),
        ("ConvTranspose", [(1, 4, 5, 5), (4, 4, 3, 3)], {"dilations": [2, 2]}, "dilated transposed convolution"),
        ("LSTM", [(1, 4, 5), (1, 4, 5)], {}, "recurrence"),
        ("Conv", [(1, 4, 5, 5), (4, 4, 3, 3)], {"domain": "com.example"}, "domain"),
    ],
)
def test_an_operator_that_cannot_be_expressed_is_named_with_the_reason(kind: str, operands: list, attributes: dict, reason: str) -> None:
    workload = one(kind, operands, (1, 4, 5, 5, 5) if len(operands[0]) == 5 else (1, 4, 5, 5), **attributes)
    assert workload.layers == ()
    [refused] = workload.unsupported
    assert (refused.name, refused.type) == ("op", kind)
    assert reason in refused.reason


def test_wide_elements_are_counted_in_bytes() -> None:
    tensors = [tensor("x", 4, 6, kind="input", element=4), tensor("w", 6, 8, kind="parameter"), tensor("y", 4, 8, kind="output", element=2)]
    graph = Graph(tensors, [Operator("op", "MatMul", ("x", "w"), ("y",))])
    assert workload_of(graph).layers[0].element_bytes == (1, 4, 2)


def test_a_product_whose_operand_has_no_shape_is_refused_by_name() -> None:
    graph = Graph(
        [Tensor("x", 4, "input"), Tensor("w", 4, "parameter"), Tensor("y", 4, "output")], [Operator("op", "Gemm", ("x", "w"), ("y",))]
    )
    with pytest.raises(InputError, match=r'operators\[0\] "op": tensor "x" has no shape'):
        workload_of(graph)


@pytest.mark.parametrize(
    ("kind", "operands", "attributes", "message"),
    [
        ("Conv", [(1, 3, 8, 8), (4, 2, 3, 3)], {}, "input channels 3 and 2"),
        ("Conv", [(1, 3, 8, 8), (5, 3, 3, 3)], {}, "output channels 4 and 5"),
        ("Conv", [(1, 3, 8, 8)], {}, "not those of Conv"),
        ("Conv", [(1, 3, 8, 8), (4, 3, 3, 3)], {"strides": [2]}, "not those of Conv"),
        ("MatMul", [(5, 6), (7, 8)], {}, "reduced extents 6 and 7"),
        ("Gemm", [(5, 6), (6, 8)], {"transB": 1}, "reduced extents 6 and 8"),
        ("Attention", [(1, 2, 3, 4), (1, 2, 3, 4)], {}, "not those of Attention"),
    ],
)
def test_operands_that_do_not_fit_together_are_refused_by_name(kind: str, operands: list, attributes: dict, message: str) -> None:
    with pytest.raises(InputError, match=r'operators\[0\] "op": ') as caught:
        one(kind, operands, (1, 4, 6, 6), **attributes)
    assert message in str(caught.value)


def test_a_graph_without_layers_is_refused() -> None:
    graph = Graph([Tensor("x", 4, "input"), Tensor("y", 4, "output")], [Operator("op", "Relu", ("x",), ("y",))])
    with pytest.raises(InputError, match="nothing to map"):
        workload_of(graph)


# The networks of the design, section 7

NETWORKS = [
    ("resnet18", 21, 1_814_073_344),
    ("resnet50", 54, 4_089_184_256),
    ("mobilenet_v2", 53, 300_774_272),
    ("bert_base", 96, 11_173_625_856),
    ("gpt3_6_7b_prefill", 8, 446_676_598_784),
    ("gpt3_6_7b_decode", 8, 218_103_808),
    ("fsrcnn", 8, 8_290_252_800),
    ("unet_572", 23, 150_428_424_448),
]


@pytest.mark.parametrize(("name", "layers", "macs"), NETWORKS, ids=[name for name, _, _ in NETWORKS])
def test_a_workload_has_the_layers_of_the_design(name: str, layers: int, macs: int) -> None:
    workload = workload_of(load(name))
    assert len(workload.layers) == layers
    assert sum(layer.macs for layer in workload.layers) == macs
    assert workload.unsupported == ()


def test_additions_of_resnet18_drain_and_its_pools_stand_alone() -> None:
    """The check of the design, section 4.7: 752,640 words of eight additions, 1,029,120 of two pools."""
    workload = workload_of(load("resnet18"), charged=True)
    assert sum(sum(layer.drain_words) for layer in workload.layers) == 752_640
    assert sum(bool(layer.drain_words) for layer in workload.layers) == 8
    alone = [vector for vector in workload.vector_operators if vector.folded_into is None]
    assert sum(sum(vector.words) for vector in alone) == 1_029_120


def test_every_operator_of_a_network_is_a_layer_or_listed() -> None:
    graph = load("bert_base", fold="none")
    workload = workload_of(graph)
    named = {layer.name.removesuffix(".scores").removesuffix(".values") for layer in workload.layers}
    named |= {vector.name for vector in workload.vector_operators}
    assert {operator.name for operator in graph} <= named


# Layer tables

HEADER = "name,count,N,K,C,P,Q,R,S,stride_p,stride_q,repeat"


def table(tmp_path: Path, *rows: str, header: str = HEADER) -> Path:
    path = tmp_path / "net.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_a_table_is_read_row_by_row(tmp_path: Path) -> None:
    workload = read_layer_table(table(tmp_path, "a,2,1,64,3,112,112,7,7,2,2,1", "", "b,1,1,1,1,8,8,3,3,1,1,32"))
    assert workload.name == "net"
    assert workload.layers == (
        Layer("a", (1, 64, 3, 112, 112, 7, 7), 2, 2, count=2, pad_p=3, pad_q=3),
        Layer("b", (1, 1, 1, 8, 8, 3, 3), repeat=32, pad_p=1, pad_q=1),
    )


def test_columns_may_stand_in_any_order_and_be_left_out_where_they_are_1(tmp_path: Path) -> None:
    [layer] = read_layer_table(table(tmp_path, "5,4,3,2,1,1,a,0", header="K,C,P,Q,R,S,name,pad_p")).layers
    assert layer == Layer("a", (1, 5, 4, 3, 2, 1, 1), pad_p=0, pad_q=0)


def test_every_mistake_of_a_table_is_reported_with_its_line(tmp_path: Path) -> None:
    path = table(tmp_path, "a,1,1,64,x,1,1,1,1,1,1,1", "a,1,1,0,4,1,1,1,1,1,1,1", "b,1,1", ",1,1,1,1,1,1,1,1,1,1,1")
    with pytest.raises(InputError) as caught:
        read_layer_table(path)
    text = str(caught.value)
    assert 'line 2: C: must be a whole number, got "x"' in text.replace("'", '"')
    assert "line 3: name" in text
    assert "line 4: has 3 cells, the header 12" in text
    assert "line 5: name: must not be empty" in text


def test_an_extent_of_zero_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="line 2: K: must be >= 1, got 0"):
        read_layer_table(table(tmp_path, "a,1,1,0,4,1,1,1,1,1,1,1"))


def test_unknown_and_missing_columns_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_layer_table(table(tmp_path, header="name,K,C,P,Q,R,strid_p"))
    assert 'unknown column "strid_p"' in str(caught.value).replace("'", '"')
    assert 'did you mean "stride_p"?' in str(caught.value)
    assert "lacks the columns S" in str(caught.value)


def test_an_empty_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no layers"):
        read_layer_table(table(tmp_path))
