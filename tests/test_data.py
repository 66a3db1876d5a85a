"""The data of the package is found wherever the package lies, and nobody else's data is taken for it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cosma_sched import data
from tests.conftest import CHECKOUT

LIST_THE_ZOO = "from cosma_sched.frontends import zoo; print(len(zoo.names()), zoo.path('resnet50'))"


def run(code: str, folder: Path, working_directory: Path) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter that finds the package in `folder`."""
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=working_directory, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder of a user who has models of their own."""
    folder = tmp_path / "user"
    for kind in ("models", "solvers"):
        (folder / kind).mkdir(parents=True)
        (folder / kind / "zoo.toml").write_text("[mine]\n")
    return folder


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The package alone, as an installer leaves it in its folder of packages."""
    folder = tmp_path / "packages"
    shutil.copytree(CHECKOUT / "cosma_sched", folder / "cosma_sched", ignore=shutil.ignore_patterns("__pycache__", "_data"))
    return folder


@pytest.mark.parametrize("kind", ["models", "solvers"])
def test_a_checkout_finds_its_own_folder(kind: str, elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(elsewhere)
    assert data.directory(kind) == CHECKOUT / kind


def test_a_checkout_is_found_without_installing_it(elsewhere: Path) -> None:
    found = run(LIST_THE_ZOO, CHECKOUT, elsewhere)
    assert found.stderr == ""
    assert str(CHECKOUT / "models" / "resnet50.onnx") in found.stdout


def test_an_installed_package_finds_its_own_data(installed: Path, elsewhere: Path) -> None:
    """So it lies after pip install of a wheel, with and without --target."""
    ours = installed / "cosma_sched" / "_data" / "models"
    shutil.copytree(CHECKOUT / "models", ours)
    found = run(LIST_THE_ZOO, installed, elsewhere)
    assert found.stderr == ""
    assert str(ours / "resnet50.onnx") in found.stdout


def test_a_folder_beside_an_installed_package_is_not_ours(installed: Path, elsewhere: Path) -> None:
    shutil.copytree(elsewhere / "models", installed / "models")
    found = run(LIST_THE_ZOO, installed, elsewhere)
    assert "the data folder models of cosma-sched is not installed" in found.stderr
