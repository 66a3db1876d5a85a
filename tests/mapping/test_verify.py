"""The checker: for each rule one answer that breaks it, and only what is wrong is called wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosma_sched.mapping.answer import LayerMapping, MappingResult, NetworkBounds
from cosma_sched.mapping.calls import map_layers, verify_mapping
from cosma_sched.mapping.scoring import Words
from cosma_sched.mapping.verify import exact_cost, verify
from cosma_sched.result import Status
from tests.mapping.cases import SMALL, nests_of, small_layers
from tests.mapping.test_planner import NET


@pytest.fixture(scope="module")
def good() -> MappingResult:
    return map_layers(NET, "gemmini_small")


def with_first(result: MappingResult, **changes: Any) -> MappingResult:
    """Return a result whose first layer says something else."""
    first = replace(result.layers[0], **changes)
    return result.replace(layers=(first, *result.layers[1:]))


def rules(result: MappingResult) -> set[str]:
    return {violation.rule for violation in verify(result)}


def test_a_good_answer_breaks_nothing(good: MappingResult) -> None:
    assert verify(good) == []
    assert verify_mapping(good, NET) == []


def other(mapping: str, before: str, after: str) -> str:
    assert before in mapping
    return mapping.replace(before, after, 1)


def test_a_factor_edited_by_hand_is_named_with_its_layer(good: MappingResult) -> None:
    mapping = good.layers[0].mapping
    [violation] = verify(with_first(good, mapping=other(mapping, "S3", "S2")))
    assert str(violation) == 'product: layer "a": the factors of S multiply to 2, the layer has S=3'


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"mapping": "L3[WIO]"}, "mapping"),
        ({"energy_pj": 1}, "energy"),
        ({"latency_cycles": 1}, "latency"),
        ({"words": Words(1, 2, 3, 4)}, "words"),
        ({"roof": "register"}, "roof"),
        ({"split_pj": (1, 2, 3, 4, 5)}, "split_pj"),
        ({"scratchpad_bytes": 5}, "scratchpad_bytes"),
        ({"accumulator_bytes": 5}, "accumulator_bytes"),
        ({"utilization": 0.5}, "utilization"),
    ],
)
def test_each_statement_about_a_layer_is_checked(good: MappingResult, changes: dict, rule: str) -> None:
    assert rule in rules(with_first(good, **changes))


def test_capacity_and_array_are_checked(good: MappingResult) -> None:
    whole = "L3[WIO] - L2[WI] K16X - L1[O] S3 R3 Q16 P16 C3X - L0[W]"
    tight = good.replace(accelerator=_with_sizes(good, scratchpad=512, accumulator=1024))
    assert {"scratchpad", "accumulator"} <= rules(with_first(tight, mapping=whole))
    assert "array" in rules(with_first(good, mapping=other(whole, "K16X", "K32X")))


def _with_sizes(result: MappingResult, *, scratchpad: int, accumulator: int) -> Any:
    core = result.accelerator.core
    levels = list(core.levels)
    levels[1], levels[2] = replace(levels[1], size_bytes=accumulator), replace(levels[2], size_bytes=scratchpad)
    return replace(result.accelerator, cores=(replace(core, levels=tuple(levels)),))


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"energy_pj": 1}, "total"),
        ({"latency_cycles": 1}, "total"),
        ({"edp": 1}, "edp"),
        ({"gap": 0.5}, "gap"),
        ({"status": Status.FEASIBLE}, "status"),
        ({"bounds": NetworkBounds(edp=1)}, "status"),
        ({"bounds": NetworkBounds(energy_pj=10**18)}, "bound"),
        ({"status": Status.INFEASIBLE}, "status"),
    ],
)
def test_each_statement_about_the_network_is_checked(good: MappingResult, changes: dict, rule: str) -> None:
    assert rule in rules(good.replace(**changes))


def test_charges_of_vector_operators_are_checked() -> None:
    import cosma_sched as cs

    charged = map_layers(cs.load("resnet18"), "gemmini_small", vector_ops="charged")
    assert verify(charged) == []
    first = next(vector for vector in charged.vector_operators if vector.folded_into is None)
    cheaper = [replace(vector, energy_pj=0) if vector is first else vector for vector in charged.vector_operators]
    assert {"vector", "total"} <= rules(charged.replace(vector_operators=tuple(cheaper)))
    folded = next(vector for vector in charged.vector_operators if vector.folded_into is not None)
    forgotten = tuple(vector for vector in charged.vector_operators if vector is not folded)
    assert "drain" in rules(charged.replace(vector_operators=forgotten))


def test_the_layers_are_those_of_the_network(good: MappingResult) -> None:
    changed = replace(NET, layers=(replace(NET.layers[0], stride_p=1), *NET.layers[1:]))
    [violation] = verify_mapping(good, changed)
    assert (violation.rule, violation.layer) == ("network", "a")
    [violation] = verify_mapping(good, replace(NET, layers=NET.layers[:2]))
    assert "has 4 layers, the model has 2" in violation.message


def test_an_energy_that_floating_point_and_fractions_agree_on_is_accepted(good: MappingResult) -> None:
    entry = good.layers[0]
    assert isinstance(entry, LayerMapping)
    assert "energy" in rules(with_first(good, energy_pj=entry.energy_pj + 1))


@given(st.data())
@settings(max_examples=60)
def test_exact_arithmetic_and_the_model_agree(data: st.DataObject) -> None:
    from cosma_sched.mapping.scoring import score

    mapped = data.draw(small_layers())
    nest = data.draw(nests_of(mapped))
    found = score(mapped, nest, SMALL)
    energy, cycles = exact_cost(mapped, nest, SMALL, found)
    assert cycles == found.latency_cycles
    assert abs(energy - found.energy_pj) <= 0.5 + 1e-6
