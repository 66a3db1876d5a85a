"""The checker of packings: each rule is broken by itself, every number that is changed is noticed."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

import cosma_sched as cs
from cosma_sched.errors import Lever
from cosma_sched.graph import Buffer, BufferGap
from cosma_sched.memory.packing_answer import Clashing, PackingResult, Without
from cosma_sched.memory.second_search import fits_after_all
from cosma_sched.memory.verify_packing import load_of, verify_packing
from tests.memory.packing_reference import brute_force, faults, pinch, random_buffers

BUFFERS = [
    Buffer("pinned", 0, 4, 4, offset=8),
    Buffer("aligned", 1, 5, 5, alignment=4),
    Buffer("hollow", 0, 6, 3, gaps=(BufferGap(2, 4, (1, 2)),)),
    Buffer("plain", 3, 7, 4),
]


def packed() -> PackingResult:
    return cs.pack(BUFFERS, capacity=16, workers=1)


def infeasible() -> PackingResult:
    return cs.pack(pinch(), capacity=12, workers=1)


def overloaded() -> PackingResult:
    return cs.pack([Buffer("a", 0, 4, 5), Buffer("b", 2, 6, 6), Buffer("c", 1, 3, 1)], capacity=10, workers=1)


def minimized() -> PackingResult:
    return cs.pack(pinch(), minimize=True, workers=1)


def rules(result: PackingResult, buffers: list[Buffer] | None = None) -> set[str]:
    return {violation.rule for violation in verify_packing(result, buffers)}


@pytest.mark.parametrize("answer", [packed, infeasible, overloaded, minimized])
def test_an_answer_holds_and_comes_back_from_its_document(answer: Any) -> None:
    result = answer()
    assert verify_packing(result, list(result.buffers)) == []
    again = PackingResult.from_json(result.to_json())
    assert again == result
    assert verify_packing(again) == []


def moved(result: PackingResult, name: str, offset: int) -> PackingResult:
    index = [buffer.name for buffer in result.buffers].index(name)
    offsets = list(result.offsets or ())
    offsets[index] = offset
    return result.replace(offsets=tuple(offsets))


def test_two_buffers_at_one_address_overlap() -> None:
    result = packed()
    assert "overlap" in rules(moved(result, "plain", result.offset_of("pinned") or 0))
    assert "overlap" in rules(moved(result, "hollow", result.offset_of("pinned") or 0))


def test_a_buffer_above_the_capacity_or_below_zero_is_outside() -> None:
    assert "capacity" in rules(moved(packed(), "plain", 13))
    assert "capacity" in rules(moved(packed(), "plain", -1))


@pytest.mark.parametrize("capacity", [17, None])
def test_a_capacity_that_was_not_asked_for_is_noticed(capacity: int | None) -> None:
    assert "capacity" in rules(packed().replace(capacity_bytes=capacity))


def test_an_offset_off_its_alignment_is_noticed() -> None:
    assert "alignment" in rules(moved(packed(), "aligned", 1))


def test_a_buffer_away_from_its_pin_is_noticed() -> None:
    assert "pins" in rules(moved(packed(), "pinned", 12))


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"size_bytes": 3}, "buffers"),
        ({"lower": 2}, "buffers"),
        ({"upper": 8}, "buffers"),
        ({"alignment": 2}, "alignment"),
        ({"offset": 0}, "pins"),
        ({"gaps": (BufferGap(4, 5),)}, "gaps"),
        ({"name": "other"}, "buffers"),
    ],
)
def test_a_buffer_that_is_not_the_inputs_is_named_under_its_rule(change: dict[str, Any], rule: str) -> None:
    result = packed()
    altered = [replace(buffer, **change) if buffer.name == "plain" else buffer for buffer in result.buffers]
    assert rules(result.replace(buffers=tuple(altered)), BUFFERS) == {rule}


def test_a_gap_that_was_left_out_of_the_answer_is_named() -> None:
    result = packed()
    solid = tuple(replace(buffer, gaps=()) for buffer in result.buffers)
    assert rules(result.replace(buffers=solid), BUFFERS) == {"gaps"}


def test_a_buffer_that_is_missing_is_named() -> None:
    result = packed()
    less = result.replace(buffers=result.buffers[1:], offsets=(result.offsets or ())[1:])
    assert [(v.rule, v.buffer) for v in verify_packing(less, BUFFERS)] == [("buffers", "pinned")]


@pytest.mark.parametrize("by", [-1, 1])
@pytest.mark.parametrize(
    ("field", "rule"),
    [("height_bytes", "height"), ("bound_bytes", "bound"), ("load_bytes", "load"), ("load_time", "load"), ("gap", "bound")],
)
@pytest.mark.parametrize("answer", [packed, minimized])
def test_a_changed_number_of_a_packing_is_noticed(answer: Any, field: str, rule: str, by: int) -> None:
    result = answer()
    assert rule in rules(result.replace(**{field: getattr(result, field) + by}))


@pytest.mark.parametrize("by", [-1, 1])
@pytest.mark.parametrize(("field", "rule"), [("bound_bytes", "bound"), ("load_bytes", "load"), ("load_time", "load")])
@pytest.mark.parametrize("answer", [infeasible, overloaded])
def test_a_changed_number_of_an_infeasible_answer_is_noticed(answer: Any, field: str, rule: str, by: int) -> None:
    result = answer()
    assert rule in rules(result.replace(**{field: getattr(result, field) + by}))


@pytest.mark.parametrize("status", ["feasible", "infeasible", "unknown"])
def test_a_status_that_does_not_go_with_the_numbers_is_noticed(status: str) -> None:
    assert rules(minimized().replace(status=cs.Status(status)))


def test_nothing_packed_has_no_height_and_says_so() -> None:
    result = infeasible()
    assert "height" in rules(result.replace(height_bytes=12))
    assert "offsets" in rules(result.replace(status=cs.Status.FEASIBLE, reasons=(), clash=None, enough=None))


def test_a_bound_that_nothing_proves_is_refused() -> None:
    """A time limit leaves height and bound apart; a bound between them needs a search that proves it."""
    result = cs.pack(pinch(), capacity=14, workers=1)
    assert (result.height_bytes, result.bound_bytes) == (13, 12)
    lifted = result.replace(bound_bytes=13, status=cs.Status.OPTIMAL, gap=0.0)
    assert "bound" in rules(lifted)


def test_a_bound_above_a_packing_that_exists_is_refuted_by_the_checkers_own_search() -> None:
    buffers = (Buffer("a", 0, 2, 4), Buffer("b", 1, 3, 4))
    result = minimized().replace(buffers=buffers, offsets=(0, 5), height_bytes=9, bound_bytes=9, load_bytes=8, load_time=1, gap=0.0)
    assert rules(result) == {"bound"}


def test_a_clash_that_can_be_packed_is_refuted() -> None:
    result = infeasible()
    assert result.clash is not None
    names = result.clash.buffers[:-1]
    assert "clash" in rules(result.replace(clash=Clashing(names, False)))


def test_a_clash_has_to_prove_that_it_is_irreducible() -> None:
    result = infeasible()
    assert result.clash is not None
    assert "clash" in rules(result.replace(clash=replace(result.clash, without=result.clash.without[1:])))
    assert "clash" in rules(result.replace(clash=replace(result.clash, buffers=(*result.clash.buffers[1:], "nobody"))))
    first, *others = result.clash.without
    left = Without(first.buffer, tuple((name, 0) for name, _ in first.offsets))
    assert "clash" in rules(result.replace(clash=replace(result.clash, without=(left, *others))))
    short = Without(first.buffer, first.offsets[1:])
    assert "clash" in rules(result.replace(clash=replace(result.clash, without=(short, *others))))


def test_a_clash_goes_with_an_infeasible_answer_only() -> None:
    assert "clash" in rules(minimized().replace(clash=infeasible().clash))


@pytest.mark.parametrize("by", [-1, 1])
def test_the_capacity_that_is_said_to_be_enough_is_checked(by: int) -> None:
    result = infeasible()
    assert result.enough is not None
    assert "enough" in rules(result.replace(enough=replace(result.enough, capacity_bytes=result.enough.capacity_bytes + by)))
    assert "enough" in rules(result.replace(enough=replace(result.enough, bound_bytes=result.enough.bound_bytes + by)))
    offsets = (99 * by, *result.enough.offsets[1:])
    assert "enough" in rules(result.replace(enough=replace(result.enough, offsets=offsets)))


@pytest.mark.parametrize("answer", [infeasible, overloaded])
def test_every_number_of_a_reason_is_checked(answer: Any) -> None:
    result = answer()
    (reason,) = result.reasons
    for field in ("demand", "limit", "short"):
        assert "reasons" in rules(result.replace(reasons=(replace(reason, **{field: getattr(reason, field) + 1}),)))
    (name, size), *others = reason.terms
    assert "reasons" in rules(result.replace(reasons=(replace(reason, terms=((name, size + 1), *others)),)))
    assert "reasons" in rules(result.replace(reasons=(replace(reason, levers=(Lever("--capacity", 99, ""),)),)))
    assert "reasons" in rules(result.replace(reasons=()))


@pytest.mark.parametrize("answer", [infeasible, overloaded])
@pytest.mark.parametrize(
    "change", [{"rule": "height"}, {"unit": "KiB"}, {"where": "step 1"}, {"terms": ()}, {"statement": "99 bytes are too many"}]
)
def test_every_word_of_a_reason_is_checked(answer: Any, change: dict[str, Any]) -> None:
    result = answer()
    assert "reasons" in rules(result.replace(reasons=(replace(result.reasons[0], **change),)))


def test_a_capacity_is_called_the_least_only_where_that_is_proven() -> None:
    result = infeasible()
    (reason,) = result.reasons
    lever = replace(reason.levers[0], text="the least that was found")
    assert "reasons" in rules(result.replace(reasons=(replace(reason, levers=(lever,)),)))


@pytest.mark.parametrize("change", [{"proved_by": "luck"}, {"termination": cs.Termination.TIME_LIMIT}])
def test_an_answer_that_is_decided_says_what_decided_it(change: dict[str, Any]) -> None:
    assert "bound" in rules(minimized().replace(**change))


def test_the_time_of_an_overload_is_checked() -> None:
    result = overloaded()
    assert "reasons" in rules(result.replace(reasons=(replace(result.reasons[0], where="time 3"),)))


def numbers(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every whole number of a document that makes a claim."""
    if isinstance(document, dict):
        for key, value in document.items():
            if key not in {"provenance", "seconds", "nodes", "hint"}:
                yield from numbers(value, (*path, key))
    elif isinstance(document, list):
        for index, value in enumerate(document):
            yield from numbers(value, (*path, index))
    elif isinstance(document, int) and not isinstance(document, bool):
        yield path


