"""Node costs: the formula, the mapping planner, tables; what runs where."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cosma_sched.accelerator import Accelerator, load_accelerator
from cosma_sched.errors import InputError
from cosma_sched.mapping.cost import machine_of
from cosma_sched.mapping.layer import Layer
from cosma_sched.mapping.search import search_layer
from cosma_sched.multicore.cost_mapping import MappingCosts
from cosma_sched.multicore.cost_table import read_cost_table
from cosma_sched.multicore.costs import AnalyticCosts, NodeCost, Piece, all_costs, allowed_cores, by_core, provider
from cosma_sched.progress import Clock


def core(name: int | str, *, unroll: dict[str, int] | None = None, sizes: list[int] | None = None, **facts: Any) -> dict[str, Any]:
    """Return a core with an array, if one is given, and one level of 8 words per cycle at 2 pJ per word."""
    level = {"name": "top", "holds": ["W", "I", "O"], "size_bytes": 10**6, "words_per_cycle": 8, "pj_per_word": 2.0}
    found: dict[str, Any] = {"id": name, "levels": [level]}
    if unroll:
        found["array"] = {"unroll": unroll, "mac_pj": 0.5}
    if sizes:
        found["array"] = {"sizes": sizes, "mac_pj": 0.5}
    return {**found, **facts}


def machine(*cores: dict[str, Any]) -> Accelerator:
    return Accelerator.from_json({"schema": "cosma-sched/accelerator/1", "name": "made", "cores": list(cores)})


def matmul(rows: int, contraction: int, columns: int, **facts: Any) -> Piece:
    dims = (1, columns, contraction, rows, 1, 1, 1)
    bits = (8 * rows * contraction, 8 * contraction * columns)
    return replace(Piece("mm[0]", "mm", "MatMul", rows * columns, dims, input_bits=bits, output_bits=8 * rows * columns), **facts)


def vector(kind: str, elements: int) -> Piece:
    return Piece("v[0]", "v", kind, elements, input_bits=(8 * elements,), output_bits=8 * elements)


# Who runs what


def test_an_operator_runs_on_the_cores_that_list_it() -> None:
    made = machine(core(0, unroll={"P": 4}), core(1, lanes=8, operators=["Exp"]), core(2, lanes=4, operators=["Exp", "Add"]))
    assert allowed_cores("Exp", made) == ("1", "2")


def test_an_operator_that_no_core_lists_runs_on_every_core_without_a_list() -> None:
    made = machine(core(0, unroll={"P": 4}), core(1, lanes=8, operators=["Exp"]), core(2, sizes=[3]))
    assert allowed_cores("ReduceMax", made) == ("0", "2")


def test_an_operator_that_nobody_knows_goes_to_the_widest_vector_core() -> None:
    made = machine(core(0, unroll={"P": 4}), core(1, lanes=8, operators=["Exp"]), core(2, lanes=64, operators=["Add"]))
    costs = AnalyticCosts(made)
    assert dict(costs.costs(vector("Mystery", 640)))["2"].cycles == 10
    assert costs.warnings == ("Mystery: no cost model; costed by the vector rule, one element per lane and cycle on 64 lanes",)


def test_without_a_vector_core_it_takes_a_cycle_for_each_element() -> None:
    costs = AnalyticCosts(machine(core(0, sizes=[4, 4]), core(1, sizes=[8])))
    assert [cost.cycles for cost in costs.costs(vector("Silu", 640)).values()] == [640, 640]
    costs.costs(vector("Silu", 320))
    assert costs.warnings == ("Silu: no cost model; costed by the vector rule, one element per cycle",)


def test_an_operator_that_nothing_runs_is_refused() -> None:
    with pytest.raises(InputError, match="made: no core runs operators of type Conv; they list core 0: Add"):
        allowed_cores("Conv", machine(core(0, lanes=4, operators=["Add"])))


def test_a_vector_operator_that_no_core_is_open_to_goes_to_the_widest_vector_core() -> None:
    made = machine(core(0, unroll={"P": 4}, operators=["MatMul"]), core(1, lanes=8, operators=["Exp"]))
    costs = AnalyticCosts(made)
    assert costs.costs(vector("LayerNormalization", 80))["1"].cycles == 10
    [warning] = costs.warnings
    assert warning.startswith("LayerNormalization: no core lists it; runs on the widest vector cores")


# The formula


def test_cycles_are_ceilings_of_the_unrolled_dims() -> None:
    wide = machine({**core(0, unroll={"P": 64, "K": 64}), "levels": []} | {"levels": [_free_level()]})
    assert AnalyticCosts(wide).cost(matmul(128, 128, 128), "0").cycles == 2 * 2 * 128
    assert AnalyticCosts(wide).cost(matmul(65, 128, 1), "0").cycles == 2 * 128


def _free_level() -> dict[str, Any]:
    return {"name": "top", "holds": ["W", "I", "O"], "pj_per_word": 0.0}


def test_a_piece_waits_for_the_slowest_of_array_reads_and_writes() -> None:
    costs = AnalyticCosts(machine(core(0, unroll={"P": 64, "K": 64})))
    assert costs.cost(matmul(64, 1, 64), "0").cycles == 64 * 64 // 8  # writing
    assert costs.cost(matmul(64, 100, 8), "0").cycles == (64 * 100 + 100 * 8) // 8  # reading
    assert costs.cost(matmul(1, 3, 1), "0").cycles == 3


def test_a_free_array_takes_the_best_dims() -> None:
    made = machine({**core(0, sizes=[14, 12]), "levels": [_free_level()]})
    assert AnalyticCosts(made).cost(matmul(1, 168, 5), "0").cycles == 5
    assert AnalyticCosts(made).cost(matmul(12, 14, 5), "0").cycles == 5


def test_energy_counts_multiplications_and_each_operand_once() -> None:
    piece = matmul(4, 5, 6)
    assert AnalyticCosts(machine(core(0, unroll={"P": 4}))).cost(piece, "0").energy_pj == round(120 * 0.5 + (20 + 30 + 24) * 2.0)


def test_weights_pass_their_own_memory_where_they_have_one() -> None:
    two = core(0, unroll={"P": 4})
    two["levels"] = [
        {"name": "w", "holds": ["W"], "words_per_cycle": 1, "pj_per_word": 1.0},
        {"name": "io", "holds": ["I", "O"], "words_per_cycle": 1000, "write_words_per_cycle": 2, "pj_per_word": 0.0},
    ]
    cost = AnalyticCosts(machine(two)).cost(matmul(4, 3, 100, input_bits=(96, 2400)), "0")
    assert cost == NodeCost(max(300, 400 // 2), 600 + 300)


def test_lanes_take_an_element_each() -> None:
    costs = AnalyticCosts(machine(core(0, lanes=64, lane_pj=0.25)))
    assert costs.cost(vector("Add", 65), "0") == NodeCost(2, round(65 * 0.25 + 2 * 65 * 2.0))


def test_an_array_without_lanes_takes_an_element_in_each_of_its_elements() -> None:
    assert AnalyticCosts(machine(core(0, sizes=[14, 12]))).cost(vector("ReduceMax", 168 * 3), "0").cycles == 3


def test_groups_run_one_after_the_other() -> None:
    costs = AnalyticCosts(machine({**core(0, unroll={"K": 8}), "levels": [_free_level()]}))
    piece = Piece("d[0]", "d", "Conv", 32 * 16, (1, 1, 1, 4, 4, 3, 3), repeat=32)
    assert costs.cost(piece, "0").cycles == 32 * 16 * 9


def test_the_toy_has_the_published_durations() -> None:
    costs = AnalyticCosts(load_accelerator("duo"))
    assert [cost.cycles for cost in costs.costs(matmul(128, 128, 128)).values()] == [512, 2048]
    assert [cost.cycles for cost in costs.costs(matmul(128, 128, 256)).values()] == [1024, 4096]


def test_equal_pieces_are_costed_once_and_no_cost_is_below_a_cycle() -> None:
    costs = AnalyticCosts(machine(core(0, unroll={"P": 64})))
    first = costs.costs(matmul(1, 1, 1))
    assert first["0"].cycles == 1
    assert costs.costs(matmul(1, 1, 1, node="other")) is first


def test_costs_split_into_the_maps_of_a_node() -> None:
    assert by_core({"0": NodeCost(3, 4), "1": NodeCost(5, 6)}) == ({"0": 3, "1": 5}, {"0": 4, "1": 6})


# The mapping planner


def test_a_core_of_the_mapped_kind_gets_its_best_mapping_without_its_dram() -> None:
    gemmini = load_accelerator("gemmini_small")
    free = machine_of(gemmini)._replace(dram_pj=0.0, dram_bandwidth=float("inf"))
    found = search_layer(Layer("", (1, 32, 16, 64, 1, 1, 1)), free, "parity", clock=Clock())
    best = min(found.points, key=lambda point: (point.latency_cycles, point.energy_pj))
    costs = provider("mapping", gemmini)
    assert costs.cost(matmul(64, 16, 32), "0") == NodeCost(best.latency_cycles, best.energy_pj)
    assert costs.warnings == ()


def test_the_objective_chooses_the_mapping() -> None:
    gemmini = load_accelerator("gemmini_small")
    piece = matmul(64, 64, 128)
    fast, frugal = (MappingCosts(gemmini, objective=name).cost(piece, "0") for name in ("latency", "energy"))
    assert fast.cycles <= frugal.cycles
    assert frugal.energy_pj <= fast.energy_pj


def test_other_cores_are_costed_analytically_with_a_warning() -> None:
    duo = load_accelerator("duo")
    costs = MappingCosts(duo)
    assert costs.costs(matmul(128, 128, 128)) == AnalyticCosts(duo).costs(matmul(128, 128, 128))
    assert [warning.split(":")[0] for warning in costs.warnings] == ["core 0", "core 1"]


def test_answers_are_kept_on_disk_and_spoilt_ones_are_made_anew(tmp_path: Path) -> None:
    gemmini = load_accelerator("gemmini_small")
    piece = matmul(8, 8, 8)
    first = MappingCosts(gemmini, cache=tmp_path).cost(piece, "0")
    [file] = tmp_path.iterdir()
    document = json.loads(file.read_text())
    file.write_text(json.dumps({**document, "cycles": 99}))
    assert MappingCosts(gemmini, cache=tmp_path).cost(piece, "0").cycles == 99
    for spoilt in ("{", "[]", "{}", json.dumps({**document, "cycles": -3}), json.dumps({**document, "energy_pj": True})):
        file.write_text(spoilt)
        assert MappingCosts(gemmini, cache=tmp_path).cost(piece, "0") == first
        assert json.loads(file.read_text()) == document


# Tables


def _entry(name: str, cycles: int, energy: int) -> dict[str, Any]:
    return {"node": "mm", "core": name, "latency_cycles": cycles, "energy_pj": energy}


DUAL = machine(core(0, unroll={"P": 4}), core(1, unroll={"P": 4}))


def table(tmp_path: Path, name: str, text: str) -> Any:
    (tmp_path / name).write_text(text)
    return read_cost_table(tmp_path / name, DUAL)


OURS = """costs:
  - {layer: mm, core: 0, latency_cycles: 100, energy_pj: 7}
  - {layer: mm, core: 1, latency_cycles: 200, energy_pj: 9}
