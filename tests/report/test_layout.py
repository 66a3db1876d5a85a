from __future__ import annotations

import pytest

from cosma_sched.report.layout import Column, facts, number, percent, printable, shortened, table

COLUMNS = [Column("name"), Column("bytes", numbers=True), Column("what")]


def test_columns_line_up_and_numbers_stand_right() -> None:
    assert table(COLUMNS, [["a", "1,000", "x"], ["bc", "7", "yz"]]) == [
        "name  bytes  what",
        "a     1,000  x",
        "bc        7  yz",
    ]


def test_without_a_width_nothing_is_shortened() -> None:
    assert table(COLUMNS, [["n" * 500, "1", "x"]])[1].startswith("n" * 500)


@pytest.mark.parametrize("width", [44, 60, 80])
def test_a_narrow_terminal_shortens_names_and_never_numbers(width: int) -> None:
    lines = table(COLUMNS, [["n" * 100, "123,456,789,012", "w" * 30], ["short", "1", "x"]], width=width)
    assert all(len(line) <= width for line in lines)
    assert "123,456,789,012" in lines[1]


def test_a_terminal_too_narrow_for_the_numbers_gets_them_nevertheless() -> None:
    assert "123,456,789,012" in table(COLUMNS, [["n" * 100, "123,456,789,012", "w"]], width=10)[1]


def test_a_table_without_rows_is_its_header() -> None:
    assert table(COLUMNS, []) == ["name  bytes  what"]


def test_a_shortened_name_keeps_both_ends() -> None:
    assert shortened("layer1.block2.conv3", 12) == "laye...conv3"
    assert shortened("short", 12) == "short"
    assert all(len(shortened("x" * 50, size)) == size for size in range(3, 50))


def test_facts_are_labels_and_texts() -> None:
    assert facts([("status", "optimal"), ("empty", "")]) == ["status      optimal", "empty"]


@pytest.mark.parametrize(("text", "shown"), [("plain ü", "plain ü"), ("a\nb", "a\\nb"), ("\x1b[31m", "\\x1b[31m"), ("\u202ea", "\\u202ea")])
def test_what_a_terminal_would_obey_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_numbers_have_separators_and_unknown_is_a_dash() -> None:
    assert (number(1605632), number(0), number(None)) == ("1,605,632", "0", "-")


@pytest.mark.parametrize(
    ("ratio", "text"), [(0, "0 %"), (None, "unknown"), (0.5, "50 %"), (0.123456, "12.3 %"), (1, "100 %"), (1e-9, "0.01 %")]
)
def test_a_gap_that_is_open_never_reads_zero(ratio: float | None, text: str) -> None:
    assert percent(ratio) == text
