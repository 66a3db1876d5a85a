"""The loop-nest walker against the model: the rules of verification."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosma_sched.mapping.layer import DIMS, Layer
from cosma_sched.mapping.scoring import score
from cosma_sched.mapping.space import LoopNest, parse
from cosma_sched.mapping.walker import walk
from tests.mapping.cases import HAND_CASES, SMALL, l2_l1, layer, nests_of, small_layers


@pytest.mark.parametrize("case", HAND_CASES, ids=[case[0] for case in HAND_CASES])
def test_the_walker_equals_the_model_on_the_hand_cases(case: tuple) -> None:
    name, l3, l1, mapped, (w, i), (o, psum), accesses, _, _, i_reuse = case
    walked = walk(mapped, parse(l2_l1(l3, l1)), 10**6)
    assert (walked.w, walked.o, walked.psum) == (w, o, psum)
    assert walked.register_fills == accesses[0] - mapped.macs
    assert walked.i == (i_reuse if name in "IL" else i)


@given(st.data())
@settings(max_examples=120)
def test_weights_outputs_and_partial_sums_always_equal_the_model(data: st.DataObject) -> None:
    mapped = data.draw(small_layers())
    nest = data.draw(nests_of(mapped))
    walked, found = walk(mapped, nest), score(mapped, nest, SMALL)
    repeat = mapped.repeat
    assert (walked.w, walked.o, walked.psum) == (found.words.w // repeat, found.words.o // repeat, found.words.psum // repeat)
    assert walked.register_fills == found.register_fills // repeat


@given(st.data())
@settings(max_examples=120)
def test_inputs_are_never_above_true_reuse(data: st.DataObject) -> None:
    mapped = data.draw(small_layers())
    nest = data.draw(nests_of(mapped))
    walked = walk(mapped, nest)
    assert walked.i is not None
    assert walked.i <= score(mapped, nest, SMALL, "reuse").words.i // mapped.repeat


def test_parity_keeps_a_row_of_a_long_kernel_that_is_not_there() -> None:
    """Timeloop counts so; the checker lets it pass."""
    mapped = layer(P=4, R=5)
    nest = parse("L3[WIO] P2 R5 - L2[WI] - L1[O] P2 - L0[W]")
    assert (score(mapped, nest, SMALL).words.i, score(mapped, nest, SMALL, "reuse").words.i, walk(mapped, nest).i) == (11, 12, 12)


@given(st.data())
@settings(max_examples=50)
def test_the_walker_counts_what_sets_of_elements_count(data: st.DataObject) -> None:
    mapped = data.draw(small_layers(most=4))
    nest = data.draw(nests_of(mapped))
    assert walk(mapped, nest).i == _input_elements_by_sets(mapped, nest)


def _input_elements_by_sets(mapped: Layer, nest: LoopNest) -> int:
    """Count fetched input elements with every tile written out as a set."""
    tile = {DIMS[d]: product // outer for d, (product, outer) in enumerate(zip(nest.products(), nest.temporal(3), strict=True))}
    loops = [(DIMS[loop.dim], loop.factor) for loop in nest.at(3)]
    fetched, before = 0, set()
    for indices in itertools.product(*(range(factor) for _, factor in loops)):
        start = {dim: 0 for dim in DIMS} | {dim: index * tile[dim] for (dim, _), index in zip(loops, indices, strict=True)}
        top, left = (start[a] * s + start[k] * d for a, k, s, d in _axes(mapped))
        height, width = ((tile[a] - 1) * s + (tile[k] - 1) * d + 1 for a, k, s, d in _axes(mapped))
        now = set(
            itertools.product(
                range(start["N"], start["N"] + tile["N"]),
                range(start["C"], start["C"] + tile["C"]),
                range(top, top + height),
                range(left, left + width),
            )
        )
        fetched += len(now - before)
        before = now
    return fetched


def _axes(mapped: Layer) -> list[tuple[str, str, int, int]]:
    return [("P", "R", mapped.stride_p, mapped.dilation_p), ("Q", "S", mapped.stride_q, mapped.dilation_q)]


def test_a_walk_that_would_be_too_long_is_left_out() -> None:
    mapped = layer(K=16, C=16, P=16)
    nest = parse("L3[WIO] K16 - L2[WI] - L1[O] C16 P16 - L0[W]")
    walked = walk(mapped, nest, limit=100)
    assert walked.w == math.prod((16, 16))
    assert walked.register_fills is None


def test_loops_at_l2_and_l0_are_walked_too() -> None:
    mapped = layer(K=4, C=4, P=4)
    nest = parse("L3[WIO] C2 - L2[WI] K2 - L1[O] K2 C2X - L0[W] P4")
    walked, found = walk(mapped, nest), score(mapped, nest, SMALL)
    assert (walked.w, walked.i, walked.o, walked.psum) == (found.words.w, found.words.i, found.words.o, found.words.psum)
    assert walked.register_fills == found.register_fills
