"""The ExecuTorch planner's rules, on specs of our own; nothing of ExecuTorch is needed."""

from __future__ import annotations

import copy
import importlib.util
import logging
import pickle
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from cosma_sched.errors import InputError, MissingError, UsageError, VerificationError
from cosma_sched.integrations import executorch
from cosma_sched.integrations.executorch import ArenaReport, cosma_planner
from cosma_sched.integrations.executorch_check import violations
from tests.integrations.executorch_stand_in import (
    MemoryAlgoResult,
    SpecAllocResult,
    StandInSpec,
    faults,
    graph,
    greedy,
    random_program,
    stand_in_modules,
)


@pytest.fixture(autouse=True)
def _stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, module in stand_in_modules().items():
        monkeypatch.setitem(sys.modules, name, module)


def chain_of_layers() -> list[StandInSpec]:
    """Each lives into the next one's life: a load of 192 in place of 384 bytes."""
    return [StandInSpec(64 * size, node, node + 1) for node, size in enumerate((1, 2, 1, 1, 1))]


def planned(specs: list[StandInSpec], module: Any = None, alignment: int = 16, padding: int = 0, **options: Any) -> tuple[Any, ArenaReport]:
    reports: list[ArenaReport] = []
    module = graph() if module is None else module
    answer = cosma_planner(observers=[reports.append], **options)(alignment, specs, module, None, padding)
    assert not faults(specs, alignment, getattr(module, "input_mem_buffer_sizes", []), padding, answer)
    (report,) = reports
    return answer, report


# What is planned


def test_the_arena_is_as_small_as_the_load_and_that_is_proven() -> None:
    answer, report = planned(chain_of_layers())
    assert answer.bufsizes == [0, 192]
    assert (report.arena_bytes, report.fallback_bytes, report.load_bytes, report.bound_bytes) == (192, 384, 192, 192)
    assert report.is_optimal
    assert report.tensors == 5


def test_lifetimes_include_both_ends() -> None:
    answer, _ = planned([StandInSpec(16, 0, 2), StandInSpec(16, 2, 3)])
    assert answer.bufsizes == [0, 32]
    answer, _ = planned([StandInSpec(16, 0, 2), StandInSpec(16, 3, 3)])
    assert answer.bufsizes == [0, 16]


def test_sizes_are_read_after_realigning() -> None:
    specs = [StandInSpec(70, 0, 1), StandInSpec(10, 1, 2)]
    answer, _ = planned(specs, alignment=64)
    assert answer.bufsizes == [0, 192]
    assert all(place.mem_offset % 64 == 0 for place in answer.spec_dict.values())


def test_a_spec_without_a_pool_lies_in_pool_1_and_other_pools_are_packed_apart() -> None:
    specs = [StandInSpec(16, 0, 1), StandInSpec(32, 0, 1, mem_id=3), StandInSpec(32, 2, 3, mem_id=3), StandInSpec(16, 2, 3, mem_id=1)]
    answer, report = planned(specs)
    assert [answer.spec_dict[spec].mem_id for spec in specs] == [1, 3, 3, 1]
    assert answer.bufsizes == [0, 16, 0, 32]
    assert [pool.number for pool in report.pools] == [1, 3]


def test_a_spec_with_a_storage_base_lies_inside_it_through_any_number_of_steps() -> None:
    base = StandInSpec(64, 0, 5, mem_id=2)
    inside = StandInSpec(48, 1, 4, storage_base=base, storage_base_offset=16)
    innermost = StandInSpec(16, 2, 3, storage_base=inside, storage_base_offset=32)
    other = StandInSpec(32, 0, 1, mem_id=2)
    answer, _ = planned([innermost, other, inside, base])
    below = answer.spec_dict[base].mem_offset
    assert [answer.spec_dict[spec].mem_offset - below for spec in (inside, innermost)] == [16, 48]
    assert {place.mem_id for place in answer.spec_dict.values()} == {2}
    assert answer.bufsizes == [0, 0, 96]


def test_a_block_lives_as_long_as_anything_inside_it() -> None:
    base = StandInSpec(16, 0, 1)
    late = StandInSpec(16, 3, 5, storage_base=base)
    answer, _ = planned([base, late, StandInSpec(16, 4, 6)])
    assert answer.bufsizes == [0, 32]


