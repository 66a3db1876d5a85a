"""`cs.pack`: from every source of lifetimes to a checked answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import cosma_sched as cs
from cosma_sched.graph import Buffer, BufferGap, Graph
from cosma_sched.memory.buffers import RESERVED, buffers_of_graph, buffers_of_plan
from tests.conftest import CHECKOUT, read_toy
from tests.memory.packing_reference import faults, pinch

LIFETIMES = CHECKOUT / "examples" / "pinch.csv"


def test_the_csv_of_pinch_has_the_lifetimes_of_its_graph() -> None:
    result = cs.pack(LIFETIMES, capacity=13, workers=1)
    assert result.buffers == buffers_of_graph(read_toy("pinch")) == tuple(pinch())
    assert not faults(list(result.buffers), result.offsets or (), 13)


def test_a_capacity_may_be_written_as_a_size() -> None:
    assert cs.pack([Buffer("a", 0, 1, 1024)], capacity="1KiB").height_bytes == 1024


def test_the_least_height_needs_no_capacity() -> None:
    result = cs.pack(pinch(), minimize=True, workers=1)
    assert (result.status, result.height_bytes, result.bound_bytes, result.gap, result.capacity_bytes) == ("optimal", 13, 13, 0, None)


def test_the_least_height_within_too_small_a_capacity_is_infeasible() -> None:
    assert cs.pack(pinch(), capacity=12, minimize=True, workers=1).status == "infeasible"


def test_without_capacity_and_minimize_nothing_is_asked() -> None:
    with pytest.raises(cs.UsageError, match="capacity"):
        cs.pack(pinch())


def test_an_alignment_for_all_joins_each_own() -> None:
    result = cs.pack([Buffer("a", 0, 2, 5, alignment=4), Buffer("b", 0, 2, 5), Buffer("c", 0, 2, 5)], capacity=40, align=6, workers=1)
    assert all(offset % 6 == 0 for offset in result.offsets or ())
    assert (result.offset_of("a") or 0) % 12 == 0
    assert [buffer.alignment for buffer in result.buffers] == [12, 6, 6]


def test_one_worker_and_a_seed_repeat_exactly() -> None:
    first, second = (cs.pack(pinch(), capacity=13, workers=1, seed=3).to_json() for _ in range(2))
    first.pop("seconds"), second.pop("seconds")
    assert first == second


def test_every_mistake_of_buffers_built_in_python_is_said_at_once() -> None:
    buffers = [
        Buffer("a", 0, 4, 4, offset=4),
        Buffer("a", 5, 6, 4),
        Buffer("b", 2, 5, 4, offset=6),
        Buffer("c", 0, 1, 4, offset=10),
    ]
    with pytest.raises(cs.InputError) as caught:
        cs.pack(buffers, capacity=12, align=2)
    found = [str(defect) for defect in caught.value.defects]
    assert found == [
        'buffer "a": stands twice; names must be unique',
        'buffer "c": offset: pins "c" to bytes 10 to 14, above the capacity 12',
        'buffer "b": offset: pins "b" onto "a" at time 2',
    ]


def test_a_pin_off_the_alignment_for_all_is_refused() -> None:
    with pytest.raises(cs.InputError, match="multiple of the alignment 4"):
        cs.pack([Buffer("a", 0, 4, 4, offset=2)], capacity=12, align=4)


def test_the_stays_of_a_plan_are_packed_under_its_rules(small: Graph) -> None:
    plan = cs.plan_memory(small, scratchpad="M_P", align=4, reserve=10, pins={"b": 12}, workers=1)
    buffers = buffers_of_plan(plan)
    assert buffers[0] == Buffer(RESERVED, 0, 3, 10, offset=0)
    assert {buffer.alignment for buffer in buffers[1:]} == {4}
    result = cs.pack(plan, minimize=True, workers=1)
    assert result.offset_of("b") == 12
    assert cs.verify(plan, result) == []


def test_a_tensor_that_comes_back_is_two_buffers() -> None:
    plan = cs.plan_memory(read_toy("pinch"), scratchpad=12, workers=1)
    names = [buffer.name for buffer in buffers_of_plan(plan)]
    assert len(names) == len(set(names)) == len(plan.residency or ())
    assert any("@" in name for name in names)
    assert cs.pack(plan, capacity=12, workers=1).status in {"optimal", "feasible"}


def test_a_plan_without_an_answer_has_nothing_to_pack(tmp_path: Path) -> None:
    plan = cs.plan_memory(read_toy("stuck"), scratchpad=12, workers=1)
    plan.save(tmp_path / "plan.json")
    for source in (plan, tmp_path / "plan.json"):
        with pytest.raises(cs.InputError, match="no stays to pack"):
            cs.pack(source, capacity=12)


def test_plans_and_graphs_are_read_from_files(tmp_path: Path) -> None:
    graph = read_toy("pinch")
    (tmp_path / "graph.json").write_text(json.dumps(graph.to_json()))
    cs.plan_memory(graph, scratchpad=13, workers=1).save(tmp_path / "plan.json")
    for name in ("graph.json", "plan.json"):
        result = cs.pack(tmp_path / name, capacity=13, workers=1)
        assert result.offsets is not None
        result.save(tmp_path / "packing.json")
        assert cs.verify(str(tmp_path / name), cs.load_result(tmp_path / "packing.json")) == []


def test_a_network_of_the_zoo_is_packed_in_its_given_order() -> None:
    result = cs.pack("resnet18", minimize=True, order="given", workers=1)
    assert result.height_bytes == result.bound_bytes == cs.memory_bounds(cs.load("resnet18")).given_order_peak_bytes
    assert result.provenance.options["order"] == "given"


@pytest.mark.parametrize(("options", "message"), [({"order": "given"}, "no network"), ({"reading": {"fold": "none"}}, "fold")])
def test_options_of_networks_are_refused_for_lifetimes(options: dict, message: str) -> None:
    with pytest.raises(cs.UsageError, match=message):
        cs.pack(LIFETIMES, capacity=13, **options)


def test_an_order_that_has_to_be_looked_for_is_refused() -> None:
    with pytest.raises(cs.UsageError, match="given"):
        cs.pack(read_toy("pinch"), capacity=13, order="min-peak")


def test_a_name_of_the_zoo_comes_before_a_file_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "resnet18").mkdir()
    assert cs.pack("resnet18", capacity="64MiB", workers=1).offsets is not None
    (tmp_path / "lifetimes").write_text("id,lower,upper,size\na,0,1,4\n")
    assert cs.pack("lifetimes", capacity=4).height_bytes == 4


def test_what_is_no_buffer_is_refused() -> None:
    with pytest.raises(cs.UsageError, match="Buffer values"):
        cs.pack([("a", 0, 1, 4)], capacity=4)  # type: ignore[list-item]


def test_a_document_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text('{"schema": "cosma-sched/curve/1"}')
    with pytest.raises(cs.InputError, match="cosma-sched/curve/1"):
        cs.pack(path, capacity=13)


def test_answers_are_saved_and_loaded_equal(tmp_path: Path) -> None:
    gaps = (BufferGap(1, 2), BufferGap(3, 4, (2, 3)))
    buffers = [Buffer("a", 0, 5, 4, 2, 4, None, gaps), Buffer("b", 0, 5, 4, hint=8)]
    for capacity in (12, 6 + 2):
        result = cs.pack(buffers, capacity=capacity, workers=1)
        result.save(tmp_path / "packing.json")
        assert cs.load_result(tmp_path / "packing.json") == result


def test_a_malformed_document_is_refused_with_every_mistake() -> None:
    document = cs.pack(pinch(), capacity=13, workers=1).to_json()
    document["buffers"][0]["offset"] = None
    document["buffers"][1]["id"] = "t0"
    document["buffers"][2]["upper"] = 0
    with pytest.raises(cs.InputError) as caught:
        cs.PackingResult.from_json(document)
    assert [defect.where for defect in caught.value.defects] == ["buffers[0].offset", "buffers[1].id", "buffers[2].upper"]


def test_an_offset_is_found_by_name() -> None:
    result = cs.pack([Buffer("a", 0, 5, 4)], capacity=4)
    assert result.offset_of("a") == 0
    with pytest.raises(KeyError):
        result.offset_of("b")
