"""The checker's own reading of a network: edges, windows, order, and what stays apart."""

from __future__ import annotations

import math

import pytest

from cosma_sched.frontends import load
from cosma_sched.fusion.regions import Window
from cosma_sched.fusion.topology import Member, Read, members_of, readers_of
from cosma_sched.graph import Graph, Operator, Tensor
from cosma_sched.mapping.layer import Layer, Workload
from tests.fusion.cases import RESIDUAL
from tests.fusion.nets import Net, Node
from tests.fusion.nets import Window as TinyWindow


def tensor(name: str, *shape: int, kind: str = "activation") -> Tensor:
    return Tensor(name, math.prod(shape), kind, shape, "int8")  # type: ignore[arg-type]


def reads(member: Member) -> list[tuple[str | None, str]]:
    return [(read.source, read.role) for read in member.reads]


def test_a_residual_sum_is_an_operand_of_the_layer_it_drains_with() -> None:
    members = members_of(RESIDUAL.graph())
    assert reads(members["c"]) == [("b", "input"), ("a", "drain")]
    assert members["c"].is_output
    assert readers_of(members) == {"a": ("b", "c"), "b": ("c",), "c": ()}


def test_windows_hold_stride_padding_and_reach() -> None:
    window = TinyWindow((5, 3), (2, 1), (1, 0), (2, 2))
    [member] = members_of(Net((1, 2, 9, 9), (Node("a", "conv", ("x",), 3, window),)).graph()).values()
    assert (member.reads[0].rows, member.reads[0].cols) == (Window(2, 1, 5), Window(1, 0, 3))
    assert member.reads[0].words == 2 * 9 * 9


def test_a_dilated_kernel_reaches_further() -> None:
    tensors = [tensor("x", 1, 1, 9, 9, kind="input"), tensor("w", 1, 1, 3, 3, kind="parameter"), tensor("y", 1, 1, 5, 5, kind="output")]
    operator = Operator("a", "Conv", ("x", "w"), ("y",), {"dilations": [2, 2]})
    assert members_of(Graph(tensors, [operator]))["a"].reads[0].rows == Window(1, 0, 5)


@pytest.mark.parametrize(
    ("kernel", "stride", "pad", "expected"), [(2, 2, 0, Window()), (4, 2, 1, Window(1, 1, 3)), (3, 1, 1, Window(1, 1, 3))]
)
def test_a_transposed_convolution_reads_what_its_phases_need(kernel: int, stride: int, pad: int, expected: Window) -> None:
    """Compared with the inputs that each block of results touches, one by one."""
    size = (5 - 1) * stride - 2 * pad + kernel
    tensors = [tensor("x", 1, 2, 5, 5, kind="input"), tensor("w", 2, 1, kernel, kernel, kind="parameter")]
    tensors.append(tensor("y", 1, 1, size, size, kind="output"))
    attributes = {"strides": [stride] * 2, "pads": [pad] * 4, "kernel_shape": [kernel] * 2}
    [member] = members_of(Graph(tensors, [Operator("up", "ConvTranspose", ("x", "w"), ("y",), attributes)])).values()
    block = 2
    touched = {i for out in range(block * stride, (block + 1) * stride) for i in range(5) if 0 <= out + pad - i * stride < kernel}
    window = member.reads[0].rows
    reach = range(block - window.pad, block - window.pad + window.reach)
    assert touched <= set(reach)
    if not member.reads[0].apart:
        assert window == expected


def test_members_stand_behind_what_they_read_even_where_a_drain_reads_what_comes_later() -> None:
    """The convolution stands before the pool whose result is added while it drains."""
    tensors = [tensor("x", 1, 1, 4, 4, kind="input"), tensor("w", 1, 1, 1, 1, kind="parameter"), tensor("y", 1, 1, 4, 4, kind="output")]
    tensors += [tensor("a", 1, 1, 4, 4), tensor("p", 1, 1, 4, 4)]
    operators = [
        Operator("conv", "Conv", ("x", "w"), ("a",)),
        Operator("pool", "MaxPool", ("x",), ("p",), {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
        Operator("add", "Add", ("a", "p"), ("y",)),
    ]
    assert list(members_of(Graph(tensors, operators))) == ["pool", "conv"]


def test_a_reshape_that_moves_positions_keeps_its_neighbours_apart() -> None:
    tensors = [tensor("x", 1, 4, 4, 4, kind="input"), tensor("w", 4, 4, 1, 1, kind="parameter"), tensor("a", 1, 4, 4, 4)]
    tensors += [tensor("f", 1, 64), tensor("v", 64, 3, kind="parameter"), tensor("y", 1, 3, kind="output")]
    operators = [
        Operator("conv", "Conv", ("x", "w"), ("a",)),
        Operator("flat", "Flatten", ("a",), ("f",)),
        Operator("fc", "Gemm", ("f", "v"), ("y",)),
    ]
    [read] = members_of(Graph(tensors, operators))["fc"].reads
    assert read.source == "conv"
    assert read.apart == "the operand is seen in another shape than it is made in"


def test_keys_and_values_of_an_attention_are_read_whole() -> None:
    members = members_of(load("bert_base"))
    scores = next(member for name, member in members.items() if [read.role for read in member.reads] == ["input", "weight"])
    assert [(read.rows.whole, read.by_region) for read in scores.reads] == [(False, True), (True, False)]


def test_a_layer_table_is_a_chain_and_says_where_it_breaks() -> None:
    def row(name: str, k: int, c: int, rows: int) -> Layer:
        return Layer(name, (1, k, c, rows, rows, 3, 3), pad_p=1, pad_q=1)

    workload = Workload("table", (row("a", 4, 2, 8), row("b", 3, 4, 8), row("c", 3, 5, 8)))
    members = members_of(workload)
    assert [read.apart for member in members.values() for read in member.reads] == [
        "",
        "",
        "the next row reads other extents than this one makes",
    ]
    assert [member.is_output for member in members.values()] == [False, False, True]


@pytest.mark.parametrize("model", ["resnet18", "mobilenet_v2", "fsrcnn", "bert_base", "unet_572", "nasnet_a", "lraspp_mobilenet_v3_large"])
def test_the_planner_and_the_checker_read_the_same_network(model: str) -> None:
    from cosma_sched.fusion.reading import fusion_problem

    graph = load(model)
    members, problem = members_of(graph), fusion_problem(graph)
    assert {node.name: (node.extent, node.words, node.is_output) for node in problem.nodes} == {
        name: (member.extent, member.words, member.is_output) for name, member in members.items()
    }
    for node in problem.nodes:
        for read, operand in zip(members[node.name].reads, node.operands, strict=True):
            assert read.source == (None if operand.producer is None else problem.nodes[operand.producer].name)
            apart = bool(read.apart or members[node.name].apart)
            assert apart == bool(operand.barrier or node.barrier) or read.source is None
            if read.source is not None and not apart:
                assert [_window(read, side) for side in ("rows", "cols")] == [_theirs(operand, side) for side in ("rows", "columns")]
                assert (read.words, read.by_region) == (operand.words, operand.regional)


def _window(read: Read, side: str) -> tuple[int, ...] | None:
    window = getattr(read, side)
    return None if window.whole else (window.stride, window.pad, window.reach)


def _theirs(operand: object, side: str) -> tuple[int, ...] | None:
    window = getattr(operand, side)
    return None if window is None else (window.stride, window.pad, window.reach)
