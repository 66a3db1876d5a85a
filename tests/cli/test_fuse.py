"""``cosma-sched fuse`` and what ``verify`` and ``inspect`` make of its results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run

TABLE = "name,K,C,P,Q,R,S\nfirst,16,16,16,16,3,3\nsecond,16,16,16,16,3,3\nthird,32,16,16,16,1,1\n"


@pytest.fixture
def net(tmp_path: Path) -> Path:
    path = tmp_path / "net.csv"
    path.write_text(TABLE)
    return path


def test_the_table_shows_groups_gain_ceiling_and_proof(run: Run, net: Path) -> None:
    ending = run("fuse", net, "--accelerator", "gemmini_small")
    assert (ending.code, ending.err) == (0, "")
    assert ending.out.startswith("net: 3 layers in 1 groups on gemmini_small\n")
    facts = dict(line.split("  ", 1) for line in ending.out.split("\n\n")[-1].splitlines() if "  " in line.strip())
    assert "optimal in the space below, proven" in facts["status"]
    assert float(facts["gain"]) >= 1
    assert "chain" in ending.out


def test_one_document_whose_unfused_value_is_that_of_map(run: Run, net: Path) -> None:
    fused = run("fuse", net, "--accelerator", "gemmini_small", "--json").document
    mapped = run("map", net, "--accelerator", "gemmini_small", "--json").document
    assert (fused["schema"], fused["status"]) == ("cosma-sched/fusion/1", "optimal")
    assert fused["unfused_edp"] == mapped["edp"]
    assert fused["ceiling_edp"] <= fused["bound_edp"] == fused["edp"] <= fused["unfused_edp"]
    group = fused["groups"][0]
    assert {"mode", "resident_weights", "peak_bytes", "steps", "held", "tile", "layers"} <= set(group)
    most = max(entry["maps_bytes"] + entry["weights_bytes"] + entry["working_bytes"] for entry in group["held"])
    assert most == group["peak_bytes"]


def test_a_saved_result_is_verified_and_an_edited_one_is_not(run: Run, net: Path, tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    assert run("fuse", net, "--accelerator", "gemmini_small", "-o", path).code == 0
    assert run("verify", path, "--model", net).out == "0 violations\n"
    document = json.loads(path.read_text())
    document["groups"][0]["steps"][0]["multiplicity"] += 1
    path.write_text(json.dumps(document))
    assert run("verify", path, "--model", net).code == 7


@pytest.mark.parametrize("back_end", ["cpsat", "cbc"])
def test_every_back_end_finds_the_same_value(run: Run, net: Path, back_end: str) -> None:
    by_paths = run("fuse", net, "--accelerator", "gemmini_small", "--json").document
    by_solver = run("fuse", net, "--accelerator", "gemmini_small", "--solver", back_end, "--json").document
    assert by_solver["edp"] == by_paths["edp"]


def test_given_groups_come_from_a_file(run: Run, net: Path, tmp_path: Path) -> None:
    path = tmp_path / "groups.json"
    path.write_text('[["second", "third"]]')
    document = run("fuse", net, "--accelerator", "gemmini_small", "--groups", path, "--json").document
    assert [group["layers"] for group in document["groups"]] == [["first"], ["second", "third"]]


def test_a_group_that_does_not_fit_ends_with_exit_3_and_its_step(run: Run, tmp_path: Path) -> None:
    wide, groups = tmp_path / "wide.csv", tmp_path / "groups.json"
    wide.write_text("name,K,C,P,Q,R,S\na,4096,4096,64,64,3,3\nb,4096,4096,64,64,3,3\n")
    groups.write_text('[["a", "b"]]')
    ending = run("fuse", wide, "--accelerator", "gemmini_small", "--groups", groups, "--tiles", "strips")
    assert ending.code == 3
    assert "bytes of the scratchpad" in ending.err
    assert "too many" in ending.err


def test_wrong_names_of_groups_are_bad_input_with_their_place(run: Run, net: Path, tmp_path: Path) -> None:
    path = tmp_path / "groups.json"
    path.write_text('[["first", "secnd"], ["third", "first"]]')
    ending = run("fuse", net, "--accelerator", "gemmini_small", "--groups", path)
    assert ending.code == 5
    assert 'groups[0]: "secnd" is no layer or vector operator; did you mean "second"?' in ending.err
    assert 'groups[1]: "first" stands in groups[0] too' in ending.err


@pytest.mark.parametrize(
    "arguments",
    [("--max-group", "0"), ("--modes", "cache"), ("--objective", "power"), ("--solver", "gurobi"), ("--overlap", "none")],
)
def test_malformed_options_are_usage_errors(run: Run, net: Path, arguments: tuple[str, str]) -> None:
    assert run("fuse", net, "--accelerator", "gemmini_small", *arguments).code == 2


def test_no_chain_belongs_to_tables(run: Run) -> None:
    ending = run("fuse", "resnet18", "--accelerator", "gemmini_small", "--no-chain")
    assert (ending.code, "--no-chain" in ending.err) == (2, True)
