"""The package description against the tree."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import pytest

import cosma_sched


@pytest.fixture(scope="module")
def setup(checkout: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(checkout / "setup.cfg", encoding="utf-8")
    return parser


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]


def test_the_listed_packages_are_those_of_the_tree(setup: configparser.ConfigParser, checkout: Path) -> None:
    """A package that is not listed is missing from the wheel, and nobody notices in the checkout."""
    code = {".".join(path.parent.relative_to(checkout).parts) for path in (checkout / "cosma_sched").rglob("__init__.py")}
    data = {f"cosma_sched._data.{name}" for name in ("models", "solvers")}
    assert set(lines(setup["options"]["packages"])) == code | data


def test_every_folder_with_code_is_a_package(checkout: Path) -> None:
    for path in (checkout / "cosma_sched").rglob("*.py"):
        assert (path.parent / "__init__.py").exists(), f"{path.parent} has no __init__.py"


def test_the_data_folders_exist_and_every_file_in_them_ships(setup: configparser.ConfigParser, checkout: Path) -> None:
    mapped = dict(line.split(" = ") for line in lines(setup["options"]["package_dir"]))
    for package, folder in mapped.items():
        patterns = [pattern.strip() for pattern in setup["options.package_data"][package].split(",")]
        shipped = {path for pattern in patterns for path in (checkout / folder).glob(pattern)}
        files = {path for path in (checkout / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts}
        left_out = {path.name for path in files - shipped if path.suffix != ".py"}
        assert not left_out, f"{folder} holds files that package_data of {package} does not name"
        assert shipped


def test_the_version_stands_in_the_citation_and_the_changelog(checkout: Path) -> None:
    assert f"version: {cosma_sched.__version__}\n" in (checkout / "CITATION.cff").read_text(encoding="utf-8")
    assert f"## {cosma_sched.__version__}" in (checkout / "CHANGELOG.md").read_text(encoding="utf-8")


def test_what_the_code_imports_is_what_the_metadata_requires(setup: configparser.ConfigParser, checkout: Path) -> None:
    named = {re.split(r"[<>=]", line)[0].lower() for line in lines(setup["options"]["install_requires"])}
    sources = "\n".join(path.read_text(encoding="utf-8") for path in (checkout / "cosma_sched").rglob("*.py"))
    imported = {name.lower() for name in re.findall(r"^\s*(?:from|import) ([A-Za-z_]+)", sources, flags=re.MULTILINE)}
    candidates = {"networkx", "numpy", "scipy", "onnx", "ortools", "pulp", "pydantic", "rich", "typer", "yaml"}
    assert {"pyyaml" if name == "yaml" else name for name in imported & candidates} == named
