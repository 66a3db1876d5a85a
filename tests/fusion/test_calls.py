"""`fuse` as a call: options, what they change and what they must not change, and the networks of the design."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

import cosma_sched as cs
from cosma_sched.accelerator import load_accelerator
from cosma_sched.errors import InputError, UsageError
from cosma_sched.fusion.answer import FusionResult
from cosma_sched.fusion.calls import fuse, fusion_ceiling, problem_of
from cosma_sched.fusion.exact import ExactOptions, ExactSearch
from cosma_sched.fusion.pricing import TileSpace
from cosma_sched.fusion.reading import fusion_problem
from cosma_sched.graph import Graph, Operator, Tensor
from cosma_sched.mapping.calls import map_layers
from cosma_sched.mapping.cost import machine_of
from cosma_sched.mapping.layer import Layer, Workload
from cosma_sched.progress import Clock, Progress
from cosma_sched.result import Status, Termination


def chain(*layers: tuple[int, ...], name: str = "net") -> Workload:
    """Rows (K, C, P = Q, R = S, stride), each reading the one before."""
    rows = []
    for index, (k, c, p, r, stride) in enumerate(layers):
        pad = (r - 1) // 2
        rows.append(Layer(f"l{index}", (1, k, c, p, p, r, r), stride_p=stride, stride_q=stride, pad_p=pad, pad_q=pad))
    return Workload(name, tuple(rows))


SMALL = chain((16, 16, 16, 3, 1), (16, 16, 16, 3, 1), (32, 16, 8, 3, 2))


def residual() -> Graph:
    """Two convolutions with a sum around them, then a pool and a product."""
    shapes = {"x": (1, 16, 16, 16), "a": (1, 16, 16, 16), "b": (1, 16, 16, 16), "s": (1, 16, 16, 16), "m": (1, 16, 8, 8), "y": (1, 8, 8, 8)}
    kinds = {"x": "input", "y": "output"}
    tensors = [Tensor(name, cells(shape), kinds.get(name, "activation"), shape, "int8") for name, shape in shapes.items()]
    weights = {"wa": (16, 16, 3, 3), "wb": (16, 16, 3, 3), "wy": (8, 16, 1, 1)}
    tensors += [Tensor(name, cells(shape), "parameter", shape, "int8") for name, shape in weights.items()]
    same = {"pads": [1, 1, 1, 1], "strides": [1, 1]}
    return Graph(
        tensors,
        [
            Operator("a", "Conv", ("x", "wa"), ("a",), same),
            Operator("b", "Conv", ("a", "wb"), ("b",), same),
            Operator("add", "Add", ("b", "x"), ("s",)),
            Operator("pool", "MaxPool", ("s",), ("m",), {"kernel_shape": [2, 2], "strides": [2, 2]}),
            Operator("y", "Conv", ("m", "wy"), ("y",), {"pads": [0, 0, 0, 0], "strides": [1, 1]}),
        ],
        "residual",
    )


def cells(shape: tuple[int, ...]) -> int:
    size = 1
    for extent in shape:
        size *= extent
    return size


def test_an_answer_is_optimal_verified_and_reads_back_equal() -> None:
    result = fuse(SMALL, "gemmini_small")
    assert (result.status, result.verified, result.gap) == (Status.OPTIMAL, True, 0.0)
    assert FusionResult.from_json(json.loads(json.dumps(result.to_json()))) == result
    assert [name for group in result.groups for name in group.layers] == ["l0", "l1", "l2"]


def test_unfused_is_what_map_proves() -> None:
    mapped = map_layers(SMALL, "gemmini_small")
    result = fuse(SMALL, "gemmini_small")
    assert (result.unfused_energy_pj, result.unfused_latency_cycles) == (mapped.energy_pj, mapped.latency_cycles)


@pytest.mark.parametrize("vector_ops", ["free", "charged"])
def test_the_order_of_ceiling_bound_fused_and_unfused(vector_ops: str) -> None:
    result = fuse(residual(), "gemmini_small", vector_ops=vector_ops)
    values = (result.ceiling_edp, result.bounds.edp, result.edp, result.unfused_edp)
    assert all(one is not None and other is not None and one <= other for one, other in itertools.pairwise(values))
    mapped = map_layers(residual(), "gemmini_small", vector_ops=vector_ops)
    assert result.unfused_edp == mapped.edp


@pytest.mark.parametrize("modes", [("recompute",), ("h-cached",), ("cached",), ("recompute", "h-cached", "cached")])
def test_pruning_changes_no_answer(modes: tuple[str, ...]) -> None:
    quick, full = (fuse(residual(), "gemmini_small", modes=modes, prune=prune) for prune in (True, False))
    assert (quick.energy_pj, quick.latency_cycles, quick.bounds) == (full.energy_pj, full.latency_cycles, full.bounds)


def test_a_larger_space_is_never_worse() -> None:
    narrow = load_accelerator("gemmini_small")
    by_tiles = [fuse(SMALL, narrow, tiles=tiles).edp or 0 for tiles in ("all", "strips")]
    by_size = [fuse(SMALL, narrow, max_group=size, tiles="strips").edp or 0 for size in (3, 2, 1)]
    assert by_tiles == sorted(by_tiles)
    assert by_size == sorted(by_size)


@pytest.mark.parametrize("objective", ["energy", "latency"])
def test_other_objectives_are_proven_too(objective: str) -> None:
    result = fuse(SMALL, "gemmini_small", objective=objective)
    assert result.status == Status.OPTIMAL
    assert result.value == result.bound


def test_the_declared_space_is_printed(tmp_path: Path) -> None:
    path = tmp_path / "tiles.json"
    path.write_text('{"rows": [4, 8], "columns": [8]}')
    assert "rows 4, 8 and columns 8" in fuse(SMALL, "gemmini_small", tiles=str(path)).options["space"]
    assert "at most 2 layers; tiles of whole rows" in fuse(SMALL, "gemmini_small", tiles="strips", max_group=2).options["space"]


def test_given_groups_are_kept_and_the_rest_runs_alone() -> None:
    result = fuse(SMALL, "gemmini_small", groups=[["l0", "l1"]])
    assert [group.layers for group in result.groups] == [("l0", "l1"), ("l2",)]
    assert "groups that were given" in result.options["space"]


def test_a_given_group_that_cannot_be_tiled_says_which_step_needs_how_much() -> None:
    wide = Workload("wide", tuple(Layer(f"l{i}", (1, 4096, 4096, 64, 64, 3, 3), pad_p=1, pad_q=1) for i in range(2)))
    result = fuse(wide, "gemmini_small", groups=[["l0", "l1"]], modes=["cached"], tiles="strips")
    assert (result.status, result.termination) == (Status.INFEASIBLE, Termination.PROVED)
    assert (result.reasons[0].rule, result.reasons[0].limit) == ("group-fits", 131072)
    assert '"l' in result.reasons[0].statement
    assert (result.reasons[0].short or 0) > 0


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ([["a", "nowhere"]], "no layer or vector operator"),
        ([["a", "b"], ["b", "y"]], "stands in groups[0] too"),
        ([["a", "pool"]], "leaves and re-enters through b"),
        ([["a"], ["b", "y"]], "leaves and re-enters through pool"),
    ],
)
def test_what_is_no_group_is_named(groups: list[list[str]], words: str) -> None:
    with pytest.raises(InputError) as caught:
        fuse(residual(), "gemmini_small", groups=groups)
    assert words in str(caught.value)


@pytest.mark.parametrize("option", [{"objective": "power"}, {"overlap": "all"}, {"modes": ["cache"]}, {"max_group": 0}, {"halo": "none"}])
def test_an_unknown_value_is_a_usage_error(option: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        fuse(SMALL, "gemmini_small", **option)  # type: ignore[arg-type]


def test_a_spent_clock_leaves_a_valid_answer_with_a_true_bound() -> None:
    search = fuse(SMALL, "gemmini_small")
    hurried = fuse(SMALL, "gemmini_small", time_limit=0.0)
    assert hurried.termination == Termination.TIME_LIMIT
    assert hurried.bound is not None
    assert search.edp is not None
    assert hurried.bound <= search.edp <= (hurried.edp or 0)


def test_given_groups_that_time_did_not_suffice_for_are_unknown() -> None:
    result = fuse(SMALL, "gemmini_small", groups=[["l0", "l1"]], time_limit=0.0)
    assert (result.status, result.termination, result.groups) == (Status.UNKNOWN, Termination.TIME_LIMIT, ())


def test_an_interrupt_keeps_what_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cosma_sched.fusion.exact.ExactSearch._price", interrupt)
    result = fuse(SMALL, "gemmini_small")
    assert (result.status, result.termination, result.edp) == (Status.FEASIBLE, Termination.INTERRUPTED, result.unfused_edp)


def test_overlap_of_a_group_is_never_slower_and_claims_no_false_proof() -> None:
    layer, group = (fuse(SMALL, "gemmini_small", overlap=overlap) for overlap in ("layer", "group"))
    assert (group.edp or 0) <= (layer.edp or 0)
    assert (group.bound or 0) <= (group.edp or 0)


def test_rows_of_a_table_that_do_not_fit_together_are_barriers() -> None:
    rows = chain((16, 16, 32, 3, 1), (16, 24, 32, 3, 1))
    result = fuse(rows, "gemmini_small")
    assert "16 words at each position, the other reads 24" in result.barriers[0]
    assert "chain" in result.remarks[0]


def test_rows_without_a_chain_are_not_fused() -> None:
    result = fuse(SMALL, "gemmini_small", chain=False)
    assert all(len(group.layers) == 1 for group in result.groups)


def test_a_free_operator_at_the_border_of_a_group_carries_its_words() -> None:
    """A pool that is free alone may not take a convolution's result to DRAM for nothing."""
    problem = fusion_problem(residual())
    machine = machine_of(load_accelerator("gemmini_small"))
    fixed = ((0,), (1, 2), (3,))
    options = ExactOptions(TileSpace("strips"), fixed=fixed)
    search = ExactSearch(problem, machine, options, Progress(Clock(None)))
    found = search.run()
    best = found.fused.best("edp")
    cost = next(
        search.decide(found.options[o], found.prices[o], place, halo="parity", overlap="layer")
        for o, place in best.choice
        if found.options[o].members == (1, 2)
    )
    pool = [step for step in cost.steps if step.step.problem is None]
    assert sum(step.score.words.i * step.step.multiplicity for step in pool) == 16 * 8 * 8