def test_the_bytes_of_submodules_stay_free() -> None:
    answer, report = planned(chain_of_layers(), graph(starts=[0, 80]))
    assert answer.bufsizes == [0, 272]
    assert min(place.mem_offset for place in answer.spec_dict.values()) == 80
    assert report.load_bytes == 272
    assert report.is_optimal


def test_a_start_off_the_alignment_is_rounded_up() -> None:
    answer, report = planned(chain_of_layers(), graph(starts=[0, 72]), alignment=64)
    assert answer.bufsizes == [0, 128 + 192]
    assert report.fallback_bytes is None  # the stand-in puts tensors off the alignment here, and is not believed


def test_a_pool_that_only_submodules_use_keeps_its_bytes() -> None:
    """ExecuTorch's greedy drops them: the program then has an arena of 0 bytes for them."""
    assert planned([], graph(starts=[0, 80, 48]))[0].bufsizes == [0, 80, 48]
    assert planned(chain_of_layers(), graph(starts=[0, 0, 48]))[0].bufsizes == [0, 192, 48]


def test_padding_is_added_above_each_pool() -> None:
    answer, report = planned([*chain_of_layers(), StandInSpec(16, 0, 1, mem_id=2)], padding=64)
    assert answer.bufsizes == [0, 256, 80]
    assert report.is_optimal


def test_no_specs_are_an_empty_arena() -> None:
    answer, report = planned([])
    assert (answer.spec_dict, answer.bufsizes) == ({}, [0, 0])
    assert report.is_optimal


def test_tensors_without_bytes_have_a_place_too() -> None:
    answer, _ = planned([StandInSpec(0, 0, 9), StandInSpec(32, 0, 9), StandInSpec(0, 3, 4)])
    assert answer.bufsizes == [0, 32]


def test_tensors_that_share_bytes_share_the_object() -> None:
    answer, _ = planned(chain_of_layers())
    places = sorted(((place.mem_offset, spec.allocated_memory, place.mem_obj_id) for spec, place in answer.spec_dict.items()))
    for (offset, size, number), (above, _, other) in pairwise(places):
        assert above >= offset + size or number == other


@pytest.mark.parametrize("seed", range(150))
def test_random_programs_are_planned_by_the_rules_and_never_larger_than_the_fallback(seed: int) -> None:
    specs, alignment, starts, padding = random_program(seed)
    answer, report = planned(specs, graph(starts=starts), alignment, padding)
    assert report.load_bytes <= report.bound_bytes <= report.arena_bytes
    fallback = greedy(alignment, specs, graph(starts=starts), None, padding)
    if report.fallback_bytes is not None:
        assert all(ours <= theirs for ours, theirs in zip(answer.bufsizes, fallback.bufsizes, strict=False))
        assert report.arena_bytes <= report.fallback_bytes == sum(fallback.bufsizes)
    assert not violations(alignment, specs, graph(starts=starts), padding, answer)


# The fallback


def test_without_time_the_fallback_is_the_answer() -> None:
    answer, report = planned(chain_of_layers(), time_limit=0)
    assert answer.bufsizes == [0, 384]
    assert not report.is_optimal
    assert "not proven, no plan needs less than 192" in str(report)


@pytest.mark.parametrize("time_limit", [0, None])
def test_the_planner_works_without_a_fallback(time_limit: float | None) -> None:
    _, report = planned(chain_of_layers(), fallback=None, time_limit=time_limit)
    assert report.fallback_bytes is None
    assert report.load_bytes == 192


def test_a_fallback_that_cannot_be_beaten_is_kept() -> None:
    specs = [StandInSpec(16, 0, 1), StandInSpec(32, 0, 1)]

    def upside_down(*arguments: Any) -> Any:
        answer = greedy(*arguments)
        answer.spec_dict[specs[0]].mem_offset, answer.spec_dict[specs[1]].mem_offset = 32, 0
        return answer

    answer, _ = planned(specs, fallback=upside_down)
    assert [answer.spec_dict[spec].mem_offset for spec in specs] == [32, 0]


