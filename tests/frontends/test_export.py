"""The exporter: what two files have in common when names do not matter, and that it makes the files that are there."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import onnx
import pytest

from tests.conftest import CHECKOUT
from tests.frontends.onnx_models import constant, model, node, weight

SCRIPT = CHECKOUT / "models" / "export.py"


@pytest.fixture(scope="module")
def export() -> ModuleType:
    specification = importlib.util.spec_from_file_location("zoo_export", SCRIPT)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def network(names: str = "xwacy", strides: int = 1, channels: int = 4, axis: int = 1) -> onnx.ModelProto:
    x, w, a, c, y = names
    nodes = [node("Conv", [x, w], [a], f"conv {a}", strides=[strides, strides]), node("Softmax", [a], [y], axis=axis)]
    return model(nodes, {x: [1, 3, 8, 8]}, [y], initializers=[weight(w, channels, 3, 1, 1), constant(c, [1])])


def test_names_do_not_matter(export: ModuleType) -> None:
    assert export.first_difference(network(), network("mnopq")) is None


@pytest.mark.parametrize("change", [{"strides": 2}, {"channels": 5}, {"axis": 2}])
def test_what_matters_is_a_difference(export: ModuleType, change: dict[str, int]) -> None:
    assert export.first_difference(network(), network(**change)) is not None


def test_a_missing_node_is_a_difference(export: ModuleType) -> None:
    shorter = network()
    del shorter.graph.node[1:]
    assert export.first_difference(network(), shorter) is not None


def test_large_weights_and_traces_are_taken_out(export: ModuleType) -> None:
    proto = network()
    proto.graph.initializer[0].CopyFrom(constant("w", [[[[0.0]] * 1] * 3] * 40, "float32"))
    proto.graph.initializer[0].dims[:] = [40, 3, 1, 1]
    proto.graph.node[0].doc_string = "made in /home/somebody"
    proto.metadata_props.add(key="path", value="/home/somebody")
    slim = export.slim(proto, "net")
    kept = slim.graph.initializer[0]
    assert (list(kept.dims), kept.data_location, kept.raw_data) == ([40, 3, 1, 1], onnx.TensorProto.EXTERNAL, b"")
    assert slim.graph.initializer[1].raw_data
    assert b"/home" not in slim.SerializeToString()
    assert "a" in {entry.name for entry in slim.graph.value_info}


def test_the_index_survives_being_written(export: ModuleType) -> None:
    text = export.INDEX.read_text(encoding="utf-8")
    assert export.format_index(tomllib.loads(text)) == text


def test_the_readme_is_the_one_the_index_gives(export: ModuleType) -> None:
    index = tomllib.loads(export.INDEX.read_text(encoding="utf-8"))
    text = export.README.read_text(encoding="utf-8")
    assert export.format_readme(text, index) == text


def test_an_unknown_name_is_refused_before_anything_is_exported() -> None:
    found = subprocess.run([sys.executable, str(SCRIPT), "resnet5"], capture_output=True, text=True, check=False)
    assert found.returncode == 2
    assert "no entry in zoo.toml for resnet5" in found.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet50", "transformer"])
def test_exporting_again_gives_the_same_graph(name: str, tmp_path: Path) -> None:
    for package in ("torch", "torchvision", "onnxscript"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: the extra torch brings it")
    found = subprocess.run([sys.executable, str(SCRIPT), name, "--check"], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert f"{name}: the same" in found.stdout
    assert found.returncode == 0
