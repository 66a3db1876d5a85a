"""The planner end to end: options, limits, baselines, what cannot be done."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import cosma_sched as cs
from cosma_sched.accelerator import Accelerator, load_accelerator
from cosma_sched.errors import InputError, MissingError, UsageError
from cosma_sched.mapping import calls, planner
from cosma_sched.mapping.answer import MappingResult
from cosma_sched.mapping.calls import evaluate_mapping, map_layers, verify_mapping
from cosma_sched.mapping.layer import Layer, Unsupported, Workload
from cosma_sched.mapping.search import LayerSearch
from cosma_sched.progress import Event
from cosma_sched.result import Status, Termination
from tests.mapping.cases import layer


def named(name: str, mapped: Layer) -> Layer:
    return replace(mapped, name=name)


NET = Workload(
    "net",
    (
        named("a", layer(2, K=16, C=3, P=16, Q=16, R=3, S=3)),
        named("b", layer(K=32, C=16, P=16, Q=16, count=2)),
        named("c", layer(K=32, C=16, P=16, Q=16)),
        named("d", layer(P=16, Q=16, R=3, S=3, repeat=32)),
    ),
)


@pytest.fixture(scope="module")
def exact() -> MappingResult:
    return map_layers(NET, "gemmini_small", tradeoffs=True)


def shrunk(scratchpad: int, accumulator: int) -> Accelerator:
    document = load_accelerator("gemmini_small").to_json()
    document["levels"][1]["size_bytes"], document["levels"][2]["size_bytes"] = accumulator, scratchpad
    return Accelerator.from_json(document)


def test_the_public_names_are_these_calls() -> None:
    assert cs.map_layers is calls.map_layers
    assert cs.evaluate_mapping is calls.evaluate_mapping
    assert cs.MappingResult is MappingResult


def test_totals_count_every_instance(exact: MappingResult) -> None:
    assert exact.energy_pj == sum(entry.energy_pj * entry.layer.count for entry in exact.layers)
    assert exact.latency_cycles == sum(entry.latency_cycles * entry.layer.count for entry in exact.layers)
    assert exact.layers[1].mapping == exact.layers[2].mapping


def test_equal_layers_are_solved_once(monkeypatch: pytest.MonkeyPatch) -> None:
    solved: list[Layer] = []

    def spy(problem: Layer, *arguments: object, **options: object) -> LayerSearch:
        solved.append(problem)
        return original(problem, *arguments, **options)

    original = planner.search_layer
    monkeypatch.setattr(planner, "search_layer", spy)
    map_layers(NET, "gemmini_small")
    assert len(solved) == 3


def test_other_objectives_are_optimal_in_their_own_measure(exact: MappingResult) -> None:
    for objective, field in (("energy", "energy_pj"), ("latency", "latency_cycles")):
        found = map_layers(NET, "gemmini_small", objective=objective)
        assert found.status == Status.OPTIMAL
        assert getattr(found, field) == getattr(exact.bounds, field) <= getattr(exact, field)


def test_trade_off_points_hold_the_chosen_mappings(exact: MappingResult) -> None:
    assert exact.tradeoffs is not None
    assert (exact.energy_pj, exact.latency_cycles) in exact.tradeoffs
    for entry in exact.layers:
        assert entry.tradeoffs is not None
        assert any((p.energy_pj, p.latency_cycles) == (entry.energy_pj, entry.latency_cycles) for p in entry.tradeoffs)
        sizes = [(p.energy_pj, p.latency_cycles, p.scratchpad_bytes) for p in entry.tradeoffs]
        assert len(set(sizes)) == len(sizes)


def test_trade_off_points_do_not_change_the_answer(exact: MappingResult) -> None:
    plain = map_layers(NET, "gemmini_small")
    assert [entry.mapping for entry in plain.layers] == [entry.mapping for entry in exact.layers]
    assert plain.tradeoffs is None


def test_two_processes_give_the_answer_of_one(exact: MappingResult) -> None:
    spread = map_layers(NET, "gemmini_small", workers=2, tradeoffs=True)
    assert (spread.layers, spread.tradeoffs, spread.evaluations) == (exact.layers, exact.tradeoffs, exact.evaluations)


def test_a_time_limit_leaves_a_checked_answer_with_an_honest_gap(exact: MappingResult) -> None:
    found = map_layers(NET, "gemmini_small", time_limit=0)
    assert found.verified
    assert found.bound is not None
    assert found.bound <= exact.edp <= found.edp
    if found.status == Status.FEASIBLE:
        assert found.termination == Termination.TIME_LIMIT
        assert found.gap == (found.edp - found.bound) / found.edp > 0


def test_an_unfinished_layer_is_bounded_from_below(monkeypatch: pytest.MonkeyPatch, exact: MappingResult) -> None:
    """A search that stops after the first layer, as Ctrl-C makes it."""

    def first_only(problem: Layer, *arguments: object, **options: object) -> LayerSearch:
        found = original(problem, *arguments, **options)
        return found if problem == NET.layers[0].problem else replace(found, points=(), complete=False, interrupted=True, evaluations=0)

    original = planner.search_layer
    monkeypatch.setattr(planner, "search_layer", first_only)
    found = map_layers(NET, "gemmini_small")
    assert (found.status, found.termination, found.verified) == (Status.FEASIBLE, Termination.INTERRUPTED, True)
    assert found.bound < exact.edp <= found.edp


def test_the_random_baseline_repeats_with_its_seed_and_improves_with_samples(exact: MappingResult) -> None:
    few, again, many = (map_layers(NET, "gemmini_small", method="random", evaluations=n, seed=3) for n in (100, 100, 4000))
    assert few.layers == again.layers
    assert exact.edp <= many.edp <= few.edp
    assert (few.status, few.termination, few.bound, few.gap) == (Status.FEASIBLE, Termination.EXHAUSTED, None, None)
    assert few.evaluations == 300


def test_charged_vector_operators_cost(exact: MappingResult) -> None:
    free, charged = (map_layers(cs.load("resnet18"), "gemmini_small", vector_ops=how) for how in ("free", "charged"))
    alone = [vector for vector in charged.vector_operators if vector.folded_into is None]
    assert sum(vector.energy_pj for vector in alone) == 102_912_000
    assert sum(vector.latency_cycles for vector in alone) == 128_640
    assert charged.energy_pj >= free.energy_pj + 102_912_000 + 752_640 * 100
    assert not any(vector.energy_pj for vector in free.vector_operators)


def test_true_reuse_is_never_worse() -> None:
    parity, reuse = (map_layers(NET, "gemmini_small", halo=halo) for halo in ("parity", "reuse"))
    assert reuse.edp <= parity.edp
    assert (reuse.options["halo"], parity.options["halo"]) == ("reuse", "parity")


# What cannot be done


def test_a_layer_that_fits_in_no_way_is_infeasible_with_the_bytes_that_are_missing() -> None:
    found = map_layers(NET, shrunk(1, 60))
    assert (found.status, found.layers, found.energy_pj) == (Status.INFEASIBLE, (), None)
    assert [(reason.rule, reason.demand, reason.limit, reason.short) for reason in found.reasons] == [
        ("scratchpad-fits", 2, 1, 1),
        ("accumulator-fits", 64, 60, 4),
    ]
    assert found.reasons[0].where == 'layer "a"'
    assert MappingResult.from_json(found.to_json()) == found


def test_the_sizes_that_a_lever_names_are_the_least_that_work() -> None:
    assert map_layers(NET, shrunk(2, 64)).status == Status.OPTIMAL


def test_operators_that_cannot_be_expressed_stop_the_call_or_are_left_out_by_name() -> None:
    odd = replace(NET, unsupported=(Unsupported("rnn", "LSTM", "a recurrence is no single loop nest"),))
    with pytest.raises(InputError, match=r"LSTM .rnn.: cannot be mapped: a recurrence"):
        map_layers(odd, "gemmini_small")
    assert map_layers(odd, "gemmini_small", skip_unsupported=True).skipped == odd.unsupported


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": "edpp"}, 'did you mean "edp"'),
        ({"method": "best"}, "exact, random, genetic, bayesian, gradient"),
        ({"halo": "none"}, "parity, reuse"),
        ({"vector_ops": "costly"}, "free, charged"),
        ({"evaluations": 10}, "the exact method scores the whole space"),
        ({"workers": 0, "method": "random"}, "workers must be >= 1"),
    ],
)
def test_an_unknown_option_is_refused(options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        map_layers(NET, "gemmini_small", **options)


def test_progress_names_the_layers() -> None:
    events: list[Event] = []
    map_layers(NET, "gemmini_small", observers=[events.append])
    assert [event.note.split(":")[0] for event in events] == ["layer 1 of 3", "layer 2 of 3", "layer 3 of 3"]


# Saving and evaluating


def test_a_saved_result_reads_back_equal(exact: MappingResult, tmp_path: Path) -> None:
    exact.save(tmp_path / "m.json")
    assert cs.load_result(tmp_path / "m.json") == exact
    assert verify_mapping(cs.load_result(tmp_path / "m.json"), NET) == []


def test_the_document_has_the_promised_fields(exact: MappingResult) -> None:
    document = json.loads(json.dumps(exact.to_json()))
    assert document["schema"] == "cosma-sched/mapping/1"
    assert {"energy_pj", "latency_cycles", "edp", "bound_edp", "bounds", "gap", "evaluations", "layers", "accelerator"} <= set(document)
    entry = document["layers"][0]
    assert entry["dims"] == {"N": 1, "K": 16, "C": 3, "P": 16, "Q": 16, "R": 3, "S": 3}
    assert (entry["stride"], entry["repeat"], set(entry["words"])) == ([2, 2], 1, {"w", "i", "o", "psum"})
    assert entry["roof"] in {"compute", "accumulator", "scratchpad", "dram"}
    assert document["options"] == {"halo": "parity", "psum_words": 1, "vector_ops": "free", "space": "gemmini"}
    assert document["accelerator"]["levels"][2]["size_bytes"] == 131072


def test_a_mapping_that_breaks_rules_is_costed_and_the_rules_are_named() -> None:
    found = evaluate_mapping("L3[WIO] C2 - L2[WI] - L1[O] P16 K9000 C32X - L0[W] C2", layer(P=16, C=64, K=64), "gemmini_small")
    assert {rule.rule for rule in found.broken} == {"product", "array", "scratchpad", "accumulator", "register"}
    assert found.score.energy_pj > 0


def test_without_jax_the_gradient_baseline_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "jax", None)
    with pytest.raises(MissingError, match=r"pip install .cosma-sched\[gradient\]."):
        map_layers(NET, "gemmini_small", method="gradient")
