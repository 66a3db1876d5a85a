from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run


@pytest.fixture
def saved(run: Run, examples: Path, tmp_path: Path) -> Path:
    """A plan of `pinch` at 12 bytes, beside a copy of the graph that it names."""
    shutil.copy(examples / "pinch.json", tmp_path / "pinch.json")
    assert run("solve", tmp_path / "pinch.json", "--scratchpad", "12", "-o", tmp_path / "plan.json").code == 0
    return tmp_path / "plan.json"


def edit(path: Path, **changes: Any) -> dict[str, Any]:
    document: dict[str, Any] = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps(document))
    return document


def test_a_plan_that_holds_has_no_violations(run: Run, saved: Path) -> None:
    ending = run("verify", saved)
    assert (ending.code, ending.out, ending.err) == (0, "0 violations\n", "")


def test_bounds_are_checked_too(run: Run, examples: Path, tmp_path: Path) -> None:
    assert run("bounds", examples / "crossroads.json", "-o", tmp_path / "bounds.json").code == 0
    assert run("verify", tmp_path / "bounds.json").out == "0 violations\n"
    edit(tmp_path / "bounds.json", m_r_bytes=13)
    assert run("verify", tmp_path / "bounds.json").code == 7


def test_an_edited_offset_is_found_with_rule_tensor_and_step(run: Run, saved: Path) -> None:
    residency = json.loads(saved.read_text())["residency"]
    moved = next(entry for entry in residency if entry["tensor"] == "t1")
    moved["offset"] = next(entry for entry in residency if entry["tensor"] == "t0")["offset"]
    edit(saved, residency=residency)
    ending = run("verify", saved)
    assert ending.code == 7
    assert 'no-overlap: tensor "t1", step 1: overlaps "t0" by 6 bytes' in ending.out
    assert ending.err == f"{saved}: verification failed\n"


def test_violations_as_json(run: Run, saved: Path) -> None:
    edit(saved, traffic_bytes=9)
    ending = run("verify", saved, "--json")
    assert ending.code == 7
    assert ending.document["verified"] is False
    assert "totals" in {violation["rule"] for violation in ending.document["violations"]}


def test_a_model_that_has_changed_ends_with_5(run: Run, saved: Path) -> None:
    model = saved.parent / "pinch.json"
    model.write_text(model.read_text().replace('"size_bytes": 5', '"size_bytes": 4'))
    ending = run("verify", saved)
    assert ending.code == 5
    assert "sha256" in ending.err


@pytest.mark.parametrize(("name", "value"), [("dtype", []), ("views", "zz"), ("dim", 5), ("fold", 3)])
def test_reading_options_that_were_edited_are_bad_input(run: Run, saved: Path, name: str, value: object) -> None:
    document = json.loads(saved.read_text())
    document["provenance"]["options"][name] = value
    saved.write_text(json.dumps(document))
    ending = run("verify", saved)
    assert ending.code == 5
    assert "provenance.options" in ending.err


def test_a_model_that_is_gone_asks_for_its_file(run: Run, saved: Path) -> None:
    (saved.parent / "pinch.json").rename(saved.parent / "moved.json")
    ending = run("verify", saved)
    assert ending.code == 2
    assert "--model" in ending.err
    assert run("verify", saved, "--model", saved.parent / "moved.json").code == 0


def test_a_model_from_standard_input_asks_for_its_file(run: Run, examples: Path, tmp_path: Path) -> None:
    assert run("solve", "-", "--scratchpad", "12", "-o", tmp_path / "plan.json", stdin=(examples / "pinch.json").read_text()).code == 0
    ending = run("verify", tmp_path / "plan.json")
    assert ending.code == 2
    assert "standard input" in ending.err
    assert run("verify", tmp_path / "plan.json", "--model", examples / "pinch.json").code == 0


def test_a_document_with_mistakes_ends_with_5_and_all_of_them(run: Run, saved: Path) -> None:
    edit(saved, scratchpad_bytes="twelve", residency=[{"tensor": "t0"}], surprise=1)
    ending = run("verify", saved)
    assert ending.code == 5
    for part in ("scratchpad_bytes: must be a whole number", "residency[0].start: is missing", "surprise: unknown field"):
        assert part in ending.err


def test_an_infeasible_result_can_be_checked(run: Run, examples: Path, tmp_path: Path) -> None:
    assert run("solve", examples / "crossroads.json", "--scratchpad", "13", "-o", tmp_path / "plan.json").code == 3
    assert run("verify", tmp_path / "plan.json").code == 0
