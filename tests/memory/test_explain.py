"""Why buffers do not fit: who clashes, what would be enough, and where it is tight."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

import cosma_sched as cs
from cosma_sched.graph import Buffer, BufferGap
from cosma_sched.memory.explain import Span, explain, load_spans, tightest
from cosma_sched.memory.packing import Packing
from cosma_sched.memory.verify_packing import verify_packing
from cosma_sched.progress import Clock
from tests.memory.packing_reference import brute_force, least_height, pinch, random_buffers


def test_pinch_has_an_irreducible_clash_with_its_proof_and_the_least_capacity() -> None:
    result = cs.pack(pinch(), capacity=12, workers=1)
    assert (result.status, result.bound_bytes, result.proved_by) == ("infeasible", 13, "search")
    assert result.clash is not None
    assert result.clash.irreducible
    assert {rest.buffer for rest in result.clash.without} == set(result.clash.buffers)
    assert result.enough is not None
    assert result.enough.capacity_bytes == 13
    (reason,) = result.reasons
    assert (reason.rule, reason.demand, reason.limit, reason.short) == ("addresses", 13, 12, 1)
    assert [(lever.option, lever.value) for lever in reason.levers] == [("--capacity", 13)]


def test_too_much_load_names_the_time_and_all_that_lives_there() -> None:
    result = cs.pack([Buffer("a", 0, 4, 5), Buffer("b", 2, 6, 6), Buffer("c", 1, 3, 1)], capacity=10, workers=1)
    (reason,) = result.reasons
    assert (reason.rule, reason.where, reason.demand, reason.short) == ("load", "time 2", 12, 2)
    assert reason.terms == (("b", 6), ("a", 5), ("c", 1))
    assert result.clash is not None
    assert (result.clash.buffers, result.clash.irreducible) == (("a", "b"), True)
    assert result.enough is not None
    assert result.enough.capacity_bytes == 12


def test_a_lever_works_and_one_byte_less_does_not() -> None:
    rng = random.Random(21)
    explained = exact = 0
    for _ in range(60):
        buffers = random_buffers(rng, most=6)
        height = least_height(buffers)
        if height is None or height < 2 or any(b.offset is not None for b in buffers):
            continue
        result = cs.pack(buffers, capacity=height - 1, workers=1, time_limit=None)
        assert result.status == "infeasible"
        assert verify_packing(result, buffers) == []
        assert result.enough is not None
        assert result.clash is not None
        explained += 1
        assert result.enough.bound_bytes <= height <= result.enough.capacity_bytes
        assert result.clash.irreducible
        members = [b for b in buffers if b.name in result.clash.buffers]
        assert brute_force(members, height - 1) is None
        exact += result.enough.capacity_bytes == height
    assert exact == explained > 30


def test_a_member_that_is_not_needed_is_left_out_of_the_clash() -> None:
    """Whatever the packer hands over, the explanation keeps only what it can prove."""
    buffers = [*pinch(), Buffer("aside", 0, 1, 1)]
    answer = Packing(cs.Status.INFEASIBLE, cs.Termination.PROVED, None, None, 13, clash=tuple(range(8)), proved_by="search")
    clash, _, _ = explain(buffers, answer, 12, Clock())
    assert clash is not None
    assert "aside" not in clash.buffers
    assert clash.irreducible


def test_an_interrupt_ends_the_explaining_and_keeps_what_is_proven(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cosma_sched.memory.explain.least_height", interrupted)
    result = cs.pack(pinch(), capacity=12, workers=1)
    assert (result.status, result.enough) == ("infeasible", None)
    assert result.clash is not None
    assert result.reasons[0].levers == ()


def test_without_time_for_a_clash_the_reason_stands_alone() -> None:
    answer = Packing(cs.Status.INFEASIBLE, cs.Termination.PROVED, None, None, 13, proved_by="search")
    clash, _, reason = explain(pinch(), answer, 12, Clock(0.0))
    assert clash is None
    assert (reason.demand, reason.terms) == (13, ())
    assert "the buffers hold at most 12 bytes at once" in reason.statement


@pytest.mark.parametrize("features", [False, True])
def test_the_load_over_time_is_that_of_each_time(features: bool) -> None:
    rng = random.Random(2)
    for _ in range(100):
        buffers = random_buffers(rng, features=features)
        spans = load_spans(buffers)
        assert all(before.upper == after.lower for before, after in pairwise(spans))
        for span in spans:
            for time in range(span.lower, span.upper):
                assert span.load_bytes == sum(_held(buffer, time) for buffer in buffers)


def _held(buffer: Buffer, time: int) -> int:
    if not buffer.lower <= time < buffer.upper:
        return 0
    return next(
        (gap.window[1] - gap.window[0] if gap.window else 0 for gap in buffer.gaps if gap.lower <= time < gap.upper), buffer.size_bytes
    )


def test_tight_times_are_cut_where_other_buffers_fill_them() -> None:
    buffers = [Buffer("a", 0, 9, 8, gaps=(BufferGap(2, 5),)), Buffer("b", 2, 5, 8), Buffer("c", 0, 1, 1)]
    assert tightest(buffers) == [Span(0, 1, 9)]
    assert tightest(buffers[:2]) == [Span(0, 2, 8), Span(2, 5, 8), Span(5, 9, 8)]


def test_no_buffers_have_no_tight_times() -> None:
    assert tightest([]) == []