def test_a_fallback_that_breaks_a_rule_is_not_used(caplog: pytest.LogCaptureFixture) -> None:
    def careless(alignment: int, specs: Any, *rest: Any) -> Any:
        return MemoryAlgoResult({spec: SpecAllocResult(1, 0, 0) for spec in specs}, [0, 128])

    answer, report = planned(chain_of_layers(), fallback=careless)
    assert answer.bufsizes == [0, 192]
    assert report.fallback_bytes is None
    assert "two tensors collide" in caplog.text


def colliding(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """Let the packing engine return something that is not a packing, or a bound that is none."""
    right = executorch.least_height

    def wrong(buffers: Any, **options: Any) -> Any:
        return replace(right(buffers, **options), **(changes or {"offsets": (0,) * len(buffers)}))

    monkeypatch.setattr(executorch, "least_height", wrong)


@pytest.mark.parametrize("changes", [{}, {"bound_bytes": 193}, {"bound_bytes": 191}])
def test_a_plan_that_breaks_a_rule_gives_way_to_the_fallback(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    colliding(monkeypatch, **changes)
    answer, report = planned(chain_of_layers())
    assert answer.bufsizes == [0, 384]
    assert not report.is_optimal
    assert "a bug in cosma-sched" in caplog.text


def test_a_plan_that_breaks_a_rule_is_never_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    colliding(monkeypatch)
    with pytest.raises(VerificationError, match="two tensors collide"):
        planned(chain_of_layers(), fallback=None)


def test_an_engine_that_finds_itself_wrong_gives_way_to_the_fallback(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise VerificationError(["packing: buffer 0"])

    monkeypatch.setattr(executorch, "least_height", refuse)
    assert planned(chain_of_layers())[0].bufsizes == [0, 384]
    assert "a bug in cosma-sched" in caplog.text
    with pytest.raises(VerificationError):
        planned(chain_of_layers(), fallback=None)


# What is refused


def test_all_that_cannot_be_placed_is_named_at_once() -> None:
    base, missing = StandInSpec(32, 0, 9), StandInSpec(32, 0, 9)
    circle = StandInSpec(16, 0, 1)
    circle.storage_base = circle
    named = {
        "unborn": StandInSpec(16, None, None),
        "backwards": StandInSpec(16, 4, 2),
        "constant": StandInSpec(16, 0, 1, mem_id=0),
        "orphan": StandInSpec(16, 0, 1, storage_base=missing),
        "circle": circle,
        "crooked": StandInSpec(16, 0, 1, storage_base=base, storage_base_offset=8),
        "outside": StandInSpec(32, 0, 1, storage_base=base, storage_base_offset=16),
    }
    with pytest.raises(InputError) as caught:
        planned([base, *named.values()], graph(*named.items()), fallback=None)
    assert str(caught.value).splitlines() == [
        'executorch program: tensor "unborn": has no lifetime; plan after update_all_tensors_lifetime',
        'executorch program: tensor "backwards": lifetime must not end before it starts, got [4, 2]',
        'executorch program: tensor "constant": mem_id must be >= 1, got 0',
        'executorch program: tensor "orphan": is backed by a tensor that is not planned here',
        'executorch program: tensor "circle": is backed by itself',
        'executorch program: tensor "crooked": storage_base_offset must be a multiple of the alignment 16 and >= 0, got 8',
        'executorch program: tensor "outside": 32 bytes at 16 leave the 32 bytes of what backs it',
    ]


def test_two_tensors_inside_a_third_must_not_hold_the_same_bytes_at_one_time() -> None:
    base = StandInSpec(64, 0, 9)
    left = StandInSpec(32, 1, 4, storage_base=base)
    right = StandInSpec(32, 4, 6, storage_base=base, storage_base_offset=16)
    with pytest.raises(InputError, match=r'"right": holds bytes of tensor "base" at the same time as tensor "left"'):
        planned([base, left, right], graph(("base", base), ("left", [left]), ("right", (None, right))))
    right.lifetime = [5, 6]
    assert planned([base, left, right])[0].bufsizes == [0, 64]


@pytest.mark.parametrize("options", [{"time_limit": -1}, {"time_limit": float("nan")}, {"fallback": "best"}])
def test_an_option_that_means_nothing_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(options))):
        cosma_planner(**options)


@pytest.mark.parametrize("name", ["executorch", "executorch.exir.memory_planning"])
def test_without_executorch_the_message_says_what_to_install(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingError, match=r'pip install "cosma-sched\[executorch\]"'):
        cosma_planner()


# How it is seen from outside


def test_the_suite_finds_a_name() -> None:
    assert cosma_planner().__name__ == "cosma_planner"


def test_a_planner_can_be_copied_and_pickled() -> None:
    planner = cosma_planner(time_limit=3, fallback=None)
    assert copy.deepcopy(planner) == planner == pickle.loads(pickle.dumps(planner))


def test_every_graph_leaves_one_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="cosma_sched")
    planned(chain_of_layers())
    (line,) = caplog.messages
    assert line.startswith("executorch: 5 tensors, arena 192 bytes (greedy 384), load bound 192, proven optimal, ")


