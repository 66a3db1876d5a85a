"""Which back ends there are, and whether they can be used, without loading one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cosma_sched.backends import BACKENDS, SolverOptions, available, libraries, registry, solve_linear
from cosma_sched.errors import MissingError
from tests.backends.programs import cover

HEAVY = {"pulp", "ortools", "pandas", "numpy", "highspy"}


def loaded_after(code: str) -> set[str]:
    tail = "\nimport sys; sys.stdout.write(' '.join(sys.modules))"
    return set(subprocess.run([sys.executable, "-c", code + tail], capture_output=True, text=True, check=True).stdout.split())


def test_asking_what_is_available_loads_no_solver() -> None:
    assert not loaded_after("from cosma_sched.backends import available; available()") & HEAVY


def test_making_options_loads_no_solver() -> None:
    assert not loaded_after("from cosma_sched.backends import SolverOptions; SolverOptions(solver='cbc')") & HEAVY


def test_there_is_one_row_for_each_back_end() -> None:
    rows = available()
    assert [row.name for row in rows] == list(BACKENDS) == ["cpsat", "cbc", "highs"]
    assert all(row.version for row in rows if row.available)
    assert all(bool(row.reason) != row.available for row in rows)


def test_a_missing_package_is_a_reason_with_the_line_that_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libraries, "installed", lambda package: package != "ortools")
    rows = {row.name: row for row in available()}
    assert not rows["cpsat"].available
    assert rows["highs"].reason == 'not installed: pip install "ortools>=9.15"'
    assert rows["cbc"].available


def test_a_missing_executable_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "cbc_executable", lambda: None)
    assert "pulp brings no cbc for" in {row.name: row.reason for row in available()}["cbc"]


def test_cbc_on_the_path_is_found_where_pulp_brings_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own = tmp_path / "cbc"
    own.write_text("#!/bin/sh\n", encoding="ascii")
    own.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    monkeypatch.setattr(sys, "platform", "freebsd")
    assert registry.cbc_executable() == str(own)


def test_solving_without_the_library_is_a_missing_error(monkeypatch: pytest.MonkeyPatch, solver: str) -> None:
    program = cover(8)
    real = libraries.importlib.import_module

    def absent(name: str) -> object:
        if name.startswith("ortools"):
            raise ModuleNotFoundError(name)
        return real(name)

    libraries.cp_model.cache_clear()
    monkeypatch.setattr(libraries.importlib, "import_module", absent)
    monkeypatch.setattr(libraries, "installed", lambda package: package != "ortools")
    monkeypatch.setattr("cosma_sched.backends.cbc.cbc_executable", lambda: None)
    with pytest.raises(MissingError, match="pip install"):
        solve_linear(program, options=SolverOptions(solver=solver))
    libraries.cp_model.cache_clear()


FAKE_HIGHSPY = """
import sys
class cb:
    class HighsCallbackType: pass
if "ortools.sat.python.cp_model" not in sys.modules:
    class Finder:
        def find_spec(self, name, path=None, target=None):
            if name.startswith("ortools.sat.python"):
                raise ImportError("libhighs.so: undefined symbol: _ZTI: libortools.so.9")
    sys.meta_path.insert(0, Finder())
else:
    raise ImportError("highspy: undefined symbol")
"""


@pytest.fixture
def highspy(tmp_path: Path) -> str:
    """A folder with a stand-in for highspy 1.15: whichever of it and ortools is loaded second cannot be loaded."""
    (tmp_path / "highspy.py").write_text(FAKE_HIGHSPY, encoding="utf-8")
    info = tmp_path / "highspy-1.15.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: highspy\nVersion: 1.15.1\n", encoding="utf-8")
    return f"import sys; sys.path.insert(0, {str(tmp_path)!r}); "


SOLVE = """
from cosma_sched.backends import SolverOptions, solve_linear
from cosma_sched.backends.linear import Program
program = Program("p"); x = program.binary("x"); y = program.binary("y")
program.at_least([(x, 1), (y, 1)], 1, "one"); program.minimise([(x, 2), (y, 3)])
for solver in ("cbc", "cpsat"):
    sys.stdout.write(f"{solve_linear(program, options=SolverOptions(solver=solver)).objective} ")
"""


def test_with_highspy_installed_ortools_is_loaded_first(highspy: str) -> None:
    found = subprocess.run([sys.executable, "-c", highspy + SOLVE], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["2", "2"]


def test_a_clash_with_highspy_that_came_first_is_explained(highspy: str) -> None:
    found = subprocess.run([sys.executable, "-c", highspy + "import pulp" + SOLVE], capture_output=True, text=True, check=False)
    assert 'MissingError: highspy 1.15.1 clashes with ortools 9.15 (google/or-tools#5246): pip install "highspy<1.15"' in found.stderr


def test_highs_runs_where_highspy_came_first(highspy: str) -> None:
    """It runs in a process of its own, which never loads highspy."""
    code = highspy + "import pulp" + SOLVE.replace('"cbc", "cpsat"', '"cbc", "highs"')
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["2", "2"]
