"""Splits: bounds of the parts, the two ways to write them down, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosma_sched.errors import InputError, UsageError
from cosma_sched.multicore.splits import Cut, Split, parse_split, read_split, split_of


def test_parts_of_an_extent_that_does_not_divide_are_uneven() -> None:
    assert Cut("rows", parts=3).bounds(10) == (0, 3, 6, 10)


def test_pieces_of_a_size_leave_the_rest_to_the_last() -> None:
    assert Cut("rows", size=4).bounds(10) == (0, 4, 8, 10)


@given(st.integers(1, 60), st.integers(1, 80))
def test_parts_cover_the_extent_and_none_is_empty(extent: int, parts: int) -> None:
    bounds = Cut("rows", parts=parts).bounds(extent)
    assert bounds[0] == 0
    assert bounds[-1] == extent
    assert list(bounds) == sorted(set(bounds))
    assert len(bounds) - 1 == min(parts, extent)


def test_a_default_leaves_out_dimensions_that_a_layer_lacks() -> None:
    split = parse_split("rows=4,columns=2")
    assert split.of("norm", {"rows": 8}) == (Cut("rows", 4),)


def test_a_named_layer_has_its_own_cuts_alone() -> None:
    split = Split((Cut("rows", 8),), {"S": (Cut("columns", 2),)})
    assert split.of("S", {"rows": 8, "columns": 8}) == (Cut("columns", 2),)
    assert split.of("A", {"rows": 8, "columns": 8}) == (Cut("rows", 8),)


def test_a_split_file_reads_both_ways_of_writing_cuts(tmp_path: Path) -> None:
    file = tmp_path / "split.yaml"
    file.write_text("default: {rows: 8}\nlayers:\n  S: [{dim: columns, parts: 8}]\n  conv1: [{dim: rows, size: 4}]\n")
    expected = Split((Cut("rows", 8),), {"S": (Cut("columns", 8),), "conv1": (Cut("rows", size=4),)})
    assert read_split(file) == expected
    assert split_of(str(file)) == expected


def test_a_split_survives_its_json() -> None:
    split = Split((Cut("rows", 8),), {"S": (Cut("columns", size=3), Cut("contraction", 2, spread=True))})
    assert Split.from_json(split.to_json()) == split


def test_an_unknown_layer_lists_the_layers() -> None:
    defects = list(Split(layers={"scores": (Cut("rows", 2),)}).defects({"Q": {"rows": 4}, "S": {"rows": 4}}))
    assert str(defects[0]) == "layers.scores: no such layer; the layers are Q, S"


def test_a_dimension_that_a_layer_lacks_and_too_many_parts_are_named() -> None:
    split = Split(layers={"P": (Cut("contraction", 2),), "S": (Cut("rows", 9),)})
    found = [str(defect) for defect in split.defects({"P": {"rows": 4, "columns": 4}, "S": {"rows": 4}})]
    assert found == [
        'layers.P[0].dim: the layer has rows, columns; got "contraction"',
        "layers.S[0].parts: must be at most 4, the extent of rows, got 9",
    ]


def test_every_mistake_of_a_file_is_reported_at_once(tmp_path: Path) -> None:
    file = tmp_path / "split.yaml"
    file.write_text(
        "default: {row: 8, rows: 0}\nlayer: {}\nlayers:\n  S: [{dim: columns}]\n  A: [{dim: rows, parts: 2, spread: true}, 3]\n  B: 4\n"
    )
    with pytest.raises(InputError) as error:
        read_split(file)
    places = [defect.where for defect in error.value.defects]
    assert places == ["layer", "default.row", "default.rows", "layers.S[0]", "layers.A[0].spread", "layers.A[1]", "layers.B"]


@pytest.mark.parametrize(
    ("text", "message"),
    [("row=4", 'did you mean "rows"'), ("rows=0", '>= 1, got "0"'), ("rows=4,rows=2", "stands twice"), ("rows=", ">= 1")],
)
def test_a_malformed_option_is_named(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_split(text)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(InputError, match=r"nowhere\.yaml"):
        split_of("nowhere.yaml")
