"""Pairs of products with a sliced intermediate: against brute force, element by element, and what the checker refuses."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from cosma_sched.errors import InputError
from cosma_sched.frontends import load
from cosma_sched.fusion.answer import FusionResult
from cosma_sched.fusion.calls import fuse
from cosma_sched.fusion.exact import ExactOptions, ExactSearch, Found
from cosma_sched.fusion.group import MODES, Group, Mode
from cosma_sched.fusion.pricing import TileSpace
from cosma_sched.fusion.sliced import SlicedColumn, SlicedFronts, pair_of, slicings
from cosma_sched.fusion.verify import verify
from cosma_sched.graph import Graph
from cosma_sched.mapping.layer import Workload
from cosma_sched.mapping.space import divisors
from cosma_sched.progress import Clock, Progress
from tests.fusion.oracle import Rules, extreme, pareto
from tests.fusion.products import KINDS, Execution, Products, alone_points, draw_products, pair_points
from tests.mapping.cases import machine

SLICED = (Mode.SLICED,)
MACHINES = (machine(2, 24, 64), machine(2, 60, 128), machine(4, 200, 512))


def search(pair: Products, rules: Rules, *, prune: bool) -> Found:
    options = ExactOptions(TileSpace(modes=SLICED), rules.halo, prune)
    return ExactSearch(pair.problem(charged=rules.charged), rules.machine, options, Progress(Clock(None), ())).run()


@pytest.mark.parametrize("seed", range(6))
def test_slices_equal_brute_force(seed: int) -> None:
    """A hundred and twenty pairs: of a table, with drains, with a softmax, with a graph between; free and charged."""
    random_ = random.Random(seed)
    sliced = 0
    for _ in range(20):
        pair = draw_products(random_)
        rules = Rules(random_.choice(MACHINES), charged=random_.random() < 0.5)
        expected = extreme(pareto([*alone_points(pair, rules), *pair_points(pair, rules)]))
        found = search(pair, rules, prune=random_.random() < 0.5)
        assert tuple((point.energy, point.latency) for point in found.fused.points) == expected, (pair, rules)
        assert found.proven.edp_bound == min(energy * latency for energy, latency in expected)
        sliced += any(vertices for vertices in found.prices)
    assert sliced > 3


@pytest.mark.parametrize("kind", KINDS)
def test_words_and_bytes_are_those_of_an_execution(kind: str) -> None:
    """Every row tile and slice of a pair, run element by element; results are those of the unsliced pair."""
    random_ = random.Random(KINDS.index(kind))
    ran = 0
    for _ in range(8):
        pair = replace(draw_products(random_), kind=kind, repeat=random_.choice([1, 2]) if kind in {"table", "attention"} else 1)
        problem, device = pair.problem(), random_.choice(MACHINES)
        members = tuple(range(len(problem.nodes)))
        found = pair_of(Group(problem, members))
        if found is None:
            continue
        for slicing in slicings(found, divisors(pair.rows), device):
            column = SlicedColumn(found, slicing, SlicedFronts(device, "reuse"))
            if not column.hull():
                continue
            cost = column.decide((1, random_.choice([1, 1000])), halo="reuse", overlap="layer")
            execution = Execution(pair, cost, random_)
            execution.run()
            ran += 1
            assert execution.peak == cost.peak_bytes
            for step in cost.steps:
                key, words = (step.step.node, step.step.part), step.score.words
                assert execution.runs[key] == step.step.multiplicity
                moved = [execution.words[(*key, tensor)] for tensor in ("w", "i", "o")]
                assert moved == [count * step.step.multiplicity for count in (words.w, words.i, words.o)]
    assert ran > 20


# Which groups


@pytest.mark.parametrize(
    ("change", "is_pair"),
    [
        ({}, True),
        ({"repeat": 2}, True),
        ({"repeat": 4}, False),
    ],
)
def test_repetitions_must_not_be_mistaken_for_features(change: dict[str, int], is_pair: bool) -> None:
    problem = replace(Products("attention", 2, 2, 4, 2), **change).problem()
    assert (pair_of(Group(problem, (0, 1, 2))) is not None) == is_pair


def test_a_softmax_over_a_part_of_the_features_is_not_sliced() -> None:
    problem = Products("softmax", 2, 2, 4, 2).problem()
    nodes = (problem.nodes[0], replace(problem.nodes[1], features=2), problem.nodes[2])
    assert pair_of(Group(replace(problem, nodes=nodes), (0, 1, 2))) is None


@pytest.mark.parametrize("type_", ["LayerNormalization", "LogSoftmax"])
def test_what_needs_all_features_is_not_sliced(type_: str) -> None:
    problem = Products("softmax", 2, 2, 4, 2).problem()
    nodes = (problem.nodes[0], replace(problem.nodes[1], type=type_), problem.nodes[2])
    assert pair_of(Group(replace(problem, nodes=nodes), (0, 1, 2))) is None


def test_an_intermediate_that_leaves_is_not_sliced() -> None:
    problem = Products("table", 2, 2, 4, 2).problem()
    nodes = (replace(problem.nodes[0], is_output=True), problem.nodes[1])
    assert pair_of(Group(replace(problem, nodes=nodes), (0, 1))) is None


def test_convolutions_are_not_sliced() -> None:
    pair = Products("table", 2, 2, 4, 2)
    rows = tuple(replace(layer, dims=(*layer.dims[:4], 2, 1, 1), pad_p=0, pad_q=0) for layer in (pair.maker, pair.reader))
    assert pair_of(Group(replace(pair.problem(), nodes=_nodes(Workload("two columns", rows))), (0, 1))) is None


def _nodes(workload: Workload) -> Any:
    from cosma_sched.fusion.reading import chain_problem

    return chain_problem(workload).nodes


# Answers


@pytest.fixture(scope="module")
def bert() -> Graph:
    return load("bert_base")


PAIR = Products("attention", 128, 64, 128, 64, 12)


@pytest.fixture(scope="module")
def good() -> FusionResult:
    result = fuse(PAIR.network, "gemmini_small", modes=["sliced"], vector_ops="charged")
    assert result.groups[0].mode == "sliced"
    return result


MANY = Products("softmax", 64, 32, 4096, 32)


@pytest.fixture(scope="module")
def many() -> FusionResult:
    """An answer with more than two slices."""
    result = fuse(MANY.network, "gemmini_small", modes=["sliced"], vector_ops="charged")
    assert {"first", "middle", "last"} <= {step.part for step in result.groups[0].steps}
    return result


def test_the_attention_of_bert_pays_in_slices(bert: Graph) -> None:
    result = fuse(bert, "gemmini_small", modes=["sliced"], max_group=2)
    assert sum(group.mode == "sliced" for group in result.groups) == 12
    assert result.options["space"].count("modes sliced") == 1
    assert round(result.unfused_edp / result.edp, 4) == 1.0072  # type: ignore[operator]


def test_without_the_mode_nothing_is_sliced() -> None:
    result = fuse(PAIR.network, "gemmini_small", modes=[str(mode) for mode in MODES])
    assert all(group.features is None and "F" not in group.to_json()["tile"] for group in result.groups)


def test_a_group_that_is_given_may_be_sliced() -> None:
    names = [node.name for node in PAIR.problem().nodes]
    result = fuse(PAIR.network, "gemmini_small", modes=["sliced"], groups=[names])
    assert [group.mode for group in result.groups] == ["sliced"]


@pytest.mark.parametrize("overlap", ["layer", "group"])
@pytest.mark.parametrize("kind", KINDS)
def test_sliced_answers_of_every_kind_pass_the_checker(kind: str, overlap: str) -> None:
    pair = Products(kind, 64, 32, 128, 32, 4 if kind in {"table", "attention"} else 1)
    names = [node.name for node in pair.problem().nodes]
    vector_ops = "free" if kind == "table" else "charged"
    result = fuse(pair.network, "gemmini_small", modes=["sliced"], vector_ops=vector_ops, overlap=overlap, groups=[names])
    assert result.verified
    assert result.groups[0].mode == "sliced"
    assert result.ceiling_edp <= result.edp  # type: ignore[operator]


def test_an_answer_survives_its_file(good: FusionResult) -> None:
    document = good.to_json()
    assert document["groups"][0]["tile"].keys() == {"N", "P", "Q", "F"}
    assert FusionResult.from_json(document) == good


def _numbers(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _numbers(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _numbers(inner, (*path, index))
    elif isinstance(value, int) and not isinstance(value, bool):
        yield path


@pytest.mark.parametrize("name", ["good", "many"])
def test_a_number_changed_by_one_anywhere_in_a_group_is_refused(name: str, request: pytest.FixtureRequest) -> None:
    answer, pair = request.getfixturevalue(name), PAIR if name == "good" else MANY
    document = answer.to_json()
    for path in _numbers(document["groups"]):
        changed = copy.deepcopy(document)
        inner = changed["groups"]
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] += 1
        try:
            result = FusionResult.from_json(changed)
        except InputError:
            continue
        known = None if path[-1] == "unfused_dram_words" else answer.unfused_edp
        assert verify(result, pair.network, unfused_edp=known), path


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"features": 96}, "sliced"),
        ({"features": None}, "sliced"),
        ({"row_tile": None}, "sliced"),
        ({"tile": (1, 5, 1)}, "sliced"),
        ({"resident_weights": ("t.scores",)}, "sliced"),
        ({"mode": "cached"}, "sliced"),
        ({"held": ()}, "held"),
    ],
)
def test_each_rule_of_slices_is_checked(good: FusionResult, change: dict[str, Any], rule: str) -> None:
    network = PAIR.network
    groups = (replace(good.groups[0], **change), *good.groups[1:])
    assert rule in {violation.rule for violation in verify(good.replace(groups=groups), network, unfused_edp=good.unfused_edp)}


def test_a_part_of_another_slice_and_another_row_tile_are_refused(good: FusionResult) -> None:
    group, network = good.groups[0], PAIR.network
    other = "resident" if group.row_tile == "streamed" else "streamed"
    steps = (*group.steps[:-1], replace(group.steps[-1], part="middle"))
    for changed in (replace(group, row_tile=other), replace(group, steps=steps), replace(group, steps=group.steps[:-1])):
        found = {violation.rule for violation in verify(good.replace(groups=(changed,)), network, unfused_edp=good.unfused_edp)}
        assert "steps" in found


def test_the_second_product_keeps_its_results_in_the_accumulator(good: FusionResult) -> None:
    group, network = good.groups[0], PAIR.network
    last = group.steps[-1]
    rows, depth = group.tile[1], group.features
    mapping = f"L3[WIO] P{rows} C{depth // 16} - L2[WI] K16X - L1[O] K4 C16X - L0[W]"  # type: ignore[operator]
    changed = replace(group, steps=(*group.steps[:-1], replace(last, mapping=mapping)))
    found = {violation.rule for violation in verify(good.replace(groups=(changed,)), network, unfused_edp=good.unfused_edp)}
    assert "partial sums" in found


def _with_mapping(answer: FusionResult, index: int, mapping: str) -> FusionResult:
    group = answer.groups[0]
    steps = list(group.steps)
    steps[index] = replace(steps[index], mapping=mapping)
    return answer.replace(groups=(replace(group, steps=tuple(steps)), *answer.groups[1:]))


def test_both_products_fit_into_the_accumulator_together(good: FusionResult) -> None:
    rows, features = good.groups[0].tile[1], good.groups[0].features
    assert rows * features // 16 * 64 <= 32768  # type: ignore[operator]
    changed = _with_mapping(good, 0, f"L3[WIO] - L2[WI] K16X - L1[O] K{features // 16} C4 P{rows} C16X - L0[W]")  # type: ignore[operator]
    found = verify(changed, PAIR.network, unfused_edp=good.unfused_edp)
    assert any(violation.rule == "accumulator" and "both products" in violation.message for violation in found)


def test_every_slice_finds_the_results_in_the_same_columns(many: FusionResult) -> None:
    rows, features = many.groups[0].tile[1], many.groups[0].features
    narrow = f"L3[WIO] - L2[WI] K8X - L1[O] K4 C{features // 16} P{rows} C16X - L0[W]"  # type: ignore[operator]
    found = verify(_with_mapping(many, -1, narrow), MANY.network, unfused_edp=many.unfused_edp)
    assert any(violation.rule == "accumulator" and "different columns" in violation.message for violation in found)
