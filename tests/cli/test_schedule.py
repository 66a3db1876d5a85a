"""``cosma-sched schedule``: what it shows, what it writes, what it refuses."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import pytest
import yaml

from cosma_sched.multicore.choose import _Search
from cosma_sched.multicore.improve import Improver
from tests.cli.conftest import Ending, Run

HEAD = "attention-head:32x16"
STUDY = ("--inputs", "streamed", "--weights", "free", "--objective", "memory")

PLATFORM = """schema: cosma-sched/accelerator/1
name: two-core
cores:
  - {id: 0, array: {unroll: {P: 8, K: 8}, mac_pj: 1.0},
     levels: [{name: l2, holds: [W, I, O], size_bytes: 64KiB, words_per_cycle: 32, pj_per_word: 1.0}]}
  - {id: 1, array: {unroll: {P: 4, K: 4}, mac_pj: 0.5},
     levels: [{name: l2, holds: [W, I, O], size_bytes: 32KiB, words_per_cycle: 16, pj_per_word: 1.0}]}
  - {id: 2, offchip: {ports: [{direction: readwrite, bits_per_cycle: 64}], pj_per_word: 125}}
links:
  - {kind: bus, cores: [0, 1], bits_per_cycle: 64}
  - {kind: bus, cores: [0, 1, 2], bits_per_cycle: 128}
