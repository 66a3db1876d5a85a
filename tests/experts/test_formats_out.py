"""Output formats: the exact rules, the independent reader, and corruptions that it has to find."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cosma_sched.errors import InfeasibleError, InputError, UsageError
from cosma_sched.experts.calls import place_experts
from cosma_sched.experts.formats import reread, writers
from cosma_sched.experts.formats.current import read_current
from cosma_sched.experts.placement import Placement
from cosma_sched.experts.profile import Profile, Scenario, build_profile
from tests.experts import oracle


@pytest.fixture(scope="module")
def profile() -> Profile:
    loads = np.concatenate([np.zeros((2, 6), np.int64), np.random.default_rng(0).integers(1, 50, (3, 6))])
    return build_profile([Scenario("s", loads)], path="model")


@pytest.fixture(scope="module")
def placement(profile: Profile) -> Placement:
    return place_experts(profile, gpus=4, slots=2, method="joint", iterations=30)


def rows(placement: Placement) -> list[list[int]]:
    return [list(row) for row in placement.slots or ()]


def test_sglang_has_one_key_and_a_row_for_dense_layers(placement: Placement) -> None:
    document = json.loads(writers.rendered(placement, "sglang"))
    assert list(document) == ["physical_to_logical_map"]
    assert document["physical_to_logical_map"] == [[0, 1, 2, 3, 4, 5, 0, 1]] * 2 + rows(placement)


def test_trtllm_has_absolute_layers(placement: Placement) -> None:
    import yaml

    document = yaml.safe_load(writers.rendered(placement, "trtllm"))
    assert document == {
        "initial_global_assignments": dict(zip((2, 3, 4), rows(placement), strict=True)),
        "num_slots": 8,
        "layer_updates_per_iter": 0,
    }


def test_vllm_is_one_line_and_counts_moe_layers(placement: Placement) -> None:
    text = writers.rendered(placement, "vllm")
    assert text.count("\n") == 1
    record = json.loads(text)
    assert record["record_type"] == "eplb_initial_mapping"
    assert (record["version"], record["num_redundant_experts"], record["num_slots"]) == (1, 2, 8)
    assert record["initial_global_assignments"] == {str(i): row for i, row in enumerate(rows(placement))}
    assert "cannot load" in writers.REMARKS["vllm"]


def test_vllm_ascend_lists_devices(placement: Placement) -> None:
    document = json.loads(writers.rendered(placement, "vllm-ascend"))
    assert document["moe_layer_count"] == 3
    for i, layer in enumerate(document["layer_list"]):
        assert (layer["layer_id"], layer["device_count"]) == (i, 4)
        assert [device["device_id"] for device in layer["device_list"]] == [0, 1, 2, 3]
        assert [expert for device in layer["device_list"] for expert in device["device_expert"]] == rows(placement)[i]


def test_csv_has_absolute_layers_and_gpus(placement: Placement) -> None:
    lines = writers.rendered(placement, "csv").splitlines()
    assert lines[0] == "layer,slot,gpu,expert"
    assert lines[1] == f"2,0,0,{rows(placement)[0][0]}"
    assert lines[-1] == f"4,7,3,{rows(placement)[2][7]}"


def test_vllm_ascend_refuses_an_expert_twice_on_a_device(placement: Placement) -> None:
    twice = placement.replace(slots=tuple((0, 0, 1, 2, 3, 4, 5, 1) for _ in range(3)))
    with pytest.raises(InfeasibleError, match="layer 2 device 0 holds an expert twice"):
        writers.rendered(twice, "vllm-ascend")


@pytest.mark.parametrize("name", writers.WRITERS)
@pytest.mark.parametrize("seed", range(20))
def test_a_corrupted_file_is_found_out(placement: Placement, name: str, seed: int) -> None:
    text = writers.rendered(placement, name)
    random = np.random.default_rng(seed)
    digits = [i for i, character in enumerate(text) if character.isdigit()]
    at = int(random.choice(digits))
    kind = seed % 4
    if kind == 0:
        broken = text[:at] + str((int(text[at]) + int(random.integers(1, 10))) % 10) + text[at + 1 :]
    elif kind == 1:
        broken = text[: int(random.integers(1, len(text) - 2))]
    elif kind == 2:
        broken = text[:at] + text[at] + "7" + text[at + 1 :]
    else:
        one = int(random.choice(digits))
        while text[one] == text[at]:
            one = int(random.choice(digits))
        swapped = list(text)
        swapped[one], swapped[at] = swapped[at], swapped[one]
        broken = "".join(swapped)
    assert reread.compare(placement, name, broken.encode()) != []


@pytest.mark.parametrize("name", writers.WRITERS)
def test_a_file_says_what_the_placement_says(placement: Placement, name: str) -> None:
    assert reread.compare(placement, name, writers.rendered(placement, name).encode()) == []


def test_a_further_key_would_break_sglang_and_is_found(placement: Placement) -> None:
    document = json.loads(writers.rendered(placement, "sglang")) | {"comment": "x"}
    assert "exactly the keys" in reread.compare(placement, "sglang", json.dumps(document).encode())[0]


def test_a_repeated_layer_in_yaml_is_found(placement: Placement) -> None:
    text = writers.rendered(placement, "trtllm")
    line = text.splitlines()[1]
    assert reread.compare(placement, "trtllm", text.replace(line, f"{line}\n{line}").encode()) != []


def test_an_unknown_format_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match='did you mean "sglang"'):
        writers.check_format("sgland")


@pytest.mark.parametrize("name", writers.WRITERS)
def test_every_format_is_read_as_a_current_placement(placement: Placement, profile: Profile, name: str, tmp_path: Path) -> None:
    path = tmp_path / "map"
    writers.export(placement, name, str(path))
    assert read_current(str(path), profile).tolist() == rows(placement)


def test_a_saved_result_is_read_as_a_current_placement(placement: Placement, profile: Profile, tmp_path: Path) -> None:
    placement.save(tmp_path / "r.json")
    assert read_current(str(tmp_path / "r.json"), profile).tolist() == rows(placement)


@pytest.mark.parametrize("content", ["{}", '{"physical_to_logical_map": [[0]]}', "layer,slot,gpu,expert\n2,0,0,1\n", "num: ["])
def test_what_is_no_placement_of_the_model_is_refused(profile: Profile, tmp_path: Path, content: str) -> None:
    path = tmp_path / "map"
    path.write_text(content)
    with pytest.raises(InputError, match="map"):
        read_current(str(path), profile)


def test_a_crash_while_writing_leaves_the_old_file(placement: Placement, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "map.json"
    path.write_text("old")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(InputError, match="No space left"):
        writers.export(placement, "sglang", str(path))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_current_placement_that_misses_an_expert_is_refused(profile: Profile) -> None:
    with pytest.raises(InputError, match="layer 2: expert 5 is in no slot"):
        place_experts(profile, gpus=4, slots=2, current=np.asarray([[0, 1, 2, 3, 4, 0, 1, 2]] * 3), iterations=5)


def test_moved_experts_are_counted_against_the_current_placement(profile: Profile, placement: Placement) -> None:
    again = place_experts(profile, gpus=4, slots=2, current=placement, iterations=30)
    assert again.moved_experts == 0
    assert oracle.load(profile.scenarios[0].loads, again.array, 4) == pytest.approx(placement.load.profile.max_over_mean)
