from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosma_sched.errors import UsageError
from cosma_sched.units import format_bytes, parse_duration, parse_size, short_bytes


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("262144", 262144),
        ("1", 1),
        ("512KiB", 524288),
        ("512 KiB", 524288),
        (" 2mib ", 2 * 2**20),
        ("1.5MiB", 1572864),
        ("0.5KiB", 512),
        ("3GiB", 3 * 2**30),
        ("1TiB", 2**40),
        ("7B", 7),
        (4096, 4096),
    ],
)
def test_a_size_is_a_whole_number_of_bytes(text: str | int, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "-1",
        "0",
        "0KiB",
        "1e6",
        "1_000",
        "1,024",
        "0x10",
        "KiB",
        "12 apples",
        "1.2.3",
        "½MiB",
        "\uff11\uff12",
        "\u0663",
        "nan",
        "M_R",
        "9" * 5000,
    ],
)
def test_what_is_no_size_is_refused_with_the_value(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_size(text)
    assert text[:20] in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [0, -4, 2**63, True, 1.5, None, [1]])
def test_a_value_that_is_no_size_is_refused_whatever_its_type(value: object) -> None:
    with pytest.raises(UsageError):
        parse_size(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["512KB", "512K", "512kb", "512k"])
def test_a_decimal_unit_is_ambiguous_and_the_message_offers_both_readings(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_size(text)
    assert "512KiB" in str(caught.value)
    assert "512000 bytes" in str(caught.value)


def test_a_fraction_of_a_byte_is_refused() -> None:
    with pytest.raises(UsageError, match="not a whole number of bytes"):
        parse_size("0.3KiB")


def test_a_fraction_is_read_exactly() -> None:
    """A float in between would be off: 0.1 of 10 TiB is no whole number in binary."""
    assert parse_size("1024.0009765625KiB") == 1048577


def test_an_unknown_unit_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match="known units are B, KiB"):
        parse_size("5potatoes")


@pytest.mark.parametrize(
    ("text", "seconds"), [("500ms", 0.5), ("10s", 10), ("10", 10), ("5m", 300), ("5min", 300), ("1h", 3600), (2, 2), (0.25, 0.25)]
)
def test_a_duration_is_seconds(text: str | float, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "-1", "-1s", "10 potatoes", "s", "1e3", "nan", "inf", "5M", -1.0, float("nan"), float("inf"), True, None]
)
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(UsageError):
        parse_duration(text)  # type: ignore[arg-type]


@given(st.integers(1, 2**62))
def test_a_size_in_bytes_reads_back(size: int) -> None:
    assert parse_size(str(size)) == size


def test_a_size_is_shown_in_full_and_rounded() -> None:
    assert format_bytes(1605632) == "1,605,632 B (1.531 MiB)"
    assert format_bytes(12) == "12 B"
    assert short_bytes(0) == "0 B"
    assert short_bytes(2**20 - 1) == "1024 KiB"
