"""Packing against an independent checker and brute force."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from cosma_sched.errors import InputError, UsageError
from cosma_sched.graph import Buffer, BufferGap
from cosma_sched.memory.packing import max_load, pack
from cosma_sched.memory.packing_strip import Strip, partitions
from cosma_sched.progress import Clock
from cosma_sched.result import Status, Termination
from tests.memory.packing_reference import brute_force, faults, least_height, mirrored, pinch, random_buffers, read_minimalloc

CAPACITY = 1_048_576


def test_pinch_is_infeasible_at_its_load_and_says_which_buffers_clash() -> None:
    answer = pack(pinch(), 12)
    assert (answer.status, answer.termination, answer.offsets) == (Status.INFEASIBLE, Termination.PROVED, None)
    assert answer.bound_bytes == 13
    assert answer.clash
    assert answer.clash_is_irreducible
    clash = [pinch()[index] for index in answer.clash]
    assert brute_force(clash, 12) is None
    assert all(brute_force([other for other in clash if other is not one], 12) for one in clash)


def test_pinch_packs_one_byte_above_its_load() -> None:
    answer = pack(pinch(), 13)
    assert answer.status in {Status.OPTIMAL, Status.FEASIBLE}
    assert answer.offsets is not None
    assert not faults(pinch(), answer.offsets, 13)


def test_an_explanation_is_made_only_on_request() -> None:
    answer = pack(pinch(), 12, explain=False)
    assert (answer.status, answer.clash) == (Status.INFEASIBLE, ())


def test_a_height_that_meets_the_load_is_optimal() -> None:
    buffers = [Buffer("a", 0, 3, 4), Buffer("b", 2, 5, 4), Buffer("c", 4, 6, 4)]
    answer = pack(buffers, 8)
    assert (answer.status, answer.height_bytes, answer.bound_bytes, answer.proved_by) == (Status.OPTIMAL, 8, 8, "heuristic")


def test_a_height_above_the_bound_is_feasible_and_the_method_is_exhausted() -> None:
    answer = pack(pinch(), 13)
    assert (answer.status, answer.termination, answer.bound_bytes) == (Status.FEASIBLE, Termination.EXHAUSTED, 12)


def test_too_much_load_is_answered_with_a_time_and_buffers_that_exceed_the_capacity_there() -> None:
    buffers = [Buffer("a", 0, 9, 5), Buffer("b", 3, 5, 1), Buffer("c", 4, 6, 4), Buffer("d", 4, 5, 2), Buffer("e", 7, 9, 3)]
    answer = pack(buffers, 8)
    assert (answer.status, answer.proved_by, answer.overload_time, answer.bound_bytes) == (Status.INFEASIBLE, "load", 4, 12)
    assert answer.clash == (0, 2)
    assert answer.clash_is_irreducible


def test_a_buffer_above_the_capacity_clashes_alone() -> None:
    answer = pack([Buffer("a", 0, 9, 5), Buffer("b", 3, 5, 9)], 8)
    assert (answer.clash, answer.overload_time) == ((1,), 3)


def test_an_overload_of_aligned_buffers_is_shrunk_until_alignment_too_is_needed() -> None:
    buffers = [Buffer("a", 0, 2, 3, alignment=4), Buffer("b", 0, 2, 3, alignment=4), Buffer("c", 0, 2, 3, alignment=4)]
    answer = pack(buffers, 8)
    assert (answer.status, len(answer.clash), answer.clash_is_irreducible) == (Status.INFEASIBLE, 3, True)


def test_alignment_may_make_a_load_that_fits_impossible() -> None:
    answer = pack([Buffer("a", 0, 2, 5, alignment=4), Buffer("b", 0, 2, 5, alignment=4)], 12)
    assert (answer.status, answer.clash) == (Status.INFEASIBLE, (0, 1))


def test_two_pins_that_overlap_clash() -> None:
    answer = pack([Buffer("a", 0, 2, 4, offset=0), Buffer("x", 0, 2, 1), Buffer("b", 1, 3, 4, offset=2)], 16)
    assert (answer.status, answer.proved_by, answer.clash) == (Status.INFEASIBLE, "pins", (0, 2))


def test_a_pin_that_ends_above_the_capacity_clashes_alone() -> None:
    answer = pack([Buffer("a", 0, 2, 4), Buffer("b", 0, 2, 4, offset=6)], 9)
    assert (answer.status, answer.proved_by, answer.clash) == (Status.INFEASIBLE, "pins", (1,))


def test_no_buffers_pack_into_nothing() -> None:
    assert (pack([], 0).status, pack([], 0).offsets, pack([], 0).height_bytes) == (Status.OPTIMAL, (), 0)


def test_an_empty_buffer_and_a_buffer_that_is_one_gap_need_no_room() -> None:
    buffers = [Buffer("a", 0, 4, 8), Buffer("empty", 0, 4, 0), Buffer("hollow", 0, 4, 8, gaps=(BufferGap(0, 4),))]
    answer = pack(buffers, 8)
    assert (answer.status, answer.offsets) == (Status.OPTIMAL, (0, 0, 0))


def test_a_negative_capacity_is_refused() -> None:
    with pytest.raises(UsageError, match="capacity"):
        pack([], -1)


def test_hints_that_form_a_packing_are_kept() -> None:
    buffers = [Buffer("a", 0, 2, 4, hint=12), Buffer("b", 0, 2, 4, hint=4)]
    assert pack(buffers, 16).offsets == (12, 4)


def test_a_time_limit_of_zero_leaves_a_hard_case_open() -> None:
    answer = pack(pinch(), 12, clock=Clock(0.0))
    assert (answer.status, answer.termination, answer.bound_bytes) == (Status.UNKNOWN, Termination.TIME_LIMIT, 12)


@pytest.mark.parametrize("features", [False, True])
def test_random_buffers_pack_at_their_least_height_and_not_below(features: bool) -> None:
    rng = random.Random(7)
    for _ in range(150):
        buffers = random_buffers(rng, features=features)
        height = least_height(buffers)
        if height is None:
            assert pack(buffers, 100, explain=False).status is Status.INFEASIBLE
            continue
        answer = pack(buffers, height)
        assert answer.offsets is not None, buffers
        assert not faults(buffers, answer.offsets, height)
        assert answer.bound_bytes <= height
        below = pack(buffers, height - 1)
        assert below.status is Status.INFEASIBLE, buffers
        assert below.bound_bytes <= height
        clash = [buffers[index] for index in below.clash]
        assert below.clash_is_irreducible
        assert brute_force(clash, height - 1) is None
        assert all(brute_force([other for other in clash if other is not one], height - 1) is not None for one in clash)


def test_running_time_backwards_changes_no_answer() -> None:
    rng = random.Random(11)
    for _ in range(60):
        buffers = random_buffers(rng, features=False)
        capacity = max_load(buffers)[0]
        assert pack(buffers, capacity).status == pack(mirrored(buffers), capacity).status


def test_scaling_sizes_scales_offsets() -> None:
    buffers = pinch()
    large = [Buffer(b.name, b.lower, b.upper, 1024 * b.size_bytes) for b in buffers]
    plain, scaled = pack(buffers, 13), pack(large, 13 * 1024 + 1023)
    assert scaled.offsets == tuple(1024 * offset for offset in plain.offsets or ())


def test_the_same_seed_gives_the_same_answer() -> None:
    buffers = random_buffers(random.Random(3), 60, features=False)
    capacity = max_load(buffers)[0]
    assert pack(buffers, capacity, seed=5).offsets == pack(buffers, capacity, seed=5).offsets


def test_sections_are_the_maximal_sets_of_live_buffers() -> None:
    strip = Strip.of([Buffer("a", 0, 10, 2), Buffer("b", 1, 5, 2), Buffer("c", 5, 6, 2), Buffer("d", 8, 20, 2)], 8)
    assert (strip.num_sections, strip.times, strip.load) == (3, (1, 5, 8), (2, 2, 2))
    assert strip.spans == ((0, 3), (0, 1), (1, 2), (2, 3))


def test_buffers_split_where_no_lifetime_crosses() -> None:
    assert partitions([Buffer("a", 5, 9, 1), Buffer("b", 0, 3, 1), Buffer("c", 2, 5, 1), Buffer("d", 8, 9, 1)]) == [[1, 2], [0, 3]]


def test_the_unit_measures_alignments_that_the_sizes_do_not() -> None:
    assert Strip.of([Buffer("a", 0, 1, 12, alignment=8), Buffer("b", 0, 1, 24)], 40).unit == 4
    assert Strip.of([Buffer("a", 0, 1, 12, alignment=4), Buffer("b", 0, 1, 24, alignment=24)], 40).unit == 12


def test_the_load_counts_gaps() -> None:
    buffers = [Buffer("a", 0, 9, 8, gaps=(BufferGap(2, 4), BufferGap(5, 6, (0, 3)))), Buffer("b", 3, 6, 5)]
    assert max_load(buffers) == (13, 4)
    assert max_load(buffers[:1]) == (8, 0)
    assert max_load([]) == (0, 0)


def test_a_buffer_names_every_mistake_at_once() -> None:
    with pytest.raises(InputError) as raised:
        Buffer("a", 3, 3, -1, alignment=4, offset=2)
    assert [defect.where for defect in raised.value.defects] == ["upper", "size_bytes", "offset"]
    with pytest.raises(InputError, match=r"gaps\[0\]"):
        Buffer("a", 3, 5, 1, gaps=(BufferGap(2, 4),))


def test_importing_and_easy_packings_load_no_solver() -> None:
    code = (
        "import sys; from cosma_sched.memory.packing import pack; from cosma_sched.graph import Buffer; "
        "pack([Buffer('a', 0, 2, 4), Buffer('b', 1, 3, 4)], 8); "
        "print([name for name in ('ortools', 'pulp', 'numba', 'onnx') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["A", "B", "E", "F", "G", "H", "I", "K"])
def test_minimalloc_instances_are_refused_at_once_below_their_load(shared_data: Path, name: str) -> None:
    buffers = read_minimalloc(shared_data / "minimalloc" / f"{name}.{CAPACITY}.csv")
    answer = pack(buffers, CAPACITY - 1024)
    assert (answer.status, answer.proved_by, max_load(buffers)[0]) == (Status.INFEASIBLE, "load", CAPACITY)
    time = answer.overload_time
    assert sum(b.size_bytes for b in (buffers[i] for i in answer.clash) if b.lower <= time < b.upper) > CAPACITY - 1024


def test_minimalloc_input_12_packs_at_its_load(shared_data: Path) -> None:
    buffers = read_minimalloc(shared_data / "minimalloc" / "input.12.csv")
    answer = pack(buffers, 12)
    assert (answer.status, answer.height_bytes) == (Status.OPTIMAL, 12)
    assert not faults(buffers, answer.offsets or (), 12)