def test_the_same_specs_get_the_same_plan() -> None:
    specs, alignment, starts, padding = random_program(7)
    first, second = (planned(specs, graph(starts=starts), alignment, padding)[0] for _ in range(2))
    assert first == second


# The checker


def broken(change: str) -> list[str]:
    """Break a plan that holds, in one way; return what the checker says."""
    base, other = StandInSpec(64, 0, 3), StandInSpec(32, 2, 5)
    inside = StandInSpec(16, 1, 2, storage_base=base, storage_base_offset=16)
    later = StandInSpec(32, 6, 7)
    specs, module = [base, other, inside, later], graph(starts=[0, 32, 16])
    answer = cosma_planner()(16, specs, module, None, 8)
    assert not violations(16, specs, module, 8, answer)
    place = answer.spec_dict
    changes: dict[str, Any] = {
        "left out": lambda: place.pop(other),
        "crooked": lambda: setattr(place[later], "mem_offset", place[later].mem_offset + 8),
        "negative": lambda: setattr(place[later], "mem_offset", -16),
        "no such pool": lambda: setattr(place[later], "mem_id", 7),
        "other pool": lambda: setattr(place[later], "mem_id", 2),
        "too high": lambda: answer.bufsizes.__setitem__(1, answer.bufsizes[1] - 4),
        "into the submodules": lambda: setattr(place[later], "mem_offset", 16),
        "submodules cut": lambda: answer.bufsizes.__setitem__(2, 8),
        "submodules dropped": answer.bufsizes.pop,
        "alias elsewhere": lambda: setattr(place[inside], "mem_offset", place[inside].mem_offset + 16),
        "alias too large": lambda: setattr(inside, "nbytes", 64),
        "base left out": lambda: setattr(inside, "storage_base", StandInSpec(64, 0, 3)),
        "collision": lambda: setattr(other, "lifetime", [2, 6]) or setattr(place[later], "mem_offset", place[other].mem_offset),
        "objects": lambda: setattr(place[inside], "mem_obj_id", 99),
    }
    changes[change]()
    return violations(16, specs, module, 8, answer)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ("left out", "1 of 4 tensors have no place"),
        ("crooked", "off the alignment"),
        ("negative", "does not exist"),
        ("no such pool", "does not exist"),
        ("other pool", "asked for pool None, lies in 2"),
        ("too high", "with 8 of padding"),
        ("into the submodules", "lies in the submodules' 32 bytes"),
        ("submodules cut", "do not hold the 16 bytes"),
        ("submodules dropped", "pool 2: 0 bytes do not hold the 16 bytes"),
        ("alias elsewhere", "not at 16 in what backs it"),
        ("alias too large", "leaves what backs it"),
        ("base left out", "what backs it has no place"),
        ("collision", "two tensors collide"),
        ("objects", "two objects share bytes"),
    ],
)
def test_a_broken_plan_is_told_by_its_rule(change: str, rule: str) -> None:
    assert any(rule in violation for violation in broken(change))


# The example


def test_the_example_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], checkout: Path) -> None:
    monkeypatch.setitem(sys.modules, "executorch", None)
    place = importlib.util.spec_from_file_location("executorch_planner", checkout / "examples" / "executorch_planner.py")
    assert place is not None
    assert place.loader is not None
    example = importlib.util.module_from_spec(place)
    place.loader.exec_module(example)
    assert example.main(["resnet50"]) == 6
    assert 'pip install "cosma-sched[executorch]"' in capsys.readouterr().err