"""
STREAM = """nodes:
  - name: mm
    cores:
      - {core_id: 0, latency_total: 99.5, energy_total: 7.2}
      - {core_id: 1, latency_cycles: 200, energy_pj: 9}
"""
COMMAS = "layer,core,latency_cycles,energy_pj\nmm,0,100,7\nmm,1,200,9\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.yaml", OURS),
        ("core_cost_lut.yaml", STREAM),
        ("a.csv", COMMAS),
        ("a.json", json.dumps({"costs": [_entry("0", 100, 7), _entry("1", 200, 9)]})),
    ],
)
def test_every_form_of_table_says_the_same(tmp_path: Path, name: str, text: str) -> None:
    costs = table(tmp_path, name, text)
    assert costs.costs(matmul(4, 4, 4)) == {"0": NodeCost(100, 7), "1": NodeCost(200, 9)}
    assert costs.assumptions == ()


def test_a_piece_costs_its_share_rounded_up_and_the_rule_is_recorded(tmp_path: Path) -> None:
    costs = table(tmp_path, "a.yaml", OURS)
    assert costs.cost(matmul(1, 4, 4, layer_work=3 * 16), "0") == NodeCost(34, 2)
    assert "linear" in costs.assumptions[0]
    assert "mm" in costs.assumptions[0]


def test_a_node_that_is_listed_itself_is_not_scaled(tmp_path: Path) -> None:
    costs = table(tmp_path, "a.yaml", OURS.replace("layer: mm", '"node": "mm[0]"'))
    assert costs.cost(matmul(1, 4, 4, layer_work=48), "1") == NodeCost(200, 9)


def test_bad_entries_are_reported_together_with_node_and_core(tmp_path: Path) -> None:
    text = """costs:
  - {layer: mm, core: 0, latency_cycles: -4, energy_pj: 7}
  - {layer: mm, core: 1, latency_cycles: 0}
  - {layer: nn, core: 0, energy_pj: 7}
  - {layer: nn, core: 1, latency_cycles: 4, energy_pj: -1}
  - {layer: nn, core: 8, latency_cycles: 4}
  - {core: 0, latency_cycles: 4}
  - {layer: ok, core: 0, latency_cycles: 4, latncy: 3}
  - {layer: ok, core: 0, latency_cycles: 4}
