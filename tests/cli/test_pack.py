"""``cosma-sched pack``: what is printed, what is written, and every way to end."""

from __future__ import annotations

import csv
import errno
import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cosma_sched.cli.pack import _ending
from cosma_sched.memory.pack_calls import pack
from cosma_sched.result import Termination
from tests.cli.conftest import Run
from tests.memory.packing_reference import pinch

TABLE = "id,lower,upper,size\nb1,0,3,4\nb2,3,9,4\nb3,0,9,4\nb4,9,21,4\nb5,0,21,4\n"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Five buffers that fill twelve bytes."""
    path = tmp_path / "buffers.csv"
    path.write_text(TABLE)
    return path


def test_a_packing_as_low_as_the_load_is_optimal(run: Run, table: Path) -> None:
    done = run("pack", table, "--capacity", 12)
    assert (done.code, done.err) == (0, "")
    assert "buffers.csv: 5 buffers, capacity 12 B" in done.out
    assert "optimal: packed by first-fit and best-fit, and no packing is lower" in done.out
    assert "offset  buffer  bytes  lower  upper" in done.out


def test_one_json_document_stands_alone_on_standard_output(run: Run, table: Path) -> None:
    document = run("pack", table, "--capacity", 12, "--json").document
    assert (document["schema"], document["height_bytes"], document["bound_bytes"]) == ("cosma-sched/packing/1", 12, 12)
    assert {"status", "termination", "seconds", "nodes", "proved_by", "verified", "provenance"} <= document.keys()
    assert [entry["id"] for entry in document["buffers"]] == ["b1", "b2", "b3", "b4", "b5"]
    assert all({"id", "lower", "upper", "size_bytes", "offset"} <= entry.keys() for entry in document["buffers"])


def test_a_csv_gets_its_offsets_and_a_json_is_verified(run: Run, table: Path, tmp_path: Path) -> None:
    out, document = tmp_path / "out.csv", tmp_path / "packing.json"
    assert run("pack", table, "--capacity", 12, "-o", out).code == 0
    rows = list(csv.DictReader(io.StringIO(out.read_text())))
    assert [row["offset"] for row in rows] == [
        str(entry["offset"]) for entry in run("pack", out, "--capacity", 12, "--json").document["buffers"]
    ]
    assert run("pack", table, "--capacity", 12, "-o", document).code == 0
    done = run("verify", document)
    assert (done.code, done.out) == (0, "0 violations\n")


def test_a_changed_answer_fails_its_check(run: Run, table: Path, tmp_path: Path) -> None:
    document = tmp_path / "packing.json"
    run("pack", table, "--capacity", 12, "-o", document)
    document.write_text(document.read_text().replace('"offset": 0', '"offset": 4'))
    done = run("verify", document)
    assert done.code == 7
    assert "overlap: buffer" in done.out


def test_a_check_needs_the_file_that_was_packed(run: Run, table: Path, tmp_path: Path) -> None:
    document = tmp_path / "packing.json"
    run("pack", table, "--capacity", 12, "-o", document)
    other = tmp_path / "other.csv"
    other.write_text(TABLE)
    table.write_text(TABLE.replace("b1,0", "b1,1"))
    assert run("verify", document).code == 5
    table.unlink()
    assert run("verify", document).code == 2
    assert run("verify", document, "--model", other).code == 0
    run("pack", "-", "--capacity", 12, "-o", document, stdin=TABLE)
    assert run("verify", document).code == 2


def test_pinch_is_refused_with_the_buffers_that_clash(run: Run, examples: Path) -> None:
    done = run("pack", examples / "pinch.csv", "--capacity", 12)
    assert done.code == 3
    assert "without any one of them the others can be packed" in done.out
    assert "infeasible: 7 buffers do not fit in 12 bytes" in done.err
    assert "works with: --capacity 13 (the least)" in done.err
    assert run("pack", examples / "pinch.csv", "--capacity", 13).code == 0


def test_too_much_load_names_the_time(run: Run, table: Path) -> None:
    done = run("pack", table, "--capacity", 11, "--json")
    assert done.code == 3
    assert "time 0: 3 buffers hold 12 bytes at once, 1 too many" in done.err
    (reason,) = done.document["reasons"]
    assert (reason["rule"], reason["where"], reason["demand"], reason["limit"], reason["short"]) == ("load", "time 0", 12, 11, 1)


def test_an_infeasible_answer_is_saved_and_verified_and_no_csv_is_written(run: Run, examples: Path, tmp_path: Path) -> None:
    document, out = tmp_path / "packing.json", tmp_path / "out.csv"
    assert run("pack", examples / "pinch.csv", "--capacity", 12, "-o", document).code == 3
    assert run("verify", document).code == 0
    out.write_text("old")
    done = run("pack", examples / "pinch.csv", "--capacity", 12, "-o", out)
    assert (done.code, out.read_text()) == (3, "old")
    assert "not written" in done.err


def test_the_least_height_comes_with_its_bound(run: Run, examples: Path) -> None:
    document = run("pack", examples / "pinch.csv", "--minimize", "--json").document
    assert (document["height_bytes"], document["bound_bytes"], document["gap"], document["capacity_bytes"]) == (13, 13, 0, None)


def test_explain_shows_the_tight_times_of_a_packing(run: Run, table: Path) -> None:
    done = run("pack", table, "--capacity", 13, "--explain")
    assert done.code == 0
    assert "tight: 12 bytes live in times 0 to 3, 3 to 9" in done.out
    assert "load over time, of 12 bytes in use" in done.out


def test_explain_shows_what_lives_in_tight_times_where_nothing_is_packed(run: Run, examples: Path) -> None:
    done = run("pack", examples / "pinch.csv", "--capacity", 12, "--time-limit", "0s", "--explain")
    assert done.code == 4
    assert "bytes  buffer\n    6  t0\n    6  t1\n" in done.out


def test_explain_shows_holes(run: Run, examples: Path) -> None:
    assert "(free)" in run("pack", examples / "pinch.csv", "--minimize", "--explain").out


def test_plans_graphs_and_networks_are_packed_too(run: Run, examples: Path, tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    assert run("solve", examples / "pinch.json", "--scratchpad", 12, "-o", plan).code == 0
    assert run("pack", plan, "--capacity", 12).code == 0
    assert run("pack", examples / "pinch.json", "--order", "given", "--capacity", 13).code == 0
    out = tmp_path / "out.csv"
    assert run("pack", "resnet18", "--order", "given", "--minimize", "-o", out).code == 0
    assert out.read_text().startswith("id,lower,upper,size,offset\n")


def test_all_mistakes_of_a_file_are_said_with_their_lines(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_text("id,lower,upper,size,offset,gaps\na,0,0,4,,\na,0,2,-4,,\nb,0,2,4,10,\nc,0,2,4,0,1-3\nd,1,2,4,2,\n")
    done = run("pack", path, "--capacity", 12)
    assert (done.code, done.out) == (5, "")
    lines = [line.removeprefix(f"{path}: ") for line in done.err.splitlines()]
    assert [line.partition(":")[0] for line in lines] == ["line 2", "line 3", "line 3", "line 4", "line 5", "line 6"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "--capacity"),
        (["--capacity", "0"], 2, "--capacity"),
        (["--capacity", "12KB"], 2, "ambiguous"),
        (["--capacity", "12", "--align", "0"], 2, "--align"),
        (["--capacity", "12", "--workers", "0"], 2, "--workers"),
        (["--capacity", "12", "--order", "given"], 2, "no network"),
        (["--capacity", "12", "--order", "free"], 2, "given"),
        (["--capacity", "12", "--fold", "none"], 2, "fold"),
        (["--capacity", "12", "-o", "/nowhere/out.csv"], 5, "no such directory"),
    ],
)
def test_a_mistake_in_the_options_is_named(run: Run, table: Path, arguments: list[str], code: int, message: str) -> None:
    done = run("pack", table, *arguments)
    assert (done.code, done.out) == (code, "")
    assert message in done.err


@pytest.mark.parametrize(
    ("name", "message"), [("nosuch.csv", "no such file"), ("resnet19", "did you mean"), ("nosuch.json", "no such file")]
)
def test_what_does_not_exist_is_named(run: Run, name: str, message: str) -> None:
    done = run("pack", name, "--capacity", 12)
    assert (done.code, done.out) == (5, "")
    assert message in done.err


def test_nothing_within_the_time_limit_is_an_ending_of_its_own(run: Run, examples: Path) -> None:
    done = run("pack", examples / "pinch.csv", "--capacity", 12, "--time-limit", "0s")
    assert done.code == 4
    assert "nothing found" in done.err
    assert "unknown, stopped by the time limit" in done.out


def test_an_interrupted_search_ends_with_what_it_found(capsys: pytest.CaptureFixture[str]) -> None:
    result = pack(pinch(), capacity=14, workers=1).replace(termination=Termination.INTERRUPTED)
    assert _ending(result) == 130
    assert "the best that was found" in capsys.readouterr().err


def test_a_full_disk_leaves_the_old_file_as_it_was(run: Run, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for name in ("out.csv", "out.json"):
        out = tmp_path / name
        out.write_text("old")
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", full)
            done = run("pack", table, "--capacity", 12, "-o", out)
        assert (done.code, out.read_text()) == (5, "old")
        assert "cannot be written" in done.err
        assert "optimal" in done.out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["buffers.csv", "out.csv", "out.json"]


def test_a_buffer_whose_name_commands_a_terminal_is_printed_plainly(run: Run) -> None:
    done = run("pack", "-", "--capacity", 12, stdin="id,lower,upper,size\n\x1b[31mred,0,1,4\n")
    assert done.code == 0
    assert "\x1b" not in done.out


@pytest.fixture
def instance(shared_data: Path) -> Callable[[str], Path]:
    """The path of one of MiniMalloc's instances."""
    return lambda name: shared_data / "minimalloc" / f"{name}.csv"


def test_minimallocs_example_is_packed(run: Run, instance: Callable[[str], Path]) -> None:
    document = run("pack", instance("input.12"), "--capacity", 12, "--json").document
    assert (len(document["buffers"]), document["height_bytes"], document["status"]) == (5, 12, "optimal")


@pytest.mark.parametrize("name", ["A", "B", "E", "F", "G", "H", "I", "K"])
def test_a_capacity_below_the_load_is_refused_at_once(run: Run, instance: Callable[[str], Path], name: str) -> None:
    done = run("pack", instance(f"{name}.1048576"), "--capacity", 1_047_552, "--json")
    assert done.code == 3
    document = done.document
    assert (document["load_bytes"], document["nodes"], document["proved_by"]) == (1_048_576, 0, "load")
    assert document["clash"]["irreducible"]
    assert document["reasons"][0]["where"] == f"time {document['load_time']}"
