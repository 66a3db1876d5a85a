from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosma_sched.errors import InputError
from cosma_sched.files import decode_json, encode_json, read_bytes, write_whole


def refused(content: bytes | str) -> str:
    with pytest.raises(InputError) as caught:
        decode_json("a.json", content if isinstance(content, bytes) else content.encode())
    assert str(caught.value).startswith("a.json: ")
    assert "\n" not in str(caught.value)
    return str(caught.value)


# reading JSON


def test_malformed_json_is_refused_with_line_and_column() -> None:
    assert "line 2 column 1" in refused('{"a":\n}')


def test_an_empty_file_is_no_json() -> None:
    assert "is not JSON" in refused("")


def test_a_key_that_stands_twice_is_refused() -> None:
    assert '"a" stands twice' in refused('{"a": 1, "b": 2, "a": 3}')


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400", "-1e400"])
def test_a_number_that_is_not_finite_is_refused(number: str) -> None:
    assert number in refused(f'{{"a": {number}}}')


def test_deep_nesting_is_refused() -> None:
    assert "nested too deeply" in refused("[" * 100_000)


def test_a_number_of_thousands_of_digits_is_refused() -> None:
    refused("1" * 5000)


def test_what_is_not_utf8_is_refused_with_the_byte() -> None:
    assert "byte 2" in refused(b'"a\xff"')


def test_a_byte_order_mark_is_skipped() -> None:
    assert decode_json("a.json", b"\xef\xbb\xbf[1]") == [1]


@pytest.mark.parametrize("text", ['"\\ud800"', '{"\\uDC00": 1}', '["\\ude00\\ud83d"]'])
def test_half_a_character_is_refused(text: str) -> None:
    """It used to pass, and the digest of the graph then failed with UnicodeEncodeError."""
    assert "half a character" in refused(text)


def test_a_whole_character_from_two_escapes_passes() -> None:
    assert decode_json("a.json", b'"\\ud83d\\ude00"') == "\U0001f600"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(json_values)
def test_what_is_written_reads_back(document: object) -> None:
    assert decode_json("a.json", encode_json(document).encode()) == document


@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    try:
        decode_json("a.json", content)
    except InputError as error:
        assert str(error)  # noqa: PT017


def test_numbers_that_are_not_finite_are_not_written() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        encode_json(float("nan"))


# reading files


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone.json: no such file"):
        read_bytes(tmp_path / "gone.json")


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a directory"):
        read_bytes(tmp_path)


def test_a_pipe_in_the_file_system_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="is not a regular file"):
        read_bytes(tmp_path / "pipe")


def test_a_file_beyond_the_limit_is_refused_before_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"12345")
    with pytest.raises(InputError, match="more than the 4"):
        read_bytes(tmp_path / "large", limit_bytes=4)


def test_a_name_with_a_zero_byte_is_no_file() -> None:
    with pytest.raises(InputError):
        read_bytes("a\0b")


def test_standard_input_is_read_for_a_dash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"12345")))
    assert read_bytes("-") == b"12345"


def test_standard_input_has_the_same_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"12345")))
    with pytest.raises(InputError, match="larger than 4"):
        read_bytes("-", limit_bytes=4)


def test_closed_standard_input_is_an_input_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(InputError, match="standard input is closed"):
        read_bytes("-")


# writing files


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    path.write_text("old")
    write_whole(path, "new")
    assert path.read_text() == "new"
    assert [*tmp_path.iterdir()] == [path]


def test_a_failure_leaves_the_old_content_and_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.json"
    path.write_text("old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"cannot be written: No space left on device"):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert [*tmp_path.iterdir()] == [path]


def test_an_interrupt_leaves_the_old_content_and_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.json"
    path.write_text("old")

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert [*tmp_path.iterdir()] == [path]


def test_a_replaced_file_keeps_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    path.write_text("old")
    path.chmod(0o640)
    write_whole(path, "new")
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real.json").write_text("old")
    (tmp_path / "link.json").symlink_to("real.json")
    write_whole(tmp_path / "link.json", "new")
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "real.json").read_text() == "new"


@pytest.mark.parametrize("name", ["missing/out.json", "."])
def test_a_place_that_cannot_be_written_is_an_input_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="cannot be written"):
        write_whole(tmp_path / name, "new")


def test_a_name_of_the_greatest_length_can_be_written(tmp_path: Path) -> None:
    """The temporary file's name used to be longer than the file's."""
    path = tmp_path / ("x" * 250 + ".json")
    write_whole(path, json.dumps(1))
    assert path.read_text() == "1"


def test_a_device_is_written_in_place() -> None:
    write_whole("/dev/null", "new")
    assert not Path("/dev/null").is_file()
