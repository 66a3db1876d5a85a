"""Saved results of fusion, checked by the command: a graph, a layer table, a changed number, a model that is gone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cosma_sched.api import load_result
from cosma_sched.cli import main
from cosma_sched.files import encode_json
from cosma_sched.frontends import load
from cosma_sched.fusion.answer import FusionResult
from cosma_sched.fusion.calls import fuse
from cosma_sched.mapping.layer_table import read_layer_table
from tests.fusion.cases import RESIDUAL

_TABLE = "name,K,C,P,Q,R,S\na,8,3,16,16,3,3\nb,8,8,16,16,3,3\nc,4,8,16,16,1,1\n"


@pytest.fixture(params=["graph.json", "table.csv"])
def saved(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A result beside the model that it names."""
    model = tmp_path / request.param
    if model.suffix == ".csv":
        model.write_text(_TABLE)
        result = fuse(read_layer_table(model), "gemmini_small")
    else:
        model.write_text(encode_json(RESIDUAL.graph().to_json()))
        result = fuse(load(model), "gemmini_small")
    assert any(len(group.layers) > 1 for group in result.groups)
    result.save(tmp_path / "fused.json")
    return tmp_path / "fused.json"


def test_a_saved_result_is_read_back_and_holds(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert isinstance(load_result(saved), FusionResult)
    assert main(["verify", str(saved)]) == 0
    assert capsys.readouterr().out == "0 violations\n"


def test_a_changed_peak_is_named_with_its_group(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads(saved.read_text())
    group = next(group for group in document["groups"] if len(group["layers"]) > 1)
    group["peak_bytes"] -= 1
    saved.write_text(json.dumps(document))
    assert main(["verify", str(saved)]) == 7
    assert f"peak_bytes is {group['peak_bytes']}, its steps give {group['peak_bytes'] + 1}" in capsys.readouterr().out


def test_a_model_that_is_gone_is_named(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = next(path for path in saved.parent.iterdir() if path != saved)
    model.unlink()
    assert main(["verify", str(saved)]) != 0
    assert model.name in capsys.readouterr().err