"""
    with pytest.raises(InputError) as caught:
        table(tmp_path, "a.yaml", text)
    found = str(caught.value).replace("'", '"').splitlines()
    expected = [
        'line 2: costs[0]: node "mm" on core 0: latency_cycles must be > 0, got -4',
        'line 3: costs[1]: node "mm" on core 1: latency_cycles must be > 0, got 0',
        'line 4: costs[2]: node "nn" on core 0: latency_cycles is missing',
        'line 5: costs[3]: node "nn" on core 1: energy_pj must be >= 0, got -1',
        'line 6: costs[4]: node "nn": no compute core has the id 8; ids are 0, 1',
        "line 7: costs[5]: names no node or layer, got None",
        'line 8: costs[6]: unknown field "latncy"',
        'line 9: costs[7]: node "ok" on core 0 stands twice',
    ]
    for line in expected:
        assert any(line in entry for entry in found), line
    assert len(found) == len(expected)


def test_missing_costs_of_all_pieces_are_reported_together(tmp_path: Path) -> None:
    costs = table(tmp_path, "a.csv", "node,core,latency_cycles\nmm,0,100\n")
    with pytest.raises(InputError) as caught:
        all_costs(costs, [matmul(4, 4, 4), matmul(4, 4, 4, node="x", layer="x")])
    found = str(caught.value).replace("'", '"')
    assert 'node "mm[0]" on core 1: no cost of it or of layer "mm"' in found
    assert 'node "x" on core 0: no cost of it or of layer "x"' in found
    assert len(found.splitlines()) == 3


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "core,latency_cycles\n0,1\n", "line 1: must name the columns node or layer, core, latency_cycles"),
        ("a.csv", "node,core,latency_cycles\nmm,0\n", "line 2: has 2 cells, the header 3"),
        ("a.csv", "node,core,latency_cycles\nmm,0,1e3\n", 'latency_cycles must be > 0, got "1e3"'),
        ("a.csv", "node,core,latency_cycles\n", "holds no cost"),
        ("a.yaml", "[1]\n", "must hold a list costs"),
        ("a.yaml", "schema: other\ncosts: []\n", "schema: must be"),
        ("a.json", "{", "is not JSON"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        table(tmp_path, name, text)
    assert message in str(caught.value).replace("'", '"')


def test_provider_makes_what_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(OURS)
    assert provider("analytic", DUAL).name == "analytic"
    assert provider(tmp_path / "a.yaml", DUAL).name == f"table {tmp_path / 'a.yaml'}"
