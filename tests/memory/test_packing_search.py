"""The canonical search: exact against brute force, the same with and without compilation, repeatable, refutes what greedy cannot."""

from __future__ import annotations

import importlib.util
import random
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from cosma_sched.errors import MissingError
from cosma_sched.graph import Buffer, BufferGap
from cosma_sched.memory import packing, packing_compiled, packing_kernel, packing_portfolio, packing_search
from cosma_sched.memory.packing import max_load, pack
from cosma_sched.memory.packing_height import least_height as lowest
from cosma_sched.memory.packing_orders import POOL, Orders, luby
from cosma_sched.memory.packing_search import CanonicalSearch, is_searchable
from cosma_sched.memory.packing_strip import Strip, partitions
from cosma_sched.progress import Clock
from cosma_sched.result import Status, Termination
from tests.memory.packing_reference import brute_force, faults, least_height, mirrored, pinch, random_buffers, read_minimalloc

CAPACITY = 1_048_576
# Nodes within reach of plain Python in the default run; the others are marked slow.
EASY, LONG = ("B", "C", "F", "G", "K"), ("A", "D", "E", "H", "I", "J")


def searched(buffers: list[Buffer], capacity: int, *, compiled: bool = False, seed: int = 0) -> tuple[int, ...] | None:
    """Offsets of a partition by the search alone, None where it refutes."""
    strip = Strip.of(buffers, capacity)
    outcome = CanonicalSearch(strip, seed, compiled=compiled).advance(Clock())
    assert outcome.termination is Termination.PROVED
    assert outcome.is_infeasible == (outcome.offsets is None)
    return None if outcome.offsets is None else tuple(offset * strip.unit for offset in outcome.offsets)


def tangle(rng: random.Random) -> list[Buffer]:
    """Few sizes and lifetimes, so that equal buffers and equal lifetimes are frequent."""
    spans = [(0, 3), (1, 3), (2, 5), (1, 5), (3, 6)]
    drawn = [(*rng.choice(spans), rng.choice((2, 3, 5)), rng.choice((1, 1, 2, 4))) for _ in range(rng.randint(2, 7))]
    return [Buffer(f"b{i}", lower, upper, size, alignment) for i, (lower, upper, size, alignment) in enumerate(drawn)]


def agree_with_brute_force(count: int, seed: int) -> None:
    """Compare packings at the least height, and refutations below, with brute force; windows go to CP-SAT."""
    rng = random.Random(seed)
    for number in range(count):
        buffers = tangle(rng) if number % 4 == 0 else random_buffers(rng, features=number % 4 != 1)
        height = least_height(buffers)
        if height is None:
            assert pack(buffers, 100, explain=False).status is Status.INFEASIBLE, buffers
            continue
        answer = pack(buffers, height, seed=number, explain=False)
        assert answer.offsets is not None, (buffers, height)
        assert not faults(buffers, answer.offsets, height), (buffers, height)
        assert pack(buffers, height - 1, seed=number, explain=False).status is Status.INFEASIBLE, (buffers, height)


def test_two_thousand_random_cases_agree_with_brute_force() -> None:
    agree_with_brute_force(2_000, seed=1)


@pytest.mark.slow
def test_a_hundred_thousand_random_cases_agree_with_brute_force() -> None:
    agree_with_brute_force(100_000, seed=2)