@pytest.mark.parametrize("answer", [packed, infeasible, overloaded, minimized])
def test_every_changed_number_of_a_document_is_refused_or_gives_an_answer_that_is_right_too(answer: Any) -> None:
    result = answer()
    given, refused = list(result.buffers), 0
    for path in numbers(result.to_json()):
        for by in (-1, 1):
            document = copy.deepcopy(result.to_json())
            place = document
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] += by
            try:
                changed = PackingResult.from_json(document)
            except cs.InputError:
                refused += 1
                continue
            if verify_packing(changed, given):
                refused += 1
            else:
                assert is_right(changed, given), (path, by)
    assert refused > 20


def is_right(result: PackingResult, buffers: list[Buffer]) -> bool:
    """Judge by brute force what the checker let pass."""
    if result.buffers != tuple(buffers):
        return False
    capacity = result.capacity_bytes if result.capacity_bytes is not None else 10**6
    if result.offsets is not None:
        return not faults(buffers, result.offsets, capacity)
    return brute_force(buffers, capacity) is None


def test_the_load_agrees_with_counting_at_every_time() -> None:
    rng = random.Random(9)
    for _ in range(200):
        buffers = random_buffers(rng)
        counts = {time: sum(_bytes_at(buffer, time) for buffer in buffers) for time in range(8)}
        load, time = load_of(buffers)
        assert load == max(counts.values())
        assert counts[time] == load or load == 0


def _bytes_at(buffer: Buffer, time: int) -> int:
    if not buffer.lower <= time < buffer.upper:
        return 0
    for gap in buffer.gaps:
        if gap.lower <= time < gap.upper:
            return gap.window[1] - gap.window[0] if gap.window else 0
    return buffer.size_bytes


def test_the_checkers_own_search_agrees_with_brute_force() -> None:
    rng = random.Random(13)
    compared = 0
    for _ in range(300):
        buffers = random_buffers(rng, most=6)
        if any(gap.window is not None for buffer in buffers for gap in buffer.gaps):
            continue
        compared += 1
        capacity = rng.randint(4, 16)
        assert fits_after_all(buffers, capacity) == (brute_force(buffers, capacity) is not None), (buffers, capacity)
    assert compared > 200


def test_the_checkers_own_search_leaves_many_buffers_and_parts_of_buffers_alone() -> None:
    assert not fits_after_all([Buffer(f"b{i}", 0, 1, 1) for i in range(99)], 100)
    assert not fits_after_all([Buffer("b", 0, 4, 4, gaps=(BufferGap(1, 2, (0, 1)),))], 100)
