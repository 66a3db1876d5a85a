"""Profiles are found by name, read strictly, and cannot take over what the options say."""

from __future__ import annotations

from pathlib import Path

import pytest

from cosma_sched import data
from cosma_sched.backends import BACKENDS, SolverOptions, solve_linear
from cosma_sched.backends.profiles import load_profile
from cosma_sched.errors import InputError
from tests.backends.programs import cover


@pytest.fixture
def profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that stands for ``solvers/``."""
    monkeypatch.setattr(data, "directory", lambda kind: tmp_path / kind)
    return tmp_path / "solvers"


def write(folder: Path, backend: str, name: str, text: str) -> None:
    (folder / backend).mkdir(parents=True, exist_ok=True)
    (folder / backend / f"{name}.toml").write_text(text, encoding="utf-8")


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_back_end_has_a_default_profile(backend: str) -> None:
    assert load_profile(backend, "default").description


def test_an_unknown_profile_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match=r'defualt: no such profile of cbc; known names are default.*did you mean "default"'):
        load_profile("cbc", "defualt")


def test_a_name_cannot_leave_the_folder(profiles: Path) -> None:
    write(profiles, "cbc", "default", "")
    (profiles / "secret.toml").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="no such profile"):
        load_profile("cbc", "../secret")


def test_parameters_are_read_with_their_types(profiles: Path) -> None:
    write(profiles, "cpsat", "mine", "[parameters]\nlinearization_level = 2\ncp_model_presolve = false\n")
    assert dict(load_profile("cpsat", "mine").parameters) == {"linearization_level": 2, "cp_model_presolve": False}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("parameters = 3", "parameters: must be a table"),
        ("[parameters]\nx = nan", "parameters.x: must be a finite number"),
        ("[parameters]\nx = [1]", "parameters.x: must be a finite number, a string or a truth value"),
        ("[parameter]\n", "parameter: unknown field"),
        ("[parameters\n", "is not TOML"),
    ],
)
def test_a_mistake_in_a_profile_is_an_input_error(profiles: Path, text: str, message: str) -> None:
    write(profiles, "cbc", "mine", text)
    with pytest.raises(InputError, match=message):
        load_profile("cbc", "mine")


def test_a_profile_cannot_set_what_an_option_sets(profiles: Path) -> None:
    write(profiles, "cpsat", "mine", "[parameters]\nnum_workers = 8\n")
    with pytest.raises(InputError, match=r"parameters\.num_workers: is set by the option workers"):
        solve_linear(cover(8), options=SolverOptions(profile="mine"))


@pytest.mark.parametrize(
    ("backend", "text", "message"),
    [
        ("cpsat", "nosuch = 1", r"mine\.toml: parameters\.nosuch: is no parameter of CP-SAT"),
        ("cpsat", 'linearization_level = "a lot"', r"parameters\.linearization_level: has the wrong type"),
        ("cbc", "nosuch = 1", r"mine\.toml: parameters\.nosuch: is no option of CBC"),
        ("highs", "nosuch = 1", r"mine\.toml: HiGHS refused one of the parameters nosuch"),
    ],
)
def test_a_parameter_that_the_solver_does_not_know_is_an_input_error(profiles: Path, backend: str, text: str, message: str) -> None:
    write(profiles, backend, "mine", f"[parameters]\n{text}\n")
    with pytest.raises(InputError, match=message):
        solve_linear(cover(8), options=SolverOptions(solver=backend, profile="mine"))


@pytest.mark.parametrize(
    ("backend", "text"), [("cpsat", "linearization_level = 2"), ("cbc", "cuts = false"), ("highs", 'presolve = "off"')]
)
def test_a_parameter_reaches_the_solver(profiles: Path, backend: str, text: str) -> None:
    write(profiles, backend, "mine", f"[parameters]\n{text}\n")
    outcome = solve_linear(cover(12), options=SolverOptions(solver=backend, profile="mine"))
    assert outcome.objective == outcome.bound
