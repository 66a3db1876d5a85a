"""The command: exit codes, standard output, files, the published examples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cosma_sched.cli import main
from tests.experts import oracle


@pytest.fixture
def tokens(tmp_path: Path) -> str:
    path = tmp_path / "tokens.npz"
    np.savez(path, T=oracle.draw_tokens(0, num=200, layers=3, experts=8))
    return str(path)


@pytest.fixture
def counts(write_json: Any) -> str:
    loads = np.random.default_rng(0).integers(1, 99, (4, 16)).tolist()
    return write_json("counts.json", {"logical_count": [[0] * 16, *loads]})


def run(*arguments: str) -> int:
    quick = () if {"--iterations", "--time-limit"} & set(arguments) else ("--iterations", "20")
    return main(["experts", *arguments, *quick, "--workers", "1"])


def test_the_table_puts_the_methods_side_by_side(tokens: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tokens, "--gpus", "4", "--hold-out", "alternate") == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    lines = shown.out.splitlines()
    assert [line.split()[0] for line in lines[3:8]] == ["contiguous", "eplb", "two-stage", "joint", "bound"]
    assert lines[2].split() == ["method", "load", "held-out", "copies/token", "held-out", "remote", "held-out", "twice", "on", "a", "GPU"]
    assert any(line.startswith("status      optimal, proven by") for line in lines)


def test_json_is_one_document_and_equals_the_file(tokens: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "r.json"
    assert run(tokens, "--gpus", "4", "--json", "-o", str(path), "--traffic", "token-stays") == 0
    document = json.loads(capsys.readouterr().out)
    assert document == json.loads(path.read_text())
    assert document["schema"] == "cosma-sched/experts/1"
    assert document["status"] == "optimal"
    assert document["bounds"]["remote_fraction"] == pytest.approx(document["traffic"]["profile"]["remote_fraction"])
    assert main(["verify", str(path)]) == 0


def test_an_edited_slot_ends_verify_with_7(tokens: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "r.json"
    assert run(tokens, "--gpus", "4", "-o", str(path)) == 0
    document = json.loads(path.read_text())
    document["placement"][1][5] = (document["placement"][1][5] + 1) % 8
    path.write_text(json.dumps(document))
    capsys.readouterr()
    assert main(["verify", str(path)]) == 7
    shown = capsys.readouterr().out
    assert "layer 1, slot 5" in shown
    assert "load.profile.max_over_mean is stated as" in shown


def test_a_verified_result_needs_its_profile(tokens: str, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    assert run(tokens, "--gpus", "4", "-o", str(path)) == 0
    moved = Path(tokens).rename(tmp_path / "moved.npz")
    assert main(["verify", str(path)]) == 5
    assert main(["verify", str(path), "--model", str(moved)]) == 0


@pytest.mark.parametrize("name", ["sglang", "trtllm", "vllm", "vllm-ascend", "csv"])
def test_every_format_is_written(counts: str, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "map"
    assert run(counts, "--gpus", "4", "--slots", "5", "--format", name, "--export", str(path)) == 0
    assert path.stat().st_size > 0
    shown = capsys.readouterr()
    assert ("cannot load" in shown.err) == (name == "vllm")
    assert "unknown: the profile has no token ids or transitions" in shown.out


def test_a_current_placement_in_an_engines_format(counts: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "map"
    assert run(counts, "--gpus", "4", "--slots", "5", "--method", "eplb", "--format", "sglang", "--export", str(path)) == 0
    assert run(counts, "--gpus", "4", "--slots", "5", "--current", str(path), "--max-moved", "9", "--json", "--expert-bytes", "1KiB") == 0
    document = json.loads(capsys.readouterr().out.split("\n{", 1)[1].join(["{", ""]))
    assert document["moved_experts"] <= 9
    assert document["moved_bytes"] == 1024 * document["moved_experts"]


def test_the_traffic_matrix_is_a_square_csv(tokens: str, tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    assert run(tokens, "--gpus", "4", "--traffic-matrix", str(path)) == 0
    rows = [line.split(",") for line in path.read_text().splitlines()]
    assert len(rows) == 5
    assert all(len(row) == 5 for row in rows)
    assert rows[1][1] == "0"


def test_inspect_shows_a_saved_placement(tokens: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "r.json"
    assert run(tokens, "--gpus", "4", "-o", str(path), "-q") == 0
    capsys.readouterr()
    assert main(["inspect", str(path), "-v"]) == 0
    assert "best" in capsys.readouterr().out


def test_what_is_impossible_ends_with_3_and_names_what_works(counts: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(counts, "--gpus", "4", "--replicas", "3") == 3
    shown = capsys.readouterr()
    assert "works with: --replicas 0" in shown.err
    assert "works with: --replicas 4" in shown.err
    assert "infeasible" in shown.out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--slots", "5", "--replicas", "4"], 2, "say the same thing twice"),
        (["--max-load", "0.5"], 2, "--max-load must be >= 1"),
        (["--weights", "1"], 2, "must be two numbers"),
        (["--gpus", "zero"], 2, "must be a whole number"),
        (["--forwarding", "maybe"], 2, "must be yes or no"),
        (["--format", "sglang"], 2, "go together"),
        (["--format", "sgland", "--export", "x"], 2, 'did you mean "sglang"'),
        (["--method", "best"], 2, "method must be one of"),
        (["--hold-out", "alternate"], 2, "name a FILE"),
        (["--gpu-memory", "1GiB"], 2, "needs --expert-bytes"),
        (["--current", "nothing.json"], 5, "no such file"),
        (["--scenario", "nothing.json"], 5, "no such file"),
        (["--hold-out", "nothing.json"], 5, "no such file"),
        (["--export", "no/such/folder/x", "--format", "csv"], 5, "no such directory"),
        (["--traffic-matrix", "m.csv"], 5, "no token ids"),
        (["--require-optimal"], 4, "not proven optimal"),
    ],
)
def test_mistakes_end_with_one_message_and_their_code(
    counts: str,
    arguments: list[str],
    code: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    slots = () if "--slots" in arguments else ("--slots", "5")
    assert run(counts, "--gpus", "4", *slots, *arguments) == code
    assert message in capsys.readouterr().err


def test_ctrl_c_prints_the_incumbent(counts: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cosma_sched.experts.joint.balance", stop)
    assert run(counts, "--gpus", "4", "--slots", "5", "--json") == 130
    document = json.loads(capsys.readouterr().out)
    assert document["termination"] == "interrupted"
    assert document["placement"] is not None


def test_mixtral_is_proven_as_published(moe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    profile = str(moe / "mixtral_8x7b_vllm" / "mixtral_counts.npz")
    assert run(profile, "--gpus", "4", "--traffic", "token-stays", "--max-load", "1.05", "--json", "--time-limit", "5s") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["status"] == "optimal"
    traffic = document["traffic"]["profile"]
    assert (traffic["remote_transitions"], traffic["transitions"]) == (49_026, 71_548)
    assert traffic["remote_fraction"] == pytest.approx(0.68522, abs=5e-6)
    assert document["bounds"]["remote_fraction"] == pytest.approx(traffic["remote_fraction"])
    remote = {name: one["traffic"]["profile"]["remote_transitions"] for name, one in document["baselines"].items()}
    assert remote == {"contiguous": 53_926, "eplb": 53_320, "two-stage": 50_841}
