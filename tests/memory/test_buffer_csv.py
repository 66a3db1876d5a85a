"""Buffers as CSV: every form of MiniMalloc's columns, back again with offsets, and every mistake with its line."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from cosma_sched.errors import InputError
from cosma_sched.graph import Buffer, BufferGap
from cosma_sched.memory.buffer_csv import decode_buffer_csv, encode_buffer_csv, held, pin_defects
from tests.memory.packing_reference import occupied, random_buffers


def read(text: str, **options) -> tuple[Buffer, ...]:
    return decode_buffer_csv("t.csv", text.encode(), **options).buffers


def mistakes(text: str, **options) -> list[str]:
    with pytest.raises(InputError) as caught:
        read(text, **options)
    return [str(defect) for defect in caught.value.defects]


@pytest.mark.parametrize(
    "header", ["id,lower,upper,size", "buffer,start,upper,size", "buffer_id,begin,upper,size", "\ufeffid, lower ,upper,size"]
)
def test_columns_have_the_names_that_minimalloc_knows(header: str) -> None:
    assert read(f"{header}\nb1,0,3,4\n") == (Buffer("b1", 0, 3, 4),)


def test_columns_stand_in_any_order_and_lines_may_end_in_any_way() -> None:
    assert read("size,upper,id,lower\r\n4,3,b1,0\r\n\r\n5,4,b2,1") == (Buffer("b1", 0, 3, 4), Buffer("b2", 1, 4, 5))


def test_a_column_end_is_inclusive_and_so_are_the_ends_of_gaps_then() -> None:
    assert read("id,start,end,size,gaps\nb,0,8,4,2-3\n") == (Buffer("b", 0, 9, 4, gaps=(BufferGap(2, 4),)),)
    assert read("id,lower,upper,size,gaps\nb,0,9,4,2-4\n") == (Buffer("b", 0, 9, 4, gaps=(BufferGap(2, 4),)),)


def test_a_buffer_may_live_for_one_time_in_the_inclusive_form() -> None:
    assert read("id,start,end,size\nb,5,5,4\n") == (Buffer("b", 5, 6, 4),)


def test_optional_columns_are_read_and_empty_cells_mean_what_is_usual() -> None:
    text = "id,lower,upper,size,alignment,offset,hint,gaps\na,0,9,8,4,16,24,1-2 3-4@2:6\nb,0,9,8,,,-1,\n"
    gaps = (BufferGap(1, 2), BufferGap(3, 4, (2, 6)))
    assert read(text) == (Buffer("a", 0, 9, 8, 4, 16, 24, gaps), Buffer("b", 0, 9, 8))


def test_times_may_be_negative_and_names_may_hold_commas() -> None:
    assert read('id,lower,upper,size,gaps\n"a,b",-5,3,4,-4--2\n') == (Buffer("a,b", -5, 3, 4, gaps=(BufferGap(-4, -2),)),)


def test_an_alignment_for_all_is_joined_with_each_own() -> None:
    assert [b.alignment for b in read("id,lower,upper,size,alignment\na,0,1,4,4\nb,0,1,4,3\nc,0,1,4,\n", align_bytes=6)] == [12, 6, 6]


def test_every_mistake_is_said_at_once_with_its_line() -> None:
    text = """id,lower,upper,size,alignment,offset,gaps
