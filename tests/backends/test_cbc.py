"""Reading CBC's log, in the words of two of its versions, and its command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from cosma_sched.backends import SolverOptions, cbc
from cosma_sched.backends.profiles import Profile

LOGS = Path(__file__).resolve().parents[1] / "data" / "cbc"
VERSIONS = ("2.10.3", "2.935")

# The files are runs on the programs of programs.py: knapsack(20, 3), (100, 10), (250, 12), split(40, 5), (12, 2).
EXPECTED = {
    "optimal": ("Optimal solution found", -7741.0, None),
    "gap": ("Optimal solution found (within gap tolerance)", -38967.0, -39185.754),
    "time-limit": ("Stopped on time limit", None, -94947.861),
    "node-limit": ("Stopped on node limit", -94677.0, -94947.861),
    "nothing-found": ("Stopped on time limit", None, 561.0),
    "interrupted": ("User ctrl-cuser ctrl-c", None, -94947.861),
    "infeasible": ("Problem proven infeasible", None, None),
}


def read(name: str) -> cbc.Log:
    log = cbc.Log()
    for line in (LOGS / name).read_text(encoding="utf-8").splitlines():
        log.read(line)
    return log


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", EXPECTED)
def test_the_end_of_a_log_tells_result_value_and_bound(version: str, name: str) -> None:
    result, objective, bound = EXPECTED[name]
    log = read(f"{version}-{name}.log")
    assert log.result == result
    assert objective is None or log.objective == objective
    assert (log.lower_bound is None) == (bound is None)
    if bound is not None and log.lower_bound is not None:
        assert log.lower_bound == pytest.approx(bound, abs=1 if name == "nothing-found" else log.lower_bound_error)
    assert not log.infeasible
    assert log.nodes is not None


@pytest.mark.parametrize("version", VERSIONS)
def test_a_search_that_found_nothing_has_no_value(version: str) -> None:
    """CBC's solution files hold the values of the relaxation then."""
    assert read(f"{version}-nothing-found.log").objective is None


@pytest.mark.parametrize(
    "name",
    [
        "2.10.3-presolve-infeasible.log",
        "2.10.3-infeasible-preprocessing.log",
        "2.10.3-infeasible-tighten.log",
        "2.10.3-infeasible-tighten2.log",
        "2.935-presolve-infeasible.log",
    ],
)
def test_infeasibility_found_before_the_search_has_words_of_its_own(name: str) -> None:
    log = read(name)
    assert log.infeasible
    assert log.result is None


def test_an_infeasible_relaxation_is_a_result() -> None:
    assert read("2.10.3-infeasible-relaxation.log").result == "Linear relaxation infeasible"


def test_a_relaxation_too_expensive_for_a_heuristic_is_no_proof() -> None:
    log = cbc.Log()
    log.read("Cbc0006I The LP relaxation is infeasible or too expensive")
    assert not log.infeasible


@pytest.mark.parametrize("version", VERSIONS)
def test_an_unknown_option_is_noticed(version: str) -> None:
    assert read(f"{version}-unknown-option.log").unknown_option == "nosuch"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_start_is_kept_although_the_time_is_over(version: str) -> None:
    log = read(f"{version}-start.log")
    assert log.result == "Stopped on time limit"
    assert log.objective is not None


def test_incumbent_and_bound_are_read_while_it_runs() -> None:
    log = cbc.Log()
    assert log.read("Cbc0012I Integer solution of -94681 found by DiveCoefficient after 5 iterations and 0 nodes (0.03 seconds)")
    assert log.read("Cbc0010I After 1000 nodes, 3 on tree, 1e+50 best solution, best possible 514.34925 (2.33 seconds)")
    assert (log.incumbent, log.bound) == (-94681, 514.34925)
    assert not log.read("Cbc0038I Solution found of 8")


@pytest.mark.parametrize(
    ("text", "error"), [("-94947.861", 1e-3), ("-94959.6", 0.1), ("38967", 0.1), ("1.23457e+06", 10.0), ("12345678.000", 1e-3), ("0", 0.0)]
)
def test_a_printed_bound_may_be_off_by_its_last_digit(text: str, error: float) -> None:
    assert cbc._cut_off(text) == pytest.approx(error)


def arguments(options: SolverOptions, remaining: float | None = None, **parameters: object) -> list[str]:
    profile = Profile("mine.toml", "", parameters)  # type: ignore[arg-type]
    return cbc._arguments(options, profile, remaining, False)


def test_the_seed_is_never_the_time_of_day() -> None:
    """CBC takes the seed 0 as: use the clock."""
    line = arguments(SolverOptions(solver="cbc", seed=0))
    assert line[line.index("-randomSeed") + 1] == line[line.index("-randomCbcSeed") + 1] == "1"


def test_limits_and_workers_are_said_only_where_they_are_asked_for() -> None:
    assert not {"-sec", "-threads", "-maxNodes"} & set(arguments(SolverOptions(solver="cbc")))
    line = arguments(SolverOptions(solver="cbc", workers=2), 1.5)
    assert (line[line.index("-threads") + 1], line[line.index("-sec") + 1]) == ("2", "1.500")
    line = arguments(SolverOptions(solver="cbc", deterministic_limit=99.5))
    assert line[line.index("-maxNodes") + 1] == "100"


def test_parameters_of_a_profile_become_options() -> None:
    line = arguments(SolverOptions(solver="cbc"), cuts=False, strong=5, preprocess="off")
    assert [line[line.index(name) + 1] for name in ("-cuts", "-strong", "-preprocess")] == ["off", "5", "off"]


def test_the_program_is_solved_after_all_options() -> None:
    assert arguments(SolverOptions(solver="cbc"), cuts=False)[-3:] == ["-solve", "-saveSolution", "m.bin"]
