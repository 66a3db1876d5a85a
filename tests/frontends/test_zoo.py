"""The zoo: its cards, its files, and the numbers of the specification."""

from __future__ import annotations

import hashlib

import onnx
import pytest

from cosma_sched.errors import InputError
from cosma_sched.frontends import load, zoo
from cosma_sched.graph import Graph, Operator

# int8, elementwise: operators, M_R, M_P (specification of the memory planner, section 15)
GOLDEN = {
    "resnet50": (72, 2_408_448, 2_408_448),
    "resnext50_32x4d": (72, 2_408_448, 2_408_448),
    "densenet121": (188, 1_605_632, 1_806_336),
    "r2plus1d_18": (47, 41_746_432, 54_591_488),
    "s3d": (102, 19_267_584, 19_267_584),
    "fcn_resnet50": (73, 4_816_896, 4_816_896),
    "deeplabv3_resnet50": (82, 4_816_896, 4_816_896),
    "lraspp_mobilenet_v3_large": (97, 1_070_160, 1_070_160),
    "vit_b_16": (112, 756_480, 907_776),
    "transformer": (146, 327_680, 458_752),
    "bert_base": (134, 491_520, 589_824),
}
# The same without folding: M_R, M_P
UNFOLDED = {
    "densenet121": (1_605_632, 2_107_392),
    "r2plus1d_18": (57_802_752, 70_647_808),
    "vit_b_16": (1_210_368, 1_361_664),
    "transformer": (524_288, 655_360),
    "resnet50": (2_408_448, 2_408_448),
    "resnext50_32x4d": (2_408_448, 2_408_448),
    "s3d": (25_690_112, 25_690_112),
    "fcn_resnet50": (4_816_896, 4_816_896),
    "deeplabv3_resnet50": (4_816_896, 4_816_896),
    "lraspp_mobilenet_v3_large": (1_605_632, 1_605_632),
}


def data(graph: Graph, operator: Operator) -> set[str]:
    return {name for name in (*operator.inputs, *operator.outputs) if graph.tensors[name].kind != "parameter"}


def largest_operator(graph: Graph) -> int:
    """M_R by its definition."""
    return max(sum(graph.tensors[name].size_bytes for name in data(graph, operator)) for operator in graph.operators)


def given_peak(graph: Graph) -> int:
    """Peak of live bytes of the given order, which is M_P on every network of these tables."""
    uses: dict[str, list[int]] = {}
    for step, operator in enumerate(graph.operators):
        for name in data(graph, operator):
            uses.setdefault(name, []).append(step)
    sizes = {name: graph.tensors[name].size_bytes for name in uses}
    return max(sum(sizes[name] for name, steps in uses.items() if steps[0] <= step <= steps[-1]) for step in range(len(graph)))


@pytest.mark.parametrize("name", GOLDEN)
def test_the_numbers_of_the_specification(name: str) -> None:
    graph = load(name)
    assert (len(graph), largest_operator(graph), given_peak(graph)) == GOLDEN[name]


@pytest.mark.parametrize("name", UNFOLDED)
def test_the_numbers_without_folding(name: str) -> None:
    graph = load(name, fold="none")
    assert (largest_operator(graph), given_peak(graph)) == UNFOLDED[name]


@pytest.mark.parametrize("name", GOLDEN)
def test_a_card_says_what_the_file_holds(name: str) -> None:
    card = zoo.card(name)
    content = zoo.path(name).read_bytes()
    assert card.sha256 == hashlib.sha256(content).hexdigest()
    assert (card.operators, card.m_r_bytes, card.m_p_bytes) == GOLDEN[name]
    assert card.exporter == f"python models/export.py {name}"
    model = onnx.load_model_from_string(content)
    assert [entry.version for entry in model.opset_import if not entry.domain] == [card.opset]
    shapes = ["x".join(str(dim.dim_value) for dim in value.type.tensor_type.shape.dim) for value in model.graph.input]
    assert [text.split()[0] for text in card.input.split(", ")] == shapes


def test_the_zoo_holds_the_ten_networks_and_an_extra() -> None:
    assert set(GOLDEN) <= set(zoo.names())


def test_files_and_cards_belong_together() -> None:
    folder = zoo.path("resnet50").parent
    assert {path.stem for path in folder.glob("*.onnx")} == set(zoo.names())


def test_every_network_of_the_zoo_loads() -> None:
    for name in set(zoo.names()) - set(GOLDEN):
        assert len(load(name)) == zoo.card(name).operators


@pytest.mark.parametrize("name", GOLDEN)
def test_a_file_is_small_and_says_nothing_of_where_it_was_made(name: str) -> None:
    content = zoo.path(name).read_bytes()
    assert len(content) < 2**20
    for trace in (b"site-packages", b".py", b"/home", b"/root", b"/tmp"):
        assert trace not in content
    model = onnx.load_model_from_string(content)
    assert not model.metadata_props
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)


def test_an_unknown_card_lists_the_known_names() -> None:
    for look_up in (zoo.card, zoo.path):
        with pytest.raises(InputError, match=r'resnet5: no such model; known names are .*; did you mean "resnet50"\?'):
            look_up("resnet5")


def test_attention_is_one_operator_each() -> None:
    assert sum(operator.type == "Attention" for operator in load("transformer").operators) == 18
    assert sum(operator.type == "Attention" for operator in load("bert_base").operators) == 12


def test_the_readme_holds_every_card() -> None:
    text = (zoo.path("resnet50").parent / "README.md").read_text(encoding="utf-8")
    for name in zoo.names():
        card = zoo.card(name)
        for fact in (f"### {name}", card.sha256, f"{card.m_r_bytes:,}", f"{card.m_p_bytes:,}", card.definition, card.version):
            assert fact in text
