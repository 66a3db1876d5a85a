"""Accelerator files: the built-in ones, and every mistake of a user's file at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from cosma_sched.accelerator import Accelerator, builtin_names, load_accelerator
from cosma_sched.errors import InputError

GOOD = """schema: cosma-sched/accelerator/1
name: mine
array: {rows: 16, cols: 16, row_dim: C, col_dim: K, mac_pj: 0.5608}
levels:
  - {name: register,    holds: [W],       pj_per_word: 0.48746172}
  - {name: accumulator, holds: [O],       size_bytes: 32KiB,  element_bytes: 4, pj_per_word: 2.141,   words_per_cycle_per_column: 2}
  - {name: scratchpad,  holds: [W, I],    size_bytes: 128KiB, pj_per_word: 3.70664, words_per_cycle: 32}
  - {name: dram,        holds: [W, I, O], pj_per_word: 100,  words_per_cycle: 8, block_words: 64, psum_words: 1}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "mine.yaml"


def refusal(file: Path, text: str) -> str:
    file.write_text(text)
    with pytest.raises(InputError) as caught:
        load_accelerator(file)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "side", "scratchpad", "accumulator", "e1", "e2"),
    [
        ("gemmini_small", 16, 128, 32, 2.141, 3.70664),
        ("gemmini", 16, 256, 64, 2.342, 6.92328),
        ("gemmini_large", 32, 512, 128, 2.342, 13.35656),
    ],
)
def test_the_built_in_accelerators(name: str, side: int, scratchpad: int, accumulator: int, e1: float, e2: float) -> None:
    core = load_accelerator(name).core
    assert (core.array.rows, core.array.cols) == (side, side)
    sizes = {level.name: level.size_bytes for level in core.levels}
    assert sizes == {"register": None, "accumulator": accumulator * 1024, "scratchpad": scratchpad * 1024, "dram": None}
    assert [level.pj_per_word for level in core.levels] == pytest.approx([0.48746172, e1, e2, 100.0], abs=1e-12)
    assert core.levels[2].words_per_cycle == 2 * side


def test_a_file_with_the_facts_written_out_is_the_built_in_one(file: Path) -> None:
    file.write_text(GOOD.replace("mine", "gemmini_small"))
    assert load_accelerator(file) == load_accelerator("gemmini_small")


@pytest.mark.parametrize("name", builtin_names())
def test_an_accelerator_survives_its_document(name: str) -> None:
    accelerator = load_accelerator(name)
    assert Accelerator.from_json(accelerator.to_json()) == accelerator


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(
        InputError, match=r'gemmini_smal: no such accelerator; known names are big-single-3d, .* did you mean "gemmini_small"'
    ):
        load_accelerator("gemmini_smal")


def test_a_missing_file_is_said_to_be_missing() -> None:
    with pytest.raises(InputError, match=r"nowhere\.yaml: no such file"):
        load_accelerator("nowhere.yaml")


def test_every_mistake_is_reported_at_once_with_line_and_path(file: Path) -> None:
    text = (
        GOOD.replace("rows: 16", "rows: -4")
        .replace("size_bytes: 32KiB", "siz_bytes: 32KiB")
        .replace("pj_per_word: 100", "pj_per_word: many")
    )
    found = refusal(file, text).replace("'", '"').splitlines()
    assert len(found) == 3
    assert "line 3: array.rows: must be > 0, got -4" in found[0]
    assert 'line 6: levels[1].siz_bytes: unknown field; did you mean "size_bytes"?' in found[1]
    assert 'line 8: levels[3].pj_per_word: must be a number, got "many"' in found[2]


def test_rules_between_parts_are_reported_together(file: Path) -> None:
    text = GOOD.replace("name: dram", "name: scratchpad").replace("col_dim: K", "col_dim: C").replace(" pj_per_word: 2.141,", "")
    found = refusal(file, text)
    assert 'levels[3].name: levels[2] has the name "scratchpad" too' in found.replace("'", '"')
    assert "array.col_dim: must differ from row_dim C" in found
    assert "levels[1].pj_per_word: is missing" in found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("- 1\n- 2\n", "must be a mapping"),
        ("schema: other\n", "schema: must be"),
        ("schema: [unclosed\n", "is not YAML"),
        ("name: a\nname: b\n", "line 2: key"),
        ("a: &x [*x]\n", "contains itself"),
        ("1: 2\n", "a key must be a word"),
        (GOOD.replace("32KiB", "32KB"), "ambiguous"),
        (GOOD.replace("rows: 16", "rows: true"), "array.rows: must be a whole number"),
        (GOOD.replace("rows: 16", "rows: 16.0"), "array.rows: must be a whole number"),
        (GOOD.replace("words_per_cycle: 8", "words_per_cycle: .inf"), "levels[3].words_per_cycle"),
        (GOOD.replace("[W, I, O]", "[W, W]"), "levels[3].holds: names a tensor twice"),
        (GOOD.replace("mac_pj: 0.5608", "mac_pj: 2026-01-01"), "array.mac_pj: must be a number"),
    ],
)
def test_a_file_that_means_nothing_is_refused(file: Path, text: str, message: str) -> None:
    assert message in refusal(file, text)


def test_aliases_that_mean_a_giant_are_refused(file: Path) -> None:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    assert "once its aliases are followed" in refusal(file, "\n".join(lines))


def test_derived_energies_need_the_sizes_they_derive_from(file: Path) -> None:
    text = GOOD.replace("size_bytes: 32KiB, ", "").replace(" pj_per_word: 2.141,", "") + "energy: gemmini_40nm\n"
    assert "gemmini_40nm needs a level accumulator with size_bytes" in refusal(file, text)
