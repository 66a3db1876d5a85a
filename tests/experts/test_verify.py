"""The checker: for every rule one answer that breaks it, and results that hold."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cosma_sched as cs
from cosma_sched.errors import InputError, UsageError
from cosma_sched.experts.calls import check_result, place_experts
from cosma_sched.experts.placement import Bounds, Gaps, Placement
from cosma_sched.experts.profile import Profile, hold_out
from cosma_sched.experts.verify import verify
from cosma_sched.result import Status
from tests.experts import oracle


@pytest.fixture(scope="module")
def profile() -> Profile:
    return oracle.draw_profile(0, layers=3, experts=8, num=200)


@pytest.fixture(scope="module")
def placement(profile: Profile) -> Placement:
    """No replicas, so that every bound is there; too many states would be few, hence proven."""
    return place_experts(profile, gpus=4, traffic="token-stays", iterations=30, current=oracle.random_slots(0, 3, 8, 4, 2), expert_bytes=10)


@pytest.fixture(scope="module")
def searched(profile: Profile) -> Placement:
    """With replicas, so that the answer is searched for and not proven."""
    return place_experts(profile, gpus=4, slots=3, hold_out="alternate", iterations=30)


def rules(found: list[Any]) -> set[str]:
    return {violation.rule for violation in found}


def test_what_the_planner_returns_holds(profile: Profile, placement: Placement, searched: Placement) -> None:
    assert verify(profile, placement) == []
    assert verify(*hold_out(profile, "alternate")[:1], searched, hold_out(profile, "alternate")[1]) == []
    assert cs.verify(profile, searched) == []
    assert placement.status == Status.OPTIMAL


def test_saved_and_loaded_it_is_the_same(placement: Placement, searched: Placement, tmp_path: Path) -> None:
    for each in (placement, searched):
        each.save(tmp_path / "r.json")
        assert replace(cs.load_result(tmp_path / "r.json"), seconds=each.seconds) == each


def edited(placement: Placement, layer: int, slot: int, expert: int) -> Placement:
    slots = [list(row) for row in placement.slots or ()]
    slots[layer][slot] = expert
    return placement.replace(slots=tuple(map(tuple, slots)))


@pytest.mark.parametrize("seed", range(10))
def test_an_edited_slot_is_named_with_its_layer_and_the_figures_it_changes(profile: Profile, placement: Placement, seed: int) -> None:
    random = np.random.default_rng(seed)
    layer, slot = int(random.integers(3)), int(random.integers(8))
    expert = (placement.array[layer, slot] + int(random.integers(1, 8))) % 8
    found = verify(profile, edited(placement, layer, slot, int(expert)))
    assert any((v.rule, v.layer, v.slot) == ("checksum", layer, slot) for v in found)
    assert any("load.profile.max_over_mean is stated as" in v.message for v in found)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda p: edited(p, 0, 0, 99), "expert ids"),
        (lambda p: p.replace(slots=p.slots[:2]), "every layer"),
        (lambda p: p.replace(slots=(p.slots[0][:-1], *p.slots[1:])), "equal slots"),
        (lambda p: edited(p, 1, 0, p.array[1, 7]), "every expert"),
        (lambda p: edited(p, 1, 0, p.array[1, 1]), "replicas apart"),
        (lambda p: p.replace(duplicate_slots=1), "duplicate_slots"),
        (lambda p: p.replace(load=replace(p.load, profile=replace(p.load.profile, utilisation=0.5))), "figures"),
        (lambda p: p.replace(traffic=replace(p.traffic, profile=replace(p.traffic.profile, busiest_port=0.1))), "figures"),
        (lambda p: p.replace(traffic=replace(p.traffic, held_out=p.traffic.profile)), "figures"),
        (lambda p: p.replace(baselines={"eplb": p.baselines["contiguous"]}), "figures"),
        (lambda p: p.replace(moved_experts=3), "moved_experts"),
        (lambda p: p.replace(moved_bytes=3), "moved_bytes"),
        (lambda p: p.replace(bounds=Bounds(1.5, p.bounds.copies_per_token, p.bounds.remote_fraction)), "bounds"),
        (lambda p: p.replace(bounds=replace(p.bounds, remote_fraction=p.bounds.remote_fraction + 0.01)), "bounds"),
        (lambda p: p.replace(bounds=replace(p.bounds, copies_per_token=1.99)), "bounds"),
        (lambda p: p.replace(gap=Gaps(0.5, 0.0)), "gap"),
        (lambda p: p.replace(checksums=p.checksums[:1]), "checksum"),
        (lambda p: p.replace(per_layer=p.per_layer[:1]), "per_layer"),
        (lambda p: p.replace(per_layer=(replace(p.per_layer[0], load=1.0), *p.per_layer[1:])), "per_layer"),
        (lambda p: p.replace(per_layer=tuple(replace(one, best_load=0.5) for one in p.per_layer)), "max load"),
        (lambda p: p.replace(nodes=3), "nodes"),
        (lambda p: p.replace(layers=(5, 6, 7)), "profile"),
    ],
)
def test_every_rule_is_checked(profile: Profile, placement: Placement, change: Any, rule: str) -> None:
    assert rule in rules(verify(profile, change(placement)))


def test_optimal_is_not_believed(profile: Profile, searched: Placement) -> None:
    planned, held = hold_out(profile, "alternate")
    assert "status" in rules(verify(planned, searched.replace(status=Status.OPTIMAL), held))


def test_a_missing_answer_needs_a_reason(profile: Profile, placement: Placement) -> None:
    assert rules(verify(profile, placement.replace(slots=None))) == {"placement"}


def test_a_wrong_type_is_a_usage_error(placement: Placement) -> None:
    with pytest.raises(UsageError, match="a Placement is checked against a Profile, not a NoneType"):
        cs.verify(None, placement)


def saved(tmp_path: Path) -> tuple[Path, Path]:
    tokens = oracle.draw_tokens(2, num=100)
    profile = tmp_path / "tokens.npz"
    np.savez(profile, T=tokens)
    result = tmp_path / "result.json"
    place_experts(str(profile), gpus=3, hold_out="alternate", iterations=10).save(result)
    return profile, result


def test_a_result_is_checked_against_the_files_it_names(tmp_path: Path) -> None:
    profile, result = saved(tmp_path)
    loaded = cs.load_result(result)
    assert check_result(loaded) == []
    moved = profile.rename(tmp_path / "elsewhere.npz")
    assert check_result(loaded, str(moved)) == []
    with pytest.raises(InputError, match="no such file"):
        check_result(loaded)


def test_another_profile_is_refused_by_its_digest(tmp_path: Path) -> None:
    profile, result = saved(tmp_path)
    np.savez(profile, T=oracle.draw_tokens(3, num=100))
    with pytest.raises(InputError, match="has sha256"):
        check_result(cs.load_result(result))


def test_a_result_of_a_profile_built_in_python_needs_a_file(placement: Placement) -> None:
    with pytest.raises(UsageError, match="name the file with --model"):
        check_result(placement)


@pytest.mark.parametrize(
    ("key", "value"), [("placement", [["a"]]), ("gpus", 0), ("method", "best"), ("status", "fine"), ("extra", 1), ("load", {"profile": {}})]
)
def test_a_malformed_result_is_refused(placement: Placement, tmp_path: Path, key: str, value: Any) -> None:
    document = placement.to_json() | {key: value}
    path = tmp_path / "r.json"
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match=key):
        cs.load_result(path)
