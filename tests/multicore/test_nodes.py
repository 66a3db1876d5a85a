"""Computation nodes and tiles: dependencies against the oracle of single elements, and what is asked of softmax and partial sums."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosma_sched.errors import InputError
from cosma_sched.frontends import load
from cosma_sched.graph import Graph, Operator, Tensor
from cosma_sched.multicore.costs import NodeCost, Piece
from cosma_sched.multicore.nodes import Expansion, expand, layer_extents
from cosma_sched.multicore.problem import Semantics, TileKind
from cosma_sched.multicore.splits import Cut, Split, parse_split
from tests.multicore.networks import Flat, image_networks, matrix_networks, splits
from tests.multicore.oracle import expected


def expansion_of(graph: Graph, split: Split | str, **semantics: object) -> Expansion:
    return expand(graph, parse_split(split) if isinstance(split, str) else split, Semantics(**semantics), Flat())  # type: ignore[arg-type]


def edges(expansion: Expansion) -> list[tuple[frozenset[int], frozenset[int]]]:
    return [(frozenset(node.needs), frozenset(node.reads)) for node in expansion.nodes]


def names(expansion: Expansion, node: str) -> tuple[list[str], list[str], str]:
    found = next(entry for entry in expansion.nodes if entry.name == node)
    tiles = expansion.tiles
    return [expansion.nodes[index].name for index in found.needs], [tiles[index].name for index in found.reads], tiles[found.writes].name


# Against the oracle


@settings(max_examples=150, deadline=None)
@given(st.data(), matrix_networks(), st.sampled_from(["inplace", "node"]))
def test_nodes_of_matrix_networks_need_and_read_what_single_elements_do(data: st.DataObject, graph: Graph, softmax: str) -> None:
    split = data.draw(splits(layer_extents(graph, softmax)))
    expansion = expansion_of(graph, split, softmax=softmax, partial_sum_factor=2)
    assert edges(expansion) == expected(expansion, inplace=softmax == "inplace")


@settings(max_examples=100, deadline=None)
@given(st.data(), image_networks())
def test_nodes_of_image_networks_need_and_read_what_single_elements_do(data: st.DataObject, graph: Graph) -> None:
    expansion = expansion_of(graph, data.draw(splits(layer_extents(graph))))
    assert edges(expansion) == expected(expansion, inplace=True)


@settings(max_examples=60, deadline=None)
@given(st.data(), matrix_networks(reshapes=True))
def test_behind_a_reshape_nodes_need_and_read_no_less_than_single_elements_do(data: st.DataObject, graph: Graph) -> None:
    expansion = expansion_of(graph, data.draw(splits(layer_extents(graph))))
    for (needs, reads), (needed, held) in zip(edges(expansion), expected(expansion, inplace=True), strict=True):
        assert needs >= needed
        assert reads >= held


@settings(max_examples=60, deadline=None)
@given(st.data(), matrix_networks())
def test_nodes_stand_in_a_topological_order_and_tiles_cover_each_tensor_once(data: st.DataObject, graph: Graph) -> None:
    expansion = expansion_of(graph, data.draw(splits(layer_extents(graph), spread=True)))
    assert all(need < index for index, node in enumerate(expansion.nodes) for need in node.needs)
    for name in {tile.tensor for tile in expansion.tiles}:
        whole = [tile for tile in expansion.tiles if tile.tensor == name and "+" not in tile.name]
        assert sum(tile.size_bytes for tile in whole) == graph.tensors[name].size_bytes


@pytest.mark.parametrize("views", ["free", "strict"])
@pytest.mark.parametrize("split", ["rows=3", "columns=2", "contraction=2", "rows=2,columns=2", "rows=5,contraction=3"])
def test_a_head_with_a_square_input_is_read_the_same_with_free_and_strict_views(split: str, views: str) -> None:
    """Seen through free views, a transposed square matrix has the shape of the matrix."""
    expansion = expansion_of(load("attention-head:5x5", views=views), split)
    assert edges(expansion) == expected(expansion, inplace=True)


# Row barriers and softmax


def test_behind_a_softmax_in_place_a_node_reads_its_range_and_needs_the_row() -> None:
    split = Split(layers={"S": (Cut("columns", 2),), "A": (Cut("contraction", 2),), "V": (Cut("rows", 2),)})
    expansion = expansion_of(load("attention-head:4x2"), split)
    assert names(expansion, "A[0]") == (["V[0]", "S[0]", "S[1]"], ["V[0:2,:]", "S[:,0:2]"], "A")
    assert names(expansion, "A[1]") == (["V[1]", "S[0]", "S[1]", "A[0]"], ["V[2:4,:]", "S[:,2:4]"], "A")


def test_scores_that_somebody_else_reads_are_not_overwritten() -> None:
    tensors = [Tensor("x", 4, "input", (2, 2)), *(Tensor(name, 4, "activation", (2, 2)) for name in "sp"), Tensor("y", 4, "output", (2, 2))]
    operators = [Operator("S", "Relu", ("x",), ("s",)), Operator("P", "Softmax", ("s",), ("p",)), Operator("Y", "Add", ("s", "p"), ("y",))]
    assert [node.name for node in expansion_of(Graph(tensors, operators), Split()).nodes] == ["S", "P", "Y"]


def test_a_softmax_node_takes_over_whole_rows_of_its_scores() -> None:
    expansion = expansion_of(load("attention-head:4x2"), "rows=2", softmax="node")
    assert names(expansion, "P[1]") == (["S[1]"], [], "S[2:4,:]")
    assert names(expansion, "A[1]")[0] == ["V[0]", "V[1]", "S[1]", "P[1]"]


def test_a_softmax_node_on_scores_in_pieces_writes_a_tile_of_its_own() -> None:
    split = Split((Cut("rows", 2),), {"S": (Cut("rows", 2), Cut("columns", 2))})
    expansion = expansion_of(load("attention-head:4x2"), split, softmax="node")
    assert names(expansion, "P[0]") == (["S[0,0]", "S[0,1]"], ["S[0:2,0:2]", "S[0:2,2:4]"], "P[0:2,:]")


def test_a_softmax_that_only_another_core_can_run_writes_a_tile_of_its_own() -> None:
    class Vector(Flat):
        def costs(self, piece: Piece) -> Mapping[str, NodeCost]:
            return {"1" if piece.type == "Softmax" else "0": NodeCost(1, 0)}

    expansion = expand(load("attention-head:4x2"), Split(), Semantics(softmax="node"), Vector())
    assert names(expansion, "P") == (["S"], ["S"], "P")


def test_an_expanded_softmax_is_four_layers() -> None:
    expansion = expansion_of(load("attention-head:4x2", views="strict"), "rows=2", softmax="expanded")
    assert list(expansion.layers) == ["Q", "K", "V", "S", "P.max", "P.exp", "P.sum", "P.div", "A"]
    assert names(expansion, "P.exp[1]") == (["S[1]", "P.max[1]"], ["S[2:4,:]", "P.max[2:4,:]"], "P.exp[2:4,:]")
    assert names(expansion, "A[0]")[1] == ["V[0:2,:]", "V[2:4,:]", "P[0:2,:]"]


# Contractions


def test_parts_of_a_contraction_accumulate_in_one_tile_in_index_order() -> None:
    expansion = expansion_of(load("attention-head:4x4"), Split(layers={"S": (Cut("contraction", 2),)}))
    assert names(expansion, "S[1]") == (["Q", "K", "S[0]"], ["Q", "K"], "S")


def test_parts_of_a_spread_contraction_are_added_up_by_a_node_of_their_own() -> None:
    split = Split(layers={"S": (Cut("contraction", 2, spread=True),), "Q": (Cut("columns", 2),)})
    expansion = expansion_of(load("attention-head:4x4"), split, partial_sum_factor=2)
    assert names(expansion, "S[1]") == (["Q[1]", "K"], ["Q[:,2:4]", "K"], "S+1")
    assert names(expansion, "S.sum") == (["S[0]", "S[1]"], ["S+0", "S+1"], "S")
    sizes = {tile.name: tile.size_bytes for tile in expansion.tiles}
    assert (sizes["S+0"], sizes["S"]) == (32, 16)


# Tiles of what exists from the start


def test_weights_are_cut_where_readers_begin_and_end_and_inputs_into_rows() -> None:
    split = Split(layers={"Q": (Cut("columns", 2),), "K": (Cut("rows", 2),), "V": (Cut("contraction", 2),)})
    expansion = expansion_of(load("attention-head:4x4"), split)
    given = [tile.name for tile in expansion.tiles if tile.kind is not TileKind.ACTIVATION]
    assert given == ["I[0:2,:]", "I[2:4,:]", "W_Q[:,0:2]", "W_Q[:,2:4]", "W_K", "W_V[0:2,:]", "W_V[2:4,:]"]


def test_outputs_seen_through_a_concatenation_are_outputs() -> None:
    tensors = [Tensor("x", 4, "input", (2, 2)), *(Tensor(name, 4, "activation", (2, 2)) for name in "ab"), Tensor("y", 8, "output", (4, 2))]
    operators = [
        Operator("A", "Relu", ("x",), ("a",)),
        Operator("B", "Exp", ("a",), ("b",)),
        Operator("Y", "Concat", ("a", "b"), ("y",), {"axis": 0}),
    ]
    expansion = expansion_of(Graph(tensors, operators), Split())
    assert [tile.name for tile in expansion.tiles if tile.is_output] == ["a", "b"]


def test_an_operator_with_two_outputs_writes_one_tile_for_both() -> None:
    tensors = [
        Tensor("x", 4, "input", (2, 2)),
        Tensor("a", 4, "activation", (2, 2)),
        Tensor("b", 4, "activation", (2, 2)),
        Tensor("y", 4, "output", (2, 2)),
    ]
    operators = [Operator("T", "TopK", ("x",), ("a", "b")), Operator("Y", "Relu", ("b",), ("y",))]
    expansion = expansion_of(Graph(tensors, operators), Split())
    assert names(expansion, "Y") == (["T"], ["a"], "y")
    assert next(tile for tile in expansion.tiles if tile.name == "a").size_bytes == 8
    assert expansion.assumptions == ("TopK: what its pieces read is not known; it is not cut and reads its operands whole",)


# What is told to whoever knows costs


def test_a_piece_tells_its_loops_its_bits_and_the_work_of_its_layer() -> None:
    prices = Flat()
    expand(load("attention-head:8x4,dtype=bf16"), parse_split("rows=2"), Semantics(), prices)
    scores = next(piece for piece in prices.pieces if piece.node == "S[1]")
    assert (scores.dims, scores.repeat, scores.layer_work) == ((1, 8, 4, 4, 1, 1, 1), 1, 8 * 4 * 8)
    assert (scores.input_bits, scores.output_bits, scores.element_bytes) == ((4 * 4 * 16, 8 * 4 * 16), 4 * 8 * 16, (2, 2, 2))


def test_pieces_of_every_split_do_the_work_of_the_layer_once() -> None:
    for split in ("rows=3", "columns=2", "contraction=3", "channels=4", "rows=2,channels=3"):
        for name in ("two-conv:3x9x7,5,6,k3", "attention-head:7x5"):
            prices = Flat()
            expand(load(name), parse_split(split), Semantics(), prices)
            for layer in {piece.layer for piece in prices.pieces}:
                pieces = [piece for piece in prices.pieces if piece.layer == layer]
                assert sum(piece.work for piece in pieces) == pieces[0].layer_work


# What is wrong


def test_a_split_that_names_an_unknown_layer_lists_the_layers() -> None:
    with pytest.raises(InputError, match=r"layers\.QK: no such layer; the layers are Q, K, V, S, A"):
        expansion_of(load("attention-head:4x4"), Split(layers={"QK": (Cut("rows", 2),)}))


def test_a_tensor_without_a_shape_is_named_with_its_operator() -> None:
    graph = Graph([Tensor("x", 4, "input"), Tensor("y", 4, "output")], [Operator("R", "Relu", ("x",), ("y",))])
    with pytest.raises(InputError) as error:
        layer_extents(graph)
    assert len(error.value.defects) == 2
    assert 'operators[0] "R": tensor "x" has no shape; scheduling needs one' in str(error.value)
