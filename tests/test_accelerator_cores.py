"""Accelerator files with several cores: what they mean, and every mistake at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cosma_sched.accelerator import Accelerator, Link, Port, builtin_names, load_accelerator
from cosma_sched.errors import InputError

TWO_CORES = """schema: cosma-sched/accelerator/1
name: two-core
cores:
  - {id: 0, array: {unroll: {B: 64, K: 64}, mac_pj: 1.0}, operators: [MatMul, Gemm, Conv],
     levels: [{name: l2, holds: [W, I, O], size_bytes: 2MiB, words_per_cycle: 128, pj_per_word: 2.35}]}
  - {id: 1, lanes: 64, operators: [Softmax, Add, Gelu],
     levels: [{name: sram, holds: [I, O], size_bytes: 128KiB, words_per_cycle: 64, pj_per_word: 0.6}]}
  - {id: 2, offchip: {ports: [{direction: readwrite, bits_per_cycle: 64}], pj_per_word: 125}}
links: [{kind: link, cores: [0, 1], bits_per_cycle: 64, pj_per_bit: 0}, {kind: bus, cores: [0, 1, 2], bits_per_cycle: 128}]
shared_memory: []
"""

RE_DESCRIPTIONS = (
    *(f"small-single-{dims}" for dims in ("b", "c", "k", "b-c", "b-k", "c-k", "3d")),
    *(f"quad-{dims}" for dims in ("b", "c", "k", "b-c", "b-k", "c-k")),
    *(f"big-single-{dims}{wide}" for dims in ("b-c", "b-k", "c-k") for wide in ("", "-wide")),
    "big-single-3d",
    *(f"bigquad-{dims}" for dims in ("b-c", "b-k", "c-k")),
    "gap8-like",
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "two.yaml"


def loaded(file: Path, text: str) -> Accelerator:
    file.write_text(text)
    return load_accelerator(file)


def refusal(file: Path, text: str) -> str:
    with pytest.raises(InputError) as caught:
        loaded(file, text)
    return str(caught.value).replace("'", '"')


def test_a_file_of_several_cores_means_what_it_says(file: Path) -> None:
    found = loaded(file, TWO_CORES)
    matrix, vector, dram = found.cores
    assert matrix.array is not None
    assert matrix.array.unroll == (("P", 64), ("K", 64))
    assert (matrix.operators, matrix.levels[0].size_bytes) == (("MatMul", "Gemm", "Conv"), 2**21)
    assert (vector.lanes, vector.array) == (64, None)
    assert dram.offchip is not None
    assert dram.offchip.ports == (Port("readwrite", 64),)
    assert found.links == (Link("link", ("0", "1"), 64, 0.0, "link0"), Link("bus", ("0", "1", "2"), 128, 0.0, "bus1"))


def test_rows_and_columns_are_an_unrolling_of_two_dims(file: Path) -> None:
    short = loaded(file, TWO_CORES.replace("unroll: {B: 64, K: 64}", "rows: 64, cols: 64, row_dim: P, col_dim: K"))
    assert short == loaded(file, TWO_CORES)


def test_a_link_without_a_rate_has_no_limit(file: Path) -> None:
    assert loaded(file, TWO_CORES.replace("bits_per_cycle: 64, pj_per_bit: 0", "pj_per_bit: 0")).links[0].bits_per_cycle is None


def test_several_cores_survive_their_document(file: Path) -> None:
    found = loaded(file, TWO_CORES)
    assert Accelerator.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_mistakes_of_form_and_of_sense_are_reported_together(file: Path) -> None:
    text = (
        TWO_CORES.replace("bits_per_cycle: 128", "bits_per_cycle: -32")
        .replace("{kind: link, cores: [0, 1]", "{kind: link, cores: [0, 7]")
        .replace("lanes: 64", "lans: 64")
        .replace("size_bytes: 2MiB", "size_bytes: 0")
        .replace("direction: readwrite", "direction: read")
        .replace("shared_memory: []", "shared_memory: [[0, 9]]")
    )
    found = refusal(file, text)
    assert "line 9: links[1].bits_per_cycle: must be > 0, got -32" in found
    assert "links[0].cores[1]: no core has the id 7; ids are 0, 1, 2" in found
    assert 'cores[1].lans: unknown field; did you mean "lanes"?' in found
    assert "cores[0].levels[0].size_bytes" in found
    assert "cores[2].offchip.ports: none of them can write" in found
    assert "shared_memory[0][1]: no core has the id 9" in found
    assert len(found.splitlines()) == 6


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("id: 1,", "id: 0,", "cores[1].id: cores[0] has the id 0 too"),
        ("cores: [0, 1], bits", "cores: [0, 1, 2], bits", "links[0].cores: a link joins exactly 2 cores, got 3"),
        ("cores: [0, 1, 2]", "cores: [0]", "links[1].cores: a bus joins at least 2 cores"),
        ("cores: [0, 1, 2]", "cores: [0, 1, 1]", "links[1].cores: names core 1 twice"),
        ("unroll: {B: 64, K: 64}", "unroll: {B: 64, P: 64}", "cores[0].array.unroll: names P twice"),
        ("unroll: {B: 64, K: 64}", "unroll: {X: 64}", "cores[0].array.unroll.X: must be one of N, K, C, P, Q, R, S, or B"),
        ("unroll: {B: 64, K: 64}", "unroll: {B: 64}, sizes: [4]", "cores[0].array: give rows and cols, or unroll, or sizes"),
        ("unroll: {B: 64, K: 64}", "rows: 64", "cores[0].array.cols: is missing"),
        ("lanes: 64, operators", "operators", "cores[1].operators: a core without array and lanes runs nothing"),
        (", pj_per_word: 0.6", "", "cores[1].levels[0].pj_per_word: is missing; give pJ per word"),
        ("shared_memory: []", "shared_memory: [[0, 1]]", "links[0]: joins cores 0 and 1, which share their memory (shared_memory[0])"),
        (
            "shared_memory: []",
            "shared_memory: [[0, 1]]",
            "shared_memory[0]: one memory has one size_bytes, got core 0 2097152, core 1 131072",
        ),
        ("shared_memory: []", "shared_memory: [3]", "shared_memory[0]: must be a list, got 3"),
        ("{id: 2, offchip", "{id: 2, lanes: 4, offchip", "cores[2]: the off-chip core has ports only"),
        ("[Softmax, Add, Gelu]", "[Softmax, Softmax]", "cores[1].operators[1]: names Softmax twice"),
        ("kind: bus", "kind: ring", "links[1].kind"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(file: Path, old: str, new: str, message: str) -> None:
    assert old in TWO_CORES
    assert message in refusal(file, TWO_CORES.replace(old, new))


def test_a_file_in_which_nothing_can_run_is_refused(file: Path) -> None:
    text = TWO_CORES.replace("array: {unroll: {B: 64, K: 64}, mac_pj: 1.0}, operators: [MatMul, Gemm, Conv],\n    ", "").replace(
        "lanes: 64, operators: [Softmax, Add, Gelu],", ""
    )
    assert "cores: none has an array or lanes" in refusal(file, text)


def test_the_re_descriptions_ship() -> None:
    assert len(RE_DESCRIPTIONS) == 24
    assert set(builtin_names()) == {*RE_DESCRIPTIONS, "duo", "gemmini", "gemmini_small", "gemmini_large"}


@pytest.mark.parametrize(
    ("names", "multipliers"), [(("small-single", "quad-"), 64), (("big-single", "bigquad"), 4096), (("gap8",), 8), (("duo",), 5120)]
)
def test_re_descriptions_of_a_family_have_the_same_multipliers(names: tuple[str, ...], multipliers: int) -> None:
    for name in builtin_names():
        if name.startswith(names):
            assert sum(core.array.elements for core in load_accelerator(name).cores if core.array is not None) == multipliers


def test_the_second_level_of_a_re_description_has_the_fitted_energy() -> None:
    level = load_accelerator("bigquad-b-k").cores[0].level("l2")
    assert level is not None
    assert (level.size_bytes, level.words_per_cycle, level.pj_per_word) == (2**20, 64, 1.6640)