"""


@pytest.fixture
def platform(tmp_path: Path) -> Path:
    path = tmp_path / "two-core.yaml"
    path.write_text(PLATFORM)
    return path


@pytest.fixture
def saved(run: Run, tmp_path: Path) -> Path:
    path = tmp_path / "head.json"
    assert quick(run, "--split", "rows=2", "-o", path).code == 0
    return path


def quick(run: Run, *arguments: str | Path, model: str = HEAD, accelerator: str | Path = "duo") -> Ending:
    """Schedule with one worker, one second at most."""
    return run("schedule", model, "--accelerator", accelerator, "--workers", "1", "--time-limit", "1s", *arguments)


def facts(ending: Ending) -> dict[str, str]:
    block = ending.out.split("\n\n")[1]
    return {name: value for name, value in (line.split(None, 1) for line in block.splitlines())}


# What the issue shows, at small size


def test_the_best_split_of_a_head_is_proven_over_all_splits(run: Run) -> None:
    asked = (*STUDY, "--outputs", "streamed", "--block", "16", "--time-limit", "30s", "--json")
    ending = quick(run, *asked, model="attention-head:16x128", accelerator="big-single-b-k")
    document = ending.document
    assert (document["status"], document["scope"], document["verified"]) == ("optimal", "all splits", True)
    assert document["peak_total_bytes"] == document["bounds"]["peak_bytes"] == 16 * 16 + 2 * 16 * 16  # schedule E: M^2 + 2 b M
    assert "split KKKCK (Q, K, V, S, A)" in document["remarks"]


def test_the_peak_stands_beside_the_layer_by_layer_peak_and_the_rule(run: Run) -> None:
    ending = quick(run, *STUDY, "--outputs", "kept", "--split", "rows=8", model="attention-head:64x8", accelerator="big-single-b-k")
    line = next(line for line in ending.out.splitlines() if "layer by layer" in line)
    baseline = max(3 * 64 * 8 + 8 * 64, 2 * 64 * 8 + 64 * 64 + 8 * 8)
    assert f"the peak is {baseline:,} bytes" in line
    assert "by the published rule" in line
    assert facts(ending)["split"] == "rows in 8 (all layers)"
    assert facts(ending)["counted"].startswith("inputs streamed, weights free, outputs kept")


def test_a_schedule_on_two_cores_keeps_its_capacities_and_is_verified(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "head.json"
    ending = quick(run, "--split", "rows=4", "--capacity", "0=3KiB,1=2KiB", "-o", path)
    document = json.loads(path.read_text())
    assert ending.code == 0
    assert facts(ending)["verified"] == "yes"
    assert all(document["peak_bytes"][core] <= limit for core, limit in (("0", 3072), ("1", 2048)))
    assert [line.split()[-1] for line in ending.out.splitlines() if line.startswith(("0  ", "1  "))] == ["3,072", "2,048"]
    assert run("verify", path).out == "0 violations\n"


def test_an_edited_start_time_is_found_with_rule_node_and_cycle(run: Run, saved: Path) -> None:
    document = json.loads(saved.read_text())
    run_of = max(document["nodes"], key=lambda entry: entry["start"])
    run_of["start"], run_of["end"] = 0, run_of["end"] - run_of["start"]
    saved.write_text(json.dumps(document))
    ending = run("verify", saved)
    assert ending.code == 7
    assert run_of["name"] in ending.out + ending.err


def test_the_trace_has_a_track_per_core_bus_and_port_and_a_counter_per_core(run: Run, tmp_path: Path) -> None:
    trace = tmp_path / "trace.json"
    assert quick(run, "--split", "rows=2", "--trace", trace).code == 0
    events = json.loads(trace.read_text())["traceEvents"]
    tracks = {event["args"]["name"] for event in events if event["name"] == "thread_name"}
    assert {"core 0", "core 1"} <= tracks
    assert any(name.startswith("port") for name in tracks)
    assert {event["name"] for event in events if event["ph"] == "C"} <= {"bytes on core 0", "bytes on core 1"}
    assert any(event["ph"] == "C" for event in events)


def test_a_network_whose_weights_are_missing_is_scheduled_with_one_warning(run: Run, shared_data: Path) -> None:
    model, hardware = shared_data / "stream/workload/resnet18.onnx", shared_data / "stream/hardware/tpu_like_quad_core.yaml"
    ending = quick(run, "--method", "list-latency", "--json", model=str(model), accelerator=hardware)
    document = ending.document
    assert (ending.code, document["verified"]) == (0, True)
    assert document["gap"] is not None
    assert len(document["groups"]) > 1
    assert [warning for warning in document["warnings"] if "missing" in warning] == document["warnings"]
    assert len(document["warnings"]) == 1


def test_an_operator_without_a_cost_model_is_named(run: Run, shared_data: Path) -> None:
    model, hardware = shared_data / "stream/workload/swiglu_64_128_256.onnx", shared_data / "stream/hardware/simba.yaml"
    ending = quick(run, "--method", "list-memory", "--split", "rows=4", model=str(model), accelerator=hardware)
    assert ending.code == 0
    assert "warning: Silu: no cost model; costed by the vector rule" in ending.out
    assert "36 " not in ending.err


# Options


@pytest.mark.parametrize("method", ["list-latency", "list-memory", "critical-path", "bytes-freed"])
def test_the_baselines_give_verified_schedules(run: Run, method: str) -> None:
    document = quick(run, "--method", method, "--split", "rows=4", "--json").document
    assert (document["method"], document["verified"], len(document["nodes"])) == (method, True, 20)


def test_the_genetic_baseline_runs(run: Run) -> None:
    pytest.importorskip("pymoo")
    assert quick(run, "--method", "genetic", "--split", "rows=2", "--json").document["verified"] is True


@pytest.mark.parametrize("objective", ["latency", "energy", "memory"])
def test_every_objective_is_answered_with_a_bound(run: Run, objective: str) -> None:
    document = quick(run, "--objective", objective, "--split", "rows=2", "--json").document
    figure = {"latency": "latency_cycles", "energy": "energy_pj", "memory": "peak_bytes"}[objective]
    value = {"latency": "latency_cycles", "energy": "energy_pj", "memory": "peak_total_bytes"}[objective]
    assert 0 < document["bounds"][figure] <= document[value]


@pytest.mark.parametrize(
    ("option", "value", "field"),
    [
        ("--inputs", "resident", "inputs"),
        ("--inputs", "streamed", "inputs"),
        ("--weights", "free", "weights"),
        ("--outputs", "kept", "outputs"),
        ("--outputs", "streamed", "outputs"),
        ("--partial-sum-factor", "2", "partial_sum_factor"),
        ("--softmax", "node", "softmax"),
        ("--softmax", "expanded", "softmax"),
        ("--timing", "stream", "timing"),
        ("--capacity-rule", "split", "capacity_rule"),
        ("--memory-scope", "worst-core", "memory_scope"),
    ],
)
def test_the_rules_stand_in_the_result_and_verify_keeps_to_them(run: Run, tmp_path: Path, option: str, value: str, field: str) -> None:
    path = tmp_path / "out.json"
    ending = quick(run, option, value, "--method", "list-latency", "--split", "rows=2", "--json", "-o", path)
    assert ending.code == 0
    assert str(ending.document["semantics"][field]) == value
    assert run("verify", path).code == 0


def test_a_front_goes_from_the_fastest_to_the_least_peak(run: Run) -> None:
    ending = quick(run, "--split", "rows=2", "--pareto", "3", "--json")
    schedules = ending.document["schedules"]
    assert ending.code == 0
    assert [one["latency_cycles"] for one in schedules] == sorted(one["latency_cycles"] for one in schedules)
    assert [one["peak_total_bytes"] for one in schedules] == sorted((one["peak_total_bytes"] for one in schedules), reverse=True)
    assert quick(run, "--split", "rows=2", "--pareto", "3").out.startswith("attention-head")


def test_an_interrupt_ends_a_front(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Improver, "run", interrupted)
    ending = quick(run, "--split", "rows=2", "--pareto", "3", "--json")
    assert ending.code == 130
    assert [one["termination"] for one in ending.document["schedules"]] == ["interrupted"]
    assert "interrupted: this is the best that was found" in ending.err


def test_a_front_of_nothing_says_so_and_replaces_no_file(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "front.json"
    path.write_text("old")
    ending = quick(run, "--pareto", "2", "--time-limit", "0s", "--json", "-o", path)
    assert (ending.code, ending.document["schedules"], path.read_text()) == (4, [], "old")
    assert "try a longer --time-limit" in ending.err


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--pareto", "2", "--gap", "0.5"), "searched without it"),
        (("--method", "list-latency", "--gap", "0.5"), "list-latency has none"),
        (("--trace", "-", "--json"), "standard output is for the result"),
        (("--memory-csv", "-"), "standard output is for the result"),
    ],
)
def test_an_option_that_nothing_would_read_is_refused(run: Run, options: tuple[str, ...], problem: str) -> None:
    ending = quick(run, *options)
    assert (ending.code, ending.out) == (2, "")
    assert problem in ending.err


def test_addresses_are_disjoint_and_verified(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    document = quick(
        run, "--addresses", "--method", "list-latency", "--split", "rows=2", "--capacity", "8KiB", "--json", "-o", path
    ).document
    assert all("offset" in entry for entry in document["residency"] if entry["end"] > entry["start"])
    assert run("verify", path).code == 0


def test_a_split_file_cuts_the_layers_it_names(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "split.yaml"
    path.write_text("default: {rows: 2}\nlayers: {S: [{dim: columns, size: 8}], A: {rows: 4, columns: 2}}\n")
    document = quick(run, "--method", "list-latency", "--split", path, "--json").document
    layers = [entry["layer"] for entry in document["nodes"]]
    assert {layer: layers.count(layer) for layer in "QKVSA"} == {"Q": 2, "K": 2, "V": 2, "S": 4, "A": 8}


def test_own_and_streamlike_files_are_written(run: Run, tmp_path: Path) -> None:
    memory, mapping = tmp_path / "memory.csv", tmp_path / "mapping.yaml"
    assert quick(run, "--split", "rows=2", "--memory-csv", memory, "--mapping-yaml", mapping).code == 0
    rows = list(csv.DictReader(memory.read_text().splitlines()))
    assert rows[-1]["bytes"] == "0"
    document = yaml.safe_load(mapping.read_text())
    assert [layer["name"] for layer in document["layers"]]
    assert {name for group in document["fused_groups"] for name in group["layers"]} == set("QKVSA")


def test_a_table_of_costs_travels_with_the_result(run: Run, tmp_path: Path) -> None:
    table, path = tmp_path / "costs.csv", tmp_path / "out.json"
    table.write_text(
        "layer,core,latency_cycles,energy_pj\n" + "".join(f"{layer},{core},{9 + core},1\n" for layer in "QKVSA" for core in (0, 1))
    )
    assert quick(run, "--costs", table, "--split", "rows=1", "-o", path).code == 0
    table.unlink()
    assert run("verify", path).code == 0
    assert {entry["end"] - entry["start"] for entry in json.loads(path.read_text())["nodes"]} <= {9, 10}


def test_the_same_seed_and_one_worker_repeat(run: Run) -> None:
    asked = ("--split", "rows=1", "--seed", "3", "--time-limit", "30s", "--json")
    first, again = (quick(run, *asked).document for _ in range(2))
    assert (first["nodes"], first["transfers"]) == (again["nodes"], again["transfers"])


def test_a_built_accelerator_file_is_read_and_embedded(run: Run, platform: Path, tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    assert quick(run, "--split", "rows=2", "-o", path, accelerator=platform).code == 0
    platform.unlink()
    assert run("verify", path).out == "0 violations\n"


# What is refused


def test_all_mistakes_of_a_platform_file_are_reported(run: Run, platform: Path) -> None:
    text = (
        PLATFORM.replace("bits_per_cycle: 128}", "bits_per_cycle: -32}")
        .replace("cores: [0, 1], bits", "cores: [0, 7], bits")
        .replace("mac_pj: 0.5", "mac_pj: -1")
    )
    platform.write_text(text)
    ending = quick(run, accelerator=platform)
    assert (ending.code, ending.out) == (5, "")
    lines = ending.err.splitlines()
    assert all(line.startswith(f"{platform}: line ") for line in lines)
    for part in ("links[1].bits_per_cycle: must be > 0, got -32", "no core has the id 7", "cores[1].array.mac_pj"):
        assert any(part in line for line in lines), part


def test_a_core_path_that_does_not_resolve_lists_the_places_tried(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "stream.yaml"
    path.write_text("name: s\ncores:\n  0: ./cores/nowhere.yaml\n  1: offchip.yaml\noffchip_core_id: 1\ncore_connectivity: []\n")
    ending = quick(run, accelerator=path)
    assert ending.code == 5
    assert ending.err.count("nowhere.yaml") >= 2


def test_all_mistakes_of_a_split_file_are_reported(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "split.yaml"
    path.write_text("default: {rows: 0}\nlayers: {S: [{dim: depth, parts: 2}]}\n")
    ending = quick(run, "--split", path)
    assert ending.code == 5
    assert f"{path}: default.rows: must be a whole number" in ending.err
    assert f"{path}: layers.S[0].dim: must be one of rows" in ending.err


def test_a_split_that_names_an_unknown_layer_lists_the_layers(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "split.yaml"
    path.write_text("layers: {Qx: {rows: 2}, S: {rows: 99}}\n")
    ending = quick(run, "--split", path)
    assert ending.code == 5
    assert f'{path}: layers.Qx: no such layer; the layers are Q, K, V, S, A; did you mean "Q"?' in ending.err
    assert "must be at most 32, the extent of rows, got 99" in ending.err


def test_a_cost_that_is_not_positive_names_node_and_core(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "costs.csv"
    path.write_text("node,core,latency_cycles,energy_pj\nQ,0,0,1\nQ,1,-4,1\n")
    ending = quick(run, "--costs", path, "--split", "rows=1")
    assert ending.code == 5
    assert 'node "Q" on core 0: latency_cycles must be > 0, got "0"' in ending.err
    assert 'node "Q" on core 1: latency_cycles must be > 0, got "-4"' in ending.err


def test_a_missing_cost_names_node_and_core(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "costs.csv"
    path.write_text("layer,core,latency_cycles,energy_pj\n" + "".join(f"{layer},0,9,1\n" for layer in "QKVSA") + "Q,1,9,1\n")
    ending = quick(run, "--costs", path, "--split", "rows=1")
    assert ending.code == 5
    assert "K" in ending.err
    assert "core 1" in ending.err


def test_a_damaged_model_is_bad_input(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"no model at all")
    ending = quick(run, model=str(path))
    assert ending.code == 5
    assert str(path) in ending.err


def test_a_tile_larger_than_every_memory_names_what_would_make_it_fit(run: Run) -> None:
    ending = quick(run, "--capacity", "0=2500,1=512", "--split", "rows=1", model="attention-head:64x16")
    assert ending.code == 3
    assert 'tile "S" of 4096 bytes is larger than every memory; the largest holds 2500 bytes' in ending.err
    assert "works with: --capacity " in ending.err
    lever = next(line for line in ending.err.splitlines() if "works with: --split " in line).split()[3]
    assert quick(run, "--capacity", "0=2500,1=512", "--split", lever, "--method", "list-latency", model="attention-head:64x16").code == 0


def test_auto_finds_cuts_that_fit(run: Run) -> None:
    ending = quick(run, "--capacity", "0=1KiB,1=512", "--method", "list-latency", "--json", model="attention-head:64x16")
    assert (ending.code, ending.document["verified"]) == (0, True)


def test_what_no_cut_makes_fit_is_infeasible(run: Run) -> None:
    ending = quick(run, "--capacity", "3", "--json", model="attention-head:2x2")
    assert (ending.code, ending.document["status"]) == (3, "infeasible")
    assert ending.document["reasons"][0]["demand"] == 4


def test_without_pymoo_the_genetic_baseline_names_the_install_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymoo", None)
    ending = quick(run, "--method", "genetic")
    assert ending.code == 6
    assert 'pip install "cosma-sched[baselines]"' in ending.err


@pytest.mark.parametrize("phase", [Improver, _Search])
def test_ctrl_c_prints_the_incumbent_with_its_bound(run: Run, monkeypatch: pytest.MonkeyPatch, phase: type) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    if phase is _Search:
        monkeypatch.setattr("cosma_sched.multicore.choose.neighbours", interrupted)
    else:
        monkeypatch.setattr(Improver, "run", interrupted)
    ending = quick(run, "--json", *(("--time-limit", "30s") if phase is _Search else ("--split", "rows=2")))
    document = ending.document
    assert ending.code == 130
    assert "interrupted: this is the best that was found" in ending.err
    assert (document["termination"], document["verified"]) == ("interrupted", True)
    assert 0 < document["bounds"]["latency_cycles"] <= document["latency_cycles"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--capacity", "1KiB", "--split", "rows=1"), 3),
        (("--split", "nowhere.yaml"), 5),
        (("--costs", "nowhere.csv"), 5),
        (("--method", "exakt"), 2),
    ],
)
def test_a_failed_run_overwrites_nothing(run: Run, saved: Path, tmp_path: Path, arguments: tuple[str, ...], code: int) -> None:
    trace = tmp_path / "trace.json"
    trace.write_text("before")
    before = saved.read_bytes()
    assert quick(run, *arguments, "-o", saved, "--trace", trace).code == code
    assert (saved.read_bytes(), trace.read_text()) == (before, "before")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--objective", "speed"), "objective must be one of latency, energy, memory"),
        (("--inputs", "none"), "inputs must be one of fetched, streamed, resident"),
        (("--split", "rows=0"), "must be a whole number of parts >= 1"),
        (("--split", "row=2"), 'did you mean "rows"?'),
        (("--split", "rows=2", "--block", "4"), "--block says how AUTO cuts"),
        (("--block", "0"), "--block"),
        (("--capacity", "0=1KiB,0=2KiB"), "every core once"),
        (("--capacity", "big"), "--capacity"),
        (("--partial-sum-factor", "0"), "--partial-sum-factor"),
        (("--pareto", "1"), "--pareto"),
        (("--pareto", "3", "--trace", "t.json"), "--trace is about one schedule"),
        (("--pareto", "3", "--addresses"), "--addresses is about one schedule"),
        (("--gap", "2"), "--gap"),
        (("--workers", "0"), "--workers"),
        (("--time-limit", "soon"), "--time-limit"),
    ],
)
def test_a_malformed_option_is_a_usage_error(run: Run, arguments: tuple[str, ...], message: str) -> None:
    ending = quick(run, *arguments)
    assert (ending.code, ending.out) == (2, "")
    assert message in ending.err


def test_an_unknown_core_in_a_capacity_is_refused(run: Run) -> None:
    ending = quick(run, "--capacity", "7=1KiB")
    assert ending.code == 5
    assert "no core has this id; ids are 0, 1" in ending.err


def test_a_saved_front_is_checked_and_shown(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "front.json"
    made = run(
        "schedule", "attention-head:64x32", "--accelerator", "duo", "--split", "rows=2", "--pareto", "3", "--time-limit", "6s", "-o", path
    )
    assert made.code == 0
    assert run("verify", path).code == 0
    assert "none of them dominated" in run("inspect", path).out
    document = json.loads(path.read_text())
    document["schedules"][0]["nodes"][0]["start"] += 1
    path.write_text(json.dumps(document))
    assert run("verify", path).code == 7
    document["schedules"][0]["nodes"][0]["start"] = "soon"
    path.write_text(json.dumps(document))
    assert "schedules[0].nodes[0].start" in run("verify", path).err
