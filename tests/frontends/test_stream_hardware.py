"""Hardware files of Stream and ZigZag: bits become bytes, every mistake of a system and its cores at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from cosma_sched.accelerator import Accelerator, Link, Port, load_accelerator
from cosma_sched.errors import InputError

SYSTEM = """name: pair
cores:
  0: matrix.yaml
  1: ./cores/vector.yaml
  2: somewhere/else/offchip.yaml
offchip_core_id: 2
unit_energy_cost: 64
core_coordinates: {0: [0, 0], 1: [1, 0]}
core_connectivity:
  - cores: [0, 1]
    bandwidth: 32
  - {type: bus, cores: [0, 1, 2], bandwidth: 128, unit_energy_cost: 0}
"""

MEMORY = """  {name}:
    size: {size}
    r_cost: 100
    w_cost: {w_cost}
    operands: {operands}
    ports:
      - {{type: read, bandwidth_max: 400}}
      - {{type: write, bandwidth_max: {write}}}
    served_dimensions: {served}
"""


def memory(name: str, size: object, operands: str, served: str, write: int = 400, w_cost: int = 100) -> str:
    return MEMORY.format(name=name, size=size, operands=operands, served=served, write=write, w_cost=w_cost)


MATRIX = (
    "name: matrix\ntype: compute\nmemories:\n"
    + memory("rf", 512, "[I2]", "[]")
    + memory("sram", "16_777_216", "[I1, O]", "[D1, D2]", write=200, w_cost=200)
    + "operational_array: {unit_energy: 0.5, dimensions: [D1, D2], sizes: [14, 12]}\n"
)
VECTOR = (
    "name: vector\ntype: zigzag.compute\nmemories:\n"
    + memory("sram", 1048576, "[I1, I2, O]", "[D1]")
    + "operational_array: {unit_energy: 0.1, dimensions: [D1], sizes: [64]}\noperator_types: [Add, Exp]\n"
)
DRAM = """name: offchip
type: zigzag.offchip
memories:
  dram:
    size: 10000000000
    r_cost: 1000
    w_cost: 1000
    operands: [I1, I2, O]
    ports: [{type: read_write, bandwidth_max: 64}]
    served_dimensions: [D1, D2]