a,0,5,4,1,6,
b,5,5,-4,1,,
b,1,3,4,4,2,
c,1,3,4,1,8,
d,1,3,4,1,20,2-9
e,0,3,x,0,1_0,1-2@3:9 zz
f,0,3
,0,3,4,1,,
"""
    assert mistakes(text, capacity_bytes=12) == [
        "line 3: upper: must be > lower 5, got 5",
        "line 3: size: must be >= 0, got -4",
        'line 4: id: "b" stands in line 3 too; ids must be unique',
        "line 4: offset: must be a multiple of the alignment 4 and >= 0, got 2",
        'line 5: offset: pins "c" onto "a" (line 2) at time 1',
        "line 6: gaps[0]: must lie inside the lifetime [1, 3) and overlap no other gap, got [2, 9)",
        'line 6: offset: pins "d" to bytes 20 to 24, above the capacity 12',
        'line 7: size: must be a whole number, got "x"',
        'line 7: offset: must be a whole number, got "1_0"',
        'line 7: gaps: must be a-b or a-b@lo:hi, separated by blanks, got "zz"',
        "line 8: has 3 cells, the header 7",
        "line 9: id: must not be empty",
    ]


def test_a_missing_column_does_not_hide_the_other_mistakes() -> None:
    found = mistakes("id,lower,size\na,0,-3\na,5,3\n")
    assert found[0] == "line 1: lacks the column upper"
    assert found[1:] == ["line 2: size: must be >= 0, got -3", 'line 3: id: "a" stands in line 2 too; ids must be unique']


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("", "line 1: lacks the columns id, lower, upper, size"),
        ("id,lower,upper,size,siz\n", 'line 1: unknown column "siz"; did you mean "size"?'),
        ("id,lower,upper,end,size\n", 'line 1: columns "upper" and "end" say the same'),
        ("id,lower,lower,upper,size\n", 'line 1: columns "lower" and "lower" say the same'),
        ("id,start,end,size\na,5,4,3\n", "line 2: end: must be >= start 5, got 4"),
        ("id,lower,upper,size,alignment\na,0,1,3,0\n", "line 2: alignment: must be >= 1, got 0"),
        ("id,lower,upper,size,offset\na,0,1,3,-1\n", "line 2: offset: must be a multiple of the alignment 1 and >= 0, got -1"),
        ("id,lower,upper,size,gaps\na,0,9,3,1-3@2:5\n", "line 2: gaps[0].window: must lie inside [0, 3), got [2, 5]"),
        ("id,lower,upper,size,gaps\na,0,9,3,1-3 2-4\n", "line 2: gaps[1]: must lie inside the lifetime [0, 9) and overlap no other gap"),
        ("id,lower,upper,size\na,0,1,\uff13\n", 'line 2: size: must be a whole number, got "\uff13"'),
        ("id,lower,upper,size\na,0,1,1e3\n", 'line 2: size: must be a whole number, got "1e3"'),
        ("id,lower,upper,size\na,0,1," + "9" * 400 + "\n", "line 2: size: must be a whole number"),
        ('id,lower,upper,size\n"a,0,1,3\n', "line 2: is not CSV"),
    ],
)
def test_a_mistake_is_named(text: str, mistake: str) -> None:
    assert any(found.startswith(mistake) for found in mistakes(text)), mistakes(text)


def test_text_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(InputError, match="not UTF-8"):
        decode_buffer_csv("t.csv", b"id,lower,upper,size\n\xff,0,1,2\n")


def test_a_file_without_rows_holds_no_buffers() -> None:
    assert read("id,lower,upper,size\n") == ()


def test_pins_that_share_an_address_only_in_a_gap_do_not_overlap() -> None:
    hollow = Buffer("hollow", 0, 9, 8, offset=0, gaps=(BufferGap(2, 5),))
    assert list(pin_defects([hollow, Buffer("inside", 2, 5, 8, offset=4)], 12)) == []
    assert [index for index, _ in pin_defects([hollow, Buffer("longer", 2, 6, 8, offset=4)], 12)] == [1]


def test_a_table_is_written_again_as_it_was_with_offsets_added() -> None:
    text = "buffer,start,end,size,gaps\na,0,8,4,2-3\nb,2,3,4,\n"
    table = decode_buffer_csv("t.csv", text.encode())
    assert table.with_offsets([0, 4]) == "buffer,start,end,size,gaps,offset\na,0,8,4,2-3,0\nb,2,3,4,,4\n"


def test_pins_are_filled_in_where_they_stood_and_an_alignment_for_all_is_written() -> None:
    table = decode_buffer_csv("t.csv", b"id,offset,lower,upper,size\na,8,0,1,4\nb,,0,1,4\n", align_bytes=4)
    assert table.with_offsets([8, 0], [4, 4]) == "id,offset,lower,upper,size,alignment\na,8,0,1,4,4\nb,0,0,1,4,4\n"


def test_what_is_written_reads_back_equal() -> None:
    rng = random.Random(3)
    for _ in range(100):
        buffers = tuple(random_buffers(rng, features=True))
        if not list(pin_defects(buffers, None)):
            assert read(encode_buffer_csv(buffers)) == buffers
        offsets = [1200 * index + 12 * rng.randrange(5) for index in range(len(buffers))]
        packed = read(encode_buffer_csv(buffers, offsets))
        assert [buffer.offset for buffer in packed] == offsets


def test_what_a_buffer_holds_agrees_with_another_view_of_it() -> None:
    rng = random.Random(5)
    for _ in range(200):
        for buffer in random_buffers(rng, features=True):
            for time in range(-1, 9):
                low, high = held(buffer, time)
                other = occupied(buffer, 0, time)
                assert (low, high) == other or (low == high and other[0] == other[1])


def test_the_instances_of_minimalloc_are_read(shared_data: Path) -> None:
    path = shared_data / "minimalloc" / "input.12.csv"
    assert read(path.read_text(encoding="utf-8"))[3] == Buffer("b4", 9, 21, 4)
