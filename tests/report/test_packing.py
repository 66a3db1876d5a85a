"""What is printed of a packing: nothing is left out silently, nothing reads other than it is."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise

import cosma_sched as cs
from cosma_sched.graph import Buffer, BufferGap
from cosma_sched.report.packing import packing_lines, reason_lines


def stairs(count: int) -> list[Buffer]:
    return [Buffer(f"b{i}", i, i + 3, 10 + i * i % 97 + i // 10) for i in range(count)]


def test_many_buffers_are_cut_with_their_number_said() -> None:
    result = cs.pack(stairs(50), capacity=4096, workers=1)
    lines = packing_lines(result, "stairs")
    assert lines[0] == "stairs: 50 buffers, capacity 4,096 B (4 KiB)"
    assert lines[-1] == "and 30 more; -o FILE.csv or -o FILE.json holds all"
    assert len(packing_lines(result, all_rows=True)) == len(lines) + 29


def test_a_long_time_is_drawn_in_at_most_twenty_bars_that_cover_it() -> None:
    result = cs.pack(stairs(500), capacity=4096, workers=1)
    bars = [line for line in packing_lines(result, explain=True) if line.rstrip().endswith(("|", "full", "over"))]
    assert 1 < len(bars) <= 20
    spans = [tuple(int(text.replace(",", "")) for text in line.split()[:3]) for line in bars]
    assert (spans[0][0], spans[-1][1]) == (0, 502)
    assert all(before[1] == after[0] for before, after in pairwise(spans))
    assert max(load for _, _, load in spans) == result.load_bytes


def test_the_stack_of_a_tight_time_adds_up_to_the_height() -> None:
    result = cs.pack([Buffer("a", 0, 9, 8, gaps=(BufferGap(2, 5, (2, 4)),)), Buffer("b", 0, 9, 4, alignment=16)], minimize=True, workers=1)
    text = "\n".join(packing_lines(result, explain=True))
    for stack in re.findall(r"^time .*?\noffset .*?\n((?: *[\d,]+  .*\n?)+)", text, flags=re.MULTILINE):
        assert sum(int(line.split()[-1]) for line in stack.splitlines()) == result.height_bytes


def test_what_a_clashing_buffer_must_obey_stands_beside_it() -> None:
    buffers = [Buffer("pinned", 0, 2, 4, offset=4), Buffer("aligned", 0, 2, 3, alignment=4), Buffer("plain", 0, 2, 3)]
    lines = packing_lines(cs.pack(buffers, capacity=10, workers=1))
    assert any(line.startswith("pinned") and line.endswith("lie at 4") for line in lines)
    assert any(line.split()[-1].endswith("must") for line in lines if line.startswith("clash"))


def test_one_buffer_reads_as_one() -> None:
    result = cs.pack([Buffer("a", 0, 1, 20)], capacity=12, workers=1)
    assert "1 buffer is too large by itself" in packing_lines(result)
    assert reason_lines(result.reasons[0], result.buffers)[:2] == [
        "infeasible: 1 buffer does not fit in 12 bytes",
        "  time 0: 1 buffer holds 20 bytes at once, 8 too many",
    ]


def test_buffers_without_bytes_are_never_tight() -> None:
    lines = packing_lines(cs.pack([Buffer("a", 0, 1, 0)], capacity=12), explain=True)
    assert "no buffer holds a byte at any time" in lines


def test_a_capacity_that_works_but_may_not_be_the_least_says_so() -> None:
    result = cs.pack([Buffer("a", 0, 2, 4), Buffer("b", 1, 3, 4)], capacity=6, workers=1)
    assert "works with 8 B, the least that is enough" in packing_lines(result)
    assert result.enough is not None
    loose = result.replace(enough=replace(result.enough, capacity_bytes=9, offsets=(0, 5)))
    assert "works with 9 B, the least that was found; less than 8 is not enough" in packing_lines(loose)
