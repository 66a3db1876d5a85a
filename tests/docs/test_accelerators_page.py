"""The page on accelerators of several cores: its file loads, its fields and rules are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

from cosma_sched._accelerator_cores import CoreEntry, CoresDocument, LinkEntry
from cosma_sched.accelerator import builtin_names, load_accelerator

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "accelerators.md").read_text(encoding="utf-8")
MULTICORE = Path(__file__).resolve().parents[2] / "cosma_sched" / "multicore"


def test_the_example_is_an_accelerator(tmp_path: Path) -> None:
    file = tmp_path / "two.yaml"
    file.write_text(re.search(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL).group(1))  # type: ignore[union-attr]
    assert [core.id for core in load_accelerator(file).cores] == ["0", "1", "2"]


def test_every_field_is_described() -> None:
    for form in (CoresDocument, CoreEntry, LinkEntry):
        for name, field in form.model_fields.items():
            assert re.search(rf"\b{field.alias or name}\b", PAGE), name


def test_every_platform_that_ships_is_listed() -> None:
    names: set[str] = set()
    for entry in re.findall(r"`([a-z0-9-]+(?:\{[^}]*\})?)`", PAGE.partition("## Built in")[2].partition("##")[0]):
        stem, _, endings = entry.partition("{")
        names |= {stem + ending for ending in endings.rstrip("}").split(",")} if endings else {stem}
    wide = {f"{name}-wide" for name in names if name.startswith("big-single") and not name.endswith("3d")}
    assert {name for name in builtin_names() if not name.startswith("gemmini")} == (names | wide) - {"-wide"}


def test_every_rule_of_the_checker_is_listed() -> None:
    rows = PAGE.partition("## What the checker checks")[2]
    listed = set(re.findall(r"`([a-z-]+)`", rows)) | {f"residency{ending}" for ending in re.findall(r"`(-[a-z]+)`", rows)}
    rules: set[str] = set()
    for name in ("verify", "verify_fields", "verify_periods"):
        text = (MULTICORE / f"{name}.py").read_text(encoding="utf-8")
        rules |= set(re.findall(r'(?:Violation|broken)\(\s*"([a-z-]+)"', text)) | set(re.findall(r'yield "([a-z-]+)",', text))
    assert len(rules) > 35
    assert rules <= listed
