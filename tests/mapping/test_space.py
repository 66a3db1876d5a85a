"""Mapping strings: what is read, what is printed, what is refused and where."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosma_sched.errors import InputError
from cosma_sched.mapping.space import divisors, parse, spatial_splits, splits
from tests.mapping.cases import nests_of, small_layers

EXAMPLE = "L3[WIO] K48 - L2[WI] K16X - L1[O] C48 P16 C16X - L0[W] P8"


@given(st.data())
def test_what_is_printed_reads_back_equal(data: st.DataObject) -> None:
    nest = data.draw(nests_of(data.draw(small_layers())))
    assert str(parse(str(nest))) == str(nest)
    assert parse(str(nest)).products() == nest.products()


def test_the_example_of_the_interface_means_what_it_says() -> None:
    nest = parse(EXAMPLE)
    assert str(nest) == EXAMPLE
    assert nest.products() == (1, 768, 768, 128, 1, 1, 1)
    assert (nest.spatial(1), nest.spatial(2)) == (16, 16)


def test_loops_of_factor_one_are_accepted_and_not_printed() -> None:
    assert str(parse("L3[WIO] N1 K2 - L2[WI] N1 - L1[O] K2 - L0[W] N1")) == "L3[WIO] K2 - L2[WI] - L1[O] K2 - L0[W]"


def test_the_order_of_the_tensors_in_a_head_is_free() -> None:
    assert parse("L3[IOW] - L2[IW] - L1[O] - L0[W]") == parse("L3[WIO] - L2[WI] - L1[O] - L0[W]")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "position 1: the end of the text: must be L3[WIO]"),
        ("L3[WIO] K48 - L2[WI] K16X - L1[O] C48", "position 38: the end of the text"),
        ("L3[WI] - L2[WI] - L1[O] - L0[W]", 'position 1: "L3[WI]" must be L3[WIO]'),
        ("L3[WIO] K48 L2[WI] - L1[O] - L0[W]", 'position 13: "L2[WI]" must be a loop'),
        ("L3[WIO] Kx - L2[WI] - L1[O] - L0[W]", 'position 9: "Kx" must be a dim and a factor'),
        ("L3[WIO] Z4 - L2[WI] - L1[O] - L0[W]", 'position 9: "Z4" has no dim Z; dims are N, K, C, P, Q, R, S'),
        ("L3[WIO] K0 - L2[WI] - L1[O] - L0[W]", 'position 9: "K0" must have a factor >= 1'),
        ("L3[WIO] - L2[WI] C4X - L1[O] - L0[W]", 'position 18: "C4X" cannot be spatial here'),
        ("L3[WIO] - L2[WI] - L1[O] P2 P3 - L0[W]", 'position 29: "P3" stands twice at L1'),
        ("L3[WIO] - L2[WI] - L1[O] - L0[W] - K3", 'position 34: "-" must be a loop such as P16, or the end'),
    ],
)
def test_a_malformed_string_is_refused_with_position_and_token(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(text)
    assert message in str(caught.value)


@pytest.mark.parametrize("extent", [1, 2, 12, 97, 360])
def test_splits_are_all_factorisations(extent: int) -> None:
    assert divisors(extent) == tuple(d for d in range(1, extent + 1) if extent % d == 0)
    assert all(a * b == extent for a, b in splits(extent))
    triples = {(s, a, b) for s in range(1, 17) for a in range(1, extent + 1) for b in [extent // (s * a) or 1] if s * a * b == extent}
    assert set(spatial_splits(extent, 16)) == triples