@pytest.mark.parametrize("count", [2_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_the_search_alone_agrees_with_brute_force_where_greedy_would_answer_first(count: int) -> None:
    rng = random.Random(count)
    for _ in range(count):
        buffers = [b for b in (tangle(rng) if rng.random() < 0.5 else random_buffers(rng)) if not any(gap.window for gap in b.gaps)]
        height = least_height(buffers)
        if not buffers or height is None:
            continue
        offsets = searched(buffers, height + rng.randrange(2))
        assert offsets is not None, buffers
        assert not faults(buffers, offsets, height + 1), buffers


def never_refuted(count: int, seed: int) -> None:
    """Search packings that were built first, larger than brute force can judge; with pins, alignment and gaps."""
    rng = random.Random(seed)
    for number in range(count):
        buffers, capacity = built(rng)
        strip = Strip.of(buffers, capacity)
        outcome = CanonicalSearch(strip, number, compiled=False).advance(Clock(), 3_000)
        assert not outcome.is_infeasible, (buffers, capacity)
        assert outcome.offsets is None or not list(strip.violations(outcome.offsets)), (buffers, capacity)


def built(rng: random.Random) -> tuple[list[Buffer], int]:
    """Buffers cut out of a rectangle of time and bytes, and its height."""
    times, capacity = rng.randint(4, 14), rng.randint(8, 40)
    is_taken = [[False] * capacity for _ in range(times)]
    buffers: list[Buffer] = []
    for _ in range(rng.randint(40, 300)):
        lower, alignment = rng.randrange(times), rng.choice((1, 1, 1, 1, 2, 4))
        upper = min(times, lower + rng.randint(1, 6))
        offset = rng.randrange(capacity) // alignment * alignment
        size = min(rng.randint(1, capacity // 2), capacity - offset)
        gaps = (BufferGap(lower + 1, lower + 2),) if upper - lower > 2 and rng.random() < 0.1 else ()
        held = [t for t in range(lower, upper) if not any(gap.lower <= t < gap.upper for gap in gaps)]
        while size and any(any(is_taken[t][offset : offset + size]) for t in held):
            size -= 1
        if size:
            for t in held:
                is_taken[t][offset : offset + size] = [True] * size
            pin = offset if rng.random() < 0.08 else None
            buffers.append(Buffer(f"b{len(buffers)}", lower, upper, size, alignment, pin, None, gaps))
    return buffers[:26], capacity


def test_packings_that_were_built_first_are_never_refuted() -> None:
    never_refuted(150, seed=5)


@pytest.mark.slow
def test_many_packings_that_were_built_first_are_never_refuted() -> None:
    never_refuted(20_000, seed=6)


def test_equal_buffers_follow_the_order_of_the_run() -> None:
    """Placing equal buffers by index while other lifetimes were ranked by order once left no packing that obeys both."""
    lives = ((3, 6, 4), (2, 4, 5), (3, 5, 5), (1, 4, 6), (0, 4, 6))
    assert searched([Buffer(str(i), *life) for i, life in enumerate(lives)], 26) is not None


def test_ranks_are_taken_back_with_the_part_that_made_them() -> None:
    """A part ranks its buffers anew; when it failed and kept those ranks, buffers of the parts above were skipped for good."""
    buffers = [Buffer("a", 4, 7, 2, 4), Buffer("b", 4, 7, 3), Buffer("c", 1, 3, 2), Buffer("d", 2, 4, 3, 4), Buffer("e", 2, 5, 3)]
    assert searched(buffers, 8) is not None


def test_a_refutation_that_rests_on_what_was_tried_before_keeps_its_blame() -> None:
    """A placement without part in a refutation was jumped over with the sections of that alone, and what had been tried was not again."""
    lives = ((4, 5, 6, 1, None), (5, 6, 3, 1, 1), (3, 4, 5, 1, None), (4, 5, 6, 4, None), (4, 5, 3, 4, None), (1, 7, 1, 4, 8))
    buffers = [Buffer(str(index), *life) for index, life in enumerate(lives)]
    offsets = searched(buffers, 19)
    assert offsets is not None
    assert not faults(buffers, offsets, 19)
    assert searched(buffers, 18) is None


def test_pinch_is_refuted_without_a_solver() -> None:
    code = (
        "import sys; from cosma_sched.memory.packing import pack; from tests.memory.packing_reference import pinch; "
        "answer = pack(pinch(), 12); print(answer.proved_by, answer.clash_is_irreducible, 'ortools' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert done.stdout.split() == ["search", "True", "False"]


def test_a_search_can_be_continued_and_then_takes_the_same_nodes() -> None:
    strip = Strip.of(pinch(), 12)
    whole, pieces = CanonicalSearch(strip), CanonicalSearch(strip)
    expected = whole.advance(Clock())
    for _ in range(1000):
        outcome = pieces.advance(Clock(), 1)
        if outcome.termination is Termination.PROVED:
            break
        assert outcome.termination is Termination.EXHAUSTED
    assert (outcome, pieces.nodes) == (expected, whole.nodes)


def test_an_expired_clock_ends_the_search() -> None:
    assert CanonicalSearch(Strip.of(pinch(), 12)).advance(Clock(0.0)).termination is Termination.TIME_LIMIT


def test_time_backwards_is_refuted_too() -> None:
    assert searched(mirrored(pinch()), 12) is None


def test_a_gap_is_searched_and_a_window_is_not() -> None:
    hollow = [Buffer("a", 0, 6, 4, gaps=(BufferGap(2, 4),)), Buffer("b", 2, 4, 4), Buffer("c", 0, 6, 4)]
    assert is_searchable(Strip.of(hollow, 8))
    offsets = searched(hollow, 8)
    assert offsets is not None
    assert not faults(hollow, offsets, 8)
    assert not is_searchable(Strip.of([Buffer("a", 0, 6, 4, gaps=(BufferGap(2, 4, (0, 2)),))], 8))


@pytest.mark.parametrize("name", EASY)
def test_minimalloc_instances_pack_into_a_mebibyte(shared_data: Path, name: str) -> None:
    solved_minimalloc(shared_data, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", LONG)
def test_long_minimalloc_instances_pack_into_a_mebibyte(shared_data: Path, name: str) -> None:
    solved_minimalloc(shared_data, name)


def solved_minimalloc(shared_data: Path, name: str) -> None:
    """The plain search packs an instance; height and bound are those of the design where its load is the capacity."""
    buffers = read_minimalloc(shared_data / "minimalloc" / f"{name}.{CAPACITY}.csv")
    offsets = [0] * len(buffers)
    for group in partitions(buffers):
        found = searched([buffers[i] for i in group], CAPACITY)
        for index, offset in zip(group, found or (), strict=True):
            offsets[index] = offset
    assert not faults_by_section(buffers, offsets)


def faults_by_section(buffers: list[Buffer], offsets: list[int]) -> list[str]:
    """Overlaps and overruns, found at each birth; the checker of small cases looks at every time."""
    found = []
    for time in sorted({buffer.lower for buffer in buffers}):
        live = sorted((offset, offset + b.size_bytes) for b, offset in zip(buffers, offsets, strict=True) if b.lower <= time < b.upper)
        found += [f"overlap at {time}" for (_, end), (start, _) in pairwise(live) if start < end]
        found += [f"overrun at {time}" for start, end in live if start < 0 or end > CAPACITY]
    return found


def test_plain_and_compiled_search_visit_the_same_nodes(shared_data: Path) -> None:
    pytest.importorskip("numba", reason="the extra fast is not installed")
    rng = random.Random(9)
    cases = [(random_buffers(rng, 12, features=False), 0) for _ in range(60)] + [(tangle(rng), 0) for _ in range(60)] + [(pinch(), 12)]
    cases.append((read_minimalloc(shared_data / "minimalloc" / f"A.{CAPACITY}.csv"), CAPACITY))
    for buffers, capacity in cases:
        strip = Strip.of(buffers, capacity or max_load(buffers)[0])
        plain, compiled = CanonicalSearch(strip, 3, compiled=False), CanonicalSearch(strip, 3, compiled=True)
        assert plain.advance(Clock(), 5_000) == compiled.advance(Clock(), 5_000)
        assert plain.nodes == compiled.nodes


def test_every_function_of_the_kernel_is_compiled_after_those_it_calls() -> None:
    functions = [getattr(packing_kernel, name) for name in packing_compiled.FUNCTIONS]
    defined = {name for name, value in vars(packing_kernel).items() if getattr(value, "__module__", "") == packing_kernel.__name__}
    assert set(packing_compiled.FUNCTIONS) == defined
    for position, function in enumerate(functions):
        called = defined & set(function.__code__.co_names)
        assert called <= set(packing_compiled.FUNCTIONS[:position])


def test_forcing_the_compiled_search_without_numba_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    packing_compiled.search.cache_clear()
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(MissingError, match=r"cosma-sched\[fast\]"):
        CanonicalSearch(Strip.of(pinch(), 12), compiled=True)
    packing_compiled.search.cache_clear()


def test_a_numba_that_does_not_load_leaves_the_plain_search_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ImportError("Numba needs NumPy 2.1 or less")

    monkeypatch.setattr(importlib.util, "find_spec", lambda _: True)
    monkeypatch.setattr(packing_compiled, "search", broken)
    monkeypatch.setattr(packing_compiled, "is_loaded", lambda: False)
    monkeypatch.setattr(packing_search, "NODES_BEFORE_COMPILED", 0)
    assert CanonicalSearch(Strip.of(pinch(), 12)).advance(Clock()).is_infeasible


def test_numbers_beyond_64_bits_stay_with_plain_python() -> None:
    huge = [Buffer(b.name, b.lower, b.upper, b.size_bytes * 2**55 + 1) for b in pinch()]
    assert not packing_search.can_compile(Strip.of(huge, 13 * 2**55))
    assert pack(huge, 12 * 2**55 + 2).status is Status.INFEASIBLE


def test_limits_of_runs_follow_the_universal_sequence() -> None:
    assert [luby(index) for index in range(1, 16)] == [1, 1, 2, 1, 1, 2, 4, 1, 1, 2, 1, 1, 2, 4, 8]


def test_half_of_the_runs_vary_the_orders_that_got_furthest() -> None:
    strip = Strip.of(random_buffers(random.Random(3), 30, features=False), 100)
    orders = Orders(strip, 5)
    for _ in range(12):
        orders.next_attempt()
        orders.learn(placed=20, heat=[1] * strip.num_sections)
    best = orders.best[0]
    assert 1 < len(orders.best) <= 1 + POOL
    assert Orders(strip, 6, orders.best).next_attempt().order == Orders(strip, 7, (best,)).next_attempt().order


def test_a_resized_strip_is_the_strip_of_that_capacity() -> None:
    buffers = random_buffers(random.Random(4), 20)
    strip = Strip.of(buffers, 60)
    assert strip.conflicts
    assert strip.resized(80) == Strip.of(buffers, 80)
    assert strip.resized(80).conflicts == Strip.of(buffers, 80).conflicts


def test_orders_are_permutations_and_repeat_with_their_seed() -> None:
    strip = Strip.of(random_buffers(random.Random(2), 40, features=False), 100)
    first, again, other = Orders(strip, 1), Orders(strip, 1), Orders(strip, 2)
    drawn = [first.next_attempt() for _ in range(8)]
    assert drawn == [again.next_attempt() for _ in range(8)]
    assert drawn != [other.next_attempt() for _ in range(8)]
    assert all(sorted(attempt.order) == list(range(len(strip))) for attempt in drawn)


@pytest.mark.parametrize("alone", [0, 20])
def test_two_workers_give_a_checked_answer_too(monkeypatch: pytest.MonkeyPatch, alone: int) -> None:
    monkeypatch.setattr(packing_portfolio, "NODES_ALONE_PER_BUFFER", alone)
    buffers = [Buffer(f"b{i}", i % 7, i % 7 + 3, 2 + i % 3, alignment=1 + i % 2) for i in range(20)]
    height = pack(buffers, 1000).bound_bytes + 2
    answer = pack(buffers, height, workers=2)
    assert answer.offsets is not None
    assert not faults(buffers, answer.offsets, height)
    assert pack(pinch(), 12, workers=2).status is Status.INFEASIBLE


def test_an_interrupt_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(packing_kernel, "search", interrupted)
    answer = pack(pinch(), 12)
    assert (answer.status, answer.termination, answer.bound_bytes) == (Status.UNKNOWN, Termination.INTERRUPTED, 12)
    low = lowest(pinch())
    assert (low.status, low.termination, low.bound_bytes) == (Status.FEASIBLE, Termination.INTERRUPTED, 12)


def test_an_interrupt_among_the_heuristics_is_an_answer_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(packing, "pack_greedily", interrupted)
    answer = pack(pinch(), 13)
    assert (answer.status, answer.termination, answer.bound_bytes) == (Status.UNKNOWN, Termination.INTERRUPTED, 12)


def test_an_interrupt_of_the_explanation_keeps_the_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    questions = []

    def interrupted(*_: object) -> None:
        questions.append(1)
        raise KeyboardInterrupt

    monkeypatch.setattr(packing, "_decide", interrupted)
    answer = pack(pinch(), 12)
    assert (answer.status, answer.termination, answer.clash_is_irreducible) == (Status.INFEASIBLE, Termination.PROVED, False)
    assert (len(answer.clash), len(questions)) == (7, 1)


def test_the_least_height_is_proven_on_random_cases() -> None:
    rng = random.Random(21)
    for _ in range(120):
        buffers = random_buffers(rng)
        height = least_height(buffers)
        answer = lowest(buffers)
        if height is None:
            assert answer.status is Status.INFEASIBLE
            continue
        assert (answer.status, answer.height_bytes, answer.bound_bytes) == (Status.OPTIMAL, height, height), buffers
        assert not faults(buffers, answer.offsets or (), height)


def test_the_least_height_of_pinch_is_above_its_load() -> None:
    answer = lowest(pinch(), capacity_bytes=20)
    assert (answer.status, answer.height_bytes, answer.proved_by) == (Status.OPTIMAL, 13, "search")


def test_minimising_within_too_small_a_capacity_explains_as_pack_does() -> None:
    answer = lowest(pinch(), capacity_bytes=12)
    assert (answer.status, answer.clash_is_irreducible) == (Status.INFEASIBLE, True)


def test_minimising_stops_at_the_limit_with_a_packing_and_a_bound() -> None:
    buffers = random_buffers(random.Random(8), 60, features=False)
    answer = lowest(buffers, clock=Clock(0.0))
    assert answer.offsets is not None
    assert answer.bound_bytes <= (answer.height_bytes or 0)


def test_the_highest_partition_sets_the_height() -> None:
    late = [Buffer(f"late{b.name}", b.lower + 100, b.upper + 100, b.size_bytes) for b in pinch()]
    answer = lowest([*late, Buffer("low", 0, 5, 3), Buffer("lower", 4, 9, 2)])
    assert (answer.status, answer.height_bytes, answer.bound_bytes) == (Status.OPTIMAL, 13, 13)


def test_minimalloc_c_reaches_its_load(shared_data: Path) -> None:
    answer = lowest(read_minimalloc(shared_data / "minimalloc" / f"C.{CAPACITY}.csv"), capacity_bytes=CAPACITY)
    assert (answer.status, answer.height_bytes) == (Status.OPTIMAL, 1_039_360)


def test_brute_force_itself_finds_the_height_of_pinch() -> None:
    assert least_height(pinch()) == 13
    assert brute_force(pinch(), 12) is None