@pytest.mark.parametrize(
    ("model", "accelerator", "ratio"),
    [
        ("resnet18", "gemmini_small", 1.126),
        ("resnet18", "gemmini", 1.101),
        ("resnet18", "gemmini_large", 1.126),
        ("fsrcnn", "gemmini_small", 2.118),
        ("fsrcnn", "gemmini", 1.975),
        ("fsrcnn", "gemmini_large", 1.979),
    ],
)
def test_the_ceiling_is_that_of_the_design(model: str, accelerator: str, ratio: float) -> None:
    unfused = {
        "resnet18": {"gemmini_small": (4762519226, 9146845), "gemmini": (5215469070, 9146845), "gemmini_large": (5105094387, 3670221)},
        "fsrcnn": {"gemmini_small": (35651482393, 97977768), "gemmini": (38341295302, 97977768), "gemmini_large": (41498736372, 62726568)},
    }[model][accelerator]
    assert round(unfused[0] * unfused[1] / fusion_ceiling(cs.load(model), accelerator).edp, 3) == ratio


def test_resnet18_gains_more_than_the_reference() -> None:
    result = fuse(cs.load("resnet18"), "gemmini_small", tiles="strips", max_group=2)
    assert (result.unfused_energy_pj, result.unfused_latency_cycles) == (4762519226, 9146845)
    assert result.status == Status.OPTIMAL
    assert result.unfused_edp is not None
    assert result.edp is not None
    assert result.unfused_edp / result.edp >= 1.0202


def test_every_zoo_network_reads_in_topological_order() -> None:
    for model in ("resnet18", "mobilenet_v2", "bert_base", "unet_572", "nasnet_a", "gpt3_6_7b_decode"):
        problem = problem_of(cs.load(model), charged=True, skip_unsupported=True)
        assert all(producer < index for index, node in enumerate(problem.nodes) for producer in node.producers)
