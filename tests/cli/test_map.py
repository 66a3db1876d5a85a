"""``cosma-sched map`` and what ``verify`` and ``inspect`` make of its results."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from cosma_sched.graph import Graph, Operator, Tensor
from tests.cli.conftest import Run

TABLE = "name,count,N,K,C,P,Q,R,S,stride_p,stride_q,repeat\nfirst,1,1,16,3,16,16,3,3,2,2,1\nsecond,2,1,32,16,16,16,1,1,1,1,1\n"
CASE_D = "L3[WIO] C4 K4 - L2[WI] K16X - L1[O] P16 C16X - L0[W]"


@pytest.fixture
def net(tmp_path: Path) -> Path:
    path = tmp_path / "net.csv"
    path.write_text(TABLE)
    return path


@pytest.fixture
def saved(run: Run, net: Path, tmp_path: Path) -> Path:
    path = tmp_path / "m.json"
    assert run("map", net, "--accelerator", "gemmini_small", "-o", path).code == 0
    return path


def test_the_table_shows_layers_totals_and_proof(run: Run, net: Path) -> None:
    ending = run("map", net, "--accelerator", "gemmini_small")
    assert (ending.code, ending.err) == (0, "")
    assert ending.out.startswith("net: 3 layers on gemmini_small\n")
    assert "second (x2)" in ending.out
    facts = dict(line.split(None, 1) for line in ending.out.split("\n\n")[-1].splitlines())
    assert facts["status"].startswith("EDP optimal, proven")
    assert facts["EDP"] == facts["bound_edp"]
    assert (facts["gap"], facts["verified"]) == ("0 % of EDP", "yes")


def test_resnet18_as_the_design_has_it(run: Run) -> None:
    document = run("map", "resnet18", "--accelerator", "gemmini_small", "--json").document
    assert (document["energy_pj"], document["latency_cycles"], document["status"]) == (4762519226, 9146845, "optimal")
    assert len(document["layers"]) == 21


def test_a_saved_result_is_verified_from_the_file_alone(run: Run, net: Path, saved: Path) -> None:
    net.unlink()
    assert run("verify", saved).out == "0 violations\n"


def test_a_factor_edited_by_hand_fails_with_the_layer_and_the_rule(run: Run, saved: Path) -> None:
    document = json.loads(saved.read_text())
    document["layers"][0]["mapping"] = document["layers"][0]["mapping"].replace("S3", "S1", 1)
    saved.write_text(json.dumps(document))
    ending = run("verify", saved)
    assert ending.code == 7
    assert 'product: layer "first": the factors of S multiply to 1, the layer has S=3' in ending.out


def test_a_result_is_compared_with_its_model_on_request(run: Run, net: Path, saved: Path) -> None:
    assert run("verify", saved, "--model", net).code == 0
    net.write_text(TABLE.replace("32,16,16", "32,16,8"))
    ending = run("verify", saved, "--model", net)
    assert ending.code == 7
    assert 'network: layer "second"' in ending.out


def test_inspect_shows_a_saved_result(run: Run, saved: Path) -> None:
    assert "3 layers on gemmini_small" in run("inspect", saved).out


def test_a_damaged_result_is_refused_with_every_mistake(run: Run, saved: Path) -> None:
    document = json.loads(saved.read_text())
    document["layers"][0]["dims"]["K"] = "many"
    document["layers"][1]["words"]["w"] = -1
    saved.write_text(json.dumps(document))
    ending = run("verify", saved)
    assert ending.code == 5
    assert "layers[0].dims.K" in ending.err
    assert "layers[1].words.w" in ending.err


def test_trade_off_points_are_written_as_csv(run: Run, net: Path, tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    assert run("map", net, "--accelerator", "gemmini_small", "--tradeoffs", path).code == 0
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert {row["scope"] for row in rows} == {"layer", "network"}
    assert {row["name"] for row in rows if row["scope"] == "layer"} == {"first", "second"}
    assert all(int(row["scratchpad_bytes"]) > 0 for row in rows if row["scope"] == "layer")


def test_one_layer_in_full(run: Run, net: Path) -> None:
    ending = run("map", net, "--accelerator", "gemmini_small", "--layer", "first")
    for word in ("tile", "register fills", "scratchpad reads", "psum reads", "A0=", "roofs", "bytes", "valid       yes"):
        assert word in ending.out
    document = run("map", net, "--accelerator", "gemmini_small", "--layer", "first", "--json").document
    assert (document["schema"], document["name"], document["valid"]) == ("cosma-sched/evaluation/1", "first", True)


def test_one_given_mapping_is_costed(run: Run) -> None:
    arguments = ("map", "--evaluate", CASE_D, "--dims", "P=16,C=64,K=64", "--accelerator", "gemmini_small")
    ending = run(*arguments)
    assert ending.code == 0
    for figure in ("o=4096", "psum reads 3072", "1,536 cycles", "1,372,954.54 pJ"):
        assert figure in ending.out
    document = run(*arguments, "--json").document
    assert (document["words"]["o"], document["latency_cycles"], document["energy_exact_pj"]) == (4096, 1536, 1372954.539)


def test_an_invalid_mapping_is_costed_and_what_it_breaks_is_said(run: Run) -> None:
    ending = run("map", "--evaluate", CASE_D, "--dims", "P=16,C=64,K=128,stride=2", "--accelerator", "gemmini_small")
    assert ending.code == 0
    assert "product: the factors of K multiply to 64, the layer has K=128" in ending.out


@pytest.mark.parametrize("method", ["random", "gradient"])
def test_the_baselines_run_from_the_command_line(run: Run, net: Path, method: str) -> None:
    if method == "gradient":
        pytest.importorskip("jax")
    ending = run("map", net, "--accelerator", "gemmini_small", "--method", method, "--evaluations", "64", "--seed", "1", "--json")
    document = ending.document
    assert (ending.code, document["status"], document["bound_edp"], document["verified"]) == (0, "feasible", None, True)


def test_ctrl_c_prints_what_is_held(run: Run, net: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cosma_sched.mapping.enumeration import LayerSpace

    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(LayerSpace, "search", interrupted)
    ending = run("map", net, "--accelerator", "gemmini_small", "--json", "--workers", "1")
    assert (ending.code, ending.document["status"], ending.document["termination"]) == (130, "feasible", "interrupted")
    assert ending.document["bound_edp"] < ending.document["edp"]


# Mistakes


def test_a_layer_that_fits_nowhere_ends_with_3(run: Run, net: Path, tmp_path: Path) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(
        "schema: cosma-sched/accelerator/1\nname: tiny\narray: {rows: 4, cols: 4, mac_pj: 1}\nlevels:\n"
        "  - {name: register, holds: [W], pj_per_word: 1}\n"
        "  - {name: accumulator, holds: [O], size_bytes: 8, element_bytes: 4, pj_per_word: 1, words_per_cycle_per_column: 2}\n"
        "  - {name: scratchpad, holds: [W, I], size_bytes: 64, pj_per_word: 1, words_per_cycle: 8}\n"
        "  - {name: dram, holds: [W, I, O], pj_per_word: 100, words_per_cycle: 8}\n"
    )
    ending = run("map", net, "--accelerator", path)
    assert ending.code == 3
    assert 'layer "first": outputs need 16 bytes of the accumulator with all tiles at 1, 8 too many' in ending.err
    assert run("map", net, "--accelerator", path, "--json").document["status"] == "infeasible"


def test_an_operator_that_cannot_be_expressed_ends_with_5_unless_it_is_skipped(run: Run, tmp_path: Path) -> None:
    tensors = [Tensor("x", 8, "input", (2, 4), "int8"), Tensor("w", 16, "parameter", (4, 4), "int8"), Tensor("y", 8, shape=(2, 4))]
    operators = [Operator("dense", "MatMul", ("x", "w"), ("y",)), Operator("cell", "LSTM", ("y", "w"), ("z",))]
    path = tmp_path / "odd.json"
    path.write_text(json.dumps(Graph([*tensors, Tensor("z", 8, "output")], operators, "odd").to_json()))
    ending = run("map", path, "--accelerator", "gemmini")
    assert ending.code == 5
    assert "cannot be mapped: a recurrence" in ending.err
    assert "--skip-unsupported" in ending.err
    skipped = run("map", path, "--accelerator", "gemmini", "--skip-unsupported")
    assert skipped.code == 0
    assert "left out: LSTM cell" in skipped.out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["resnet18", "--accelerator", "gemini"], 5, 'did you mean "gemmini"?'),
        (["resnet1", "--accelerator", "gemmini"], 5, "no such model"),
        (["resnet18"], 2, '"--accelerator"'),
        (["--accelerator", "gemmini"], 2, "which model?"),
        (["resnet18", "--accelerator", "gemmini", "--objective", "speed"], 2, "objective must be one of edp, energy, latency"),
        (["resnet18", "--accelerator", "gemmini", "--evaluations", "5"], 2, "the exact method scores the whole space"),
        (["resnet18", "--accelerator", "gemmini", "--layer", "node_conv2"], 2, 'did you mean "node_conv2d"?'),
        (["resnet18", "--accelerator", "gemmini", "--dims", "K=4"], 2, "--dims belongs to --evaluate"),
        (["--evaluate", CASE_D, "--accelerator", "gemmini"], 2, "--evaluate needs the layer"),
        (["--evaluate", CASE_D, "--dims", "K=x", "--accelerator", "gemmini"], 2, "must be one of N, K, C"),
        (["--evaluate", "L3[WIO] K4", "--dims", "K=4", "--accelerator", "gemmini"], 5, "position 11: the end of the text"),
        (["resnet18", "--accelerator", "gemmini", "--evaluate", CASE_D, "--dims", "K=4"], 2, "takes no MODEL"),
        (["resnet18", "--accelerator", "gemmini", "--tradeoffs", "no/such/folder.csv"], 5, "no such directory"),
    ],
)
def test_a_mistake_ends_with_one_clear_line(run: Run, arguments: list[str], code: int, message: str) -> None:
    ending = run("map", *arguments)
    assert (ending.code, ending.out) == (code, "")
    assert message in ending.err.replace("'", '"')
    assert ending.err.count("\n") == 1