operational_array: {unit_energy: 0, dimensions: [D1, D2], sizes: [0, 0]}
"""


@pytest.fixture
def system(tmp_path: Path) -> Path:
    (tmp_path / "cores").mkdir()
    for name, text in (("matrix", MATRIX), ("vector", VECTOR), ("offchip", DRAM)):
        (tmp_path / "cores" / f"{name}.yaml").write_text(text)
    (tmp_path / "pair.yaml").write_text(SYSTEM)
    return tmp_path / "pair.yaml"


def change(system: Path, core: str, old: str, new: str) -> Path:
    file = system if core == "system" else system.parent / "cores" / f"{core}.yaml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    return system


def refusal(system: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_accelerator(system)
    return str(caught.value).replace("'", '"')


def test_the_format_is_detected_and_core_files_are_found_beside_the_system(system: Path) -> None:
    found = load_accelerator(system)
    assert [core.name for core in found.cores] == ["matrix", "vector", "offchip"]
    assert found.warnings == ()


def test_bits_become_bytes_and_words(system: Path) -> None:
    level = load_accelerator(system).cores[0].level("sram")
    assert level is not None
    assert (level.size_bytes, level.words_per_cycle, level.write_words_per_cycle) == (2**21, 50, 25)
    assert (level.pj_per_word, level.write_pj_per_word) == (2, 8)


def test_a_memory_that_serves_no_dimension_is_there_once_for_each_element(system: Path) -> None:
    level = load_accelerator(system).cores[0].level("rf")
    assert level is not None
    assert (level.size_bytes, level.holds) == (64 * 14 * 12, ("W",))


def test_an_array_without_dataflows_may_be_unrolled_freely(system: Path) -> None:
    array = load_accelerator(system).cores[0].array
    assert array is not None
    assert (array.sizes, array.unroll, array.elements, array.mac_pj) == ((14, 12), (), 168, 0.5)


def test_dataflows_fix_the_unrolling(system: Path) -> None:
    change(system, "matrix", "type: compute\n", "type: compute\ndataflows:\n  D1:\n    - K, 14\n  D2:\n    - OX, 12\n")
    array = load_accelerator(system).cores[0].array
    assert array is not None
    assert array.unroll == (("K", 14), ("Q", 12))


def test_a_core_that_lists_no_matrix_operator_is_lanes(system: Path) -> None:
    core = load_accelerator(system).cores[1]
    assert (core.array, core.lanes, core.lane_pj, core.operators) == (None, 64, 0.1, ("Add", "Exp"))


def test_the_named_off_chip_core_has_ports_and_energy_by_word(system: Path) -> None:
    offchip = load_accelerator(system).cores[2].offchip
    assert offchip is not None
    assert (offchip.ports, offchip.pj_per_word) == ((Port("readwrite", 64),), 125)


def test_connections_default_to_links_and_to_the_common_energy(system: Path) -> None:
    links = load_accelerator(system).links
    assert links == (Link("link", ("0", "1"), 32, 2.0, "link0"), Link("bus", ("0", "1", "2"), 128, 0.0, "bus1"))


def test_shared_memory_may_be_written_as_a_string(system: Path) -> None:
    change(system, "vector", "size: 1048576", "size: 16777216")
    change(
        system,
        "system",
        "core_connectivity:\n  - cores: [0, 1]\n    bandwidth: 32\n",
        'core_memory_sharing: ["0, 1"]\ncore_connectivity:\n',
    )
    assert load_accelerator(system).shared_memory == (("0", "1"),)


def test_a_memory_core_only_holds_copies(system: Path) -> None:
    change(system, "vector", "type: zigzag.compute", "type: zigzag.memory")
    core = load_accelerator(system).cores[1]
    assert (core.is_compute, core.levels[0].size_bytes) == (False, 131072)


def test_unknown_keys_are_warned_of_once_each(system: Path) -> None:
    change(system, "system", "name: pair", "name: pair\ncolour: blue")
    change(system, "matrix", "type: compute", "type: compute\noperatr_types: [Conv]")
    warnings = load_accelerator(system).warnings
    assert len(warnings) == 2
    assert "colour: unknown key, ignored" in warnings[0]
    assert 'operatr_types: unknown key, ignored; did you mean "operator_types"?' in warnings[1].replace("'", '"')


def test_facts_for_reports_survive_the_document_of_ours(system: Path) -> None:
    found = load_accelerator(system)
    assert found.facts[0][0] == "core_coordinates"
    assert Accelerator.from_json(found.to_json()) == found


def test_a_core_file_that_is_nowhere_lists_the_places_tried(system: Path) -> None:
    change(system, "system", "0: matrix.yaml", "0: sub/matrx.yaml")
    found = refusal(system)
    assert 'cores.0: no such core file "sub/matrx.yaml"; tried ' in found
    assert f"{system.parent}/sub/matrx.yaml, {system.parent}/cores/matrx.yaml" in found


def test_every_mistake_of_a_system_and_its_cores_is_reported_at_once(system: Path) -> None:
    change(system, "system", "bandwidth: 32", "bandwidth: -32")
    change(system, "system", "cores: [0, 1, 2]", "cores: [0, 1, 5]")
    change(system, "matrix", "size: 512", "size: small")
    change(system, "matrix", "sizes: [14, 12]", "sizes: [14]")
    change(system, "vector", "operands: [I1, I2, O]", "operands: [I1, X]")
    change(system, "offchip", "read_write", "sideways")
    found = refusal(system)
    assert "core_connectivity[0].bandwidth: must be > 0, got -32" in found
    assert 'core_connectivity[1].cores[2]: no core has the id "5"; ids are 0, 1, 2' in found
    assert 'matrix.yaml: memories.rf.size: must be a whole number, got "small"' in found
    assert "matrix.yaml: operational_array.sizes: must be one size for each of dimensions" in found
    assert "vector.yaml: memories.sram.operands: must be some of I1, I2, O" in found
    assert "offchip.yaml: memories.dram.ports[0].type: must be read, write or read_write" in found
    assert len(found.splitlines()) == 6


@pytest.mark.parametrize(
    ("core", "old", "new", "message"),
    [
        ("system", "offchip_core_id: 2", "offchip_core_id: 9", "offchip_core_id: no core has the id 9; ids are 0, 1, 2"),
        ("system", "cores: [0, 1]", "cores: [0, 1, 2]", "core_connectivity[0].cores: a link joins exactly 2 cores, got 3"),
        ("system", "type: bus", "type: ring", "core_connectivity[1].type: must be link or bus"),
        ("matrix", "type: compute", "type: aie2.compute", "type: must be compute, memory or offchip"),
        ("matrix", "sizes: [14, 12]", "sizes: [14, 0]", "operational_array.sizes: must be all 0 (no array) or all > 0"),
        ("matrix", "r_cost: 100", "r_cost: -1", "memories.rf.r_cost: must be >= 0, got -1"),
        ("matrix", "memories:", "memries:", "memories: is missing"),
        ("matrix", "name: matrix\n", "name: [\n", "is not YAML"),
    ],
)
def test_a_mistake_is_named_with_its_place(system: Path, core: str, old: str, new: str, message: str) -> None:
    assert message in refusal(change(system, core, old, new))


def test_a_core_file_alone_is_no_system(system: Path) -> None:
    with pytest.raises(InputError, match="is one core of a Stream system"):
        load_accelerator(system.parent / "cores" / "matrix.yaml")


@pytest.mark.parametrize(
    ("name", "cores", "capacity_bytes", "shared"),
    [
        ("eyeriss_like_single_core", 4, 2**20, ()),
        ("eyeriss_like_dual_core", 5, 2**20, ()),
        ("eyeriss_like_quad_core", 7, 2**20, ()),
        ("tpu_like_quad_core", 7, 2**21, ()),
        ("meta_prototype_dual_core_simd_offchip", 5, 2**20, ()),
        ("simba_small", 5, 2**18, ()),
        ("simba", 37, 2**18, ()),
        ("fusemax", 3, 2**21, (("0", "1"),)),
        ("tpu_v7_ironwood", 41, 2**21, ()),
    ],
)
def test_the_published_systems_are_read(
    shared_data: Path, name: str, cores: int, capacity_bytes: int, shared: tuple[tuple[str, str], ...]
) -> None:
    folder = shared_data / "stream" / "hardware"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    found = load_accelerator(folder / f"{name}.yaml")
    assert (len(found.cores), found.cores[0].levels[-1].size_bytes, found.shared_memory) == (cores, capacity_bytes, shared)
    assert found.warnings == ()
    assert Accelerator.from_json(found.to_json()) == found
