from __future__ import annotations

import copy
import pickle

import pytest

from cosma_sched.errors import (
    BackendError,
    CosmaError,
    Defect,
    InfeasibleError,
    InputError,
    Lever,
    MissingError,
    Reason,
    UsageError,
    VerificationError,
    shown,
    suggestion,
)

REASON = Reason("operator-fits", "step 1", "two is more than one", 2, 1, 1, terms=(("x", 2),), levers=(Lever("--scratchpad", 2, "M_R"),))


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (UsageError("no"), 2),
        (InfeasibleError([REASON]), 3),
        (InputError("a.json", "no"), 5),
        (MissingError("no"), 6),
        (BackendError("cbc", "crashed"), 1),
        (VerificationError(["overlap"]), 7),
    ],
)
def test_each_error_knows_its_exit_code(error: CosmaError, exit_code: int) -> None:
    assert error.exit_code == exit_code


def test_an_input_error_prints_one_line_per_mistake() -> None:
    error = InputError("a.json", [Defect("operators[0]", "is bad"), Defect("", "is worse")])
    assert str(error).splitlines() == ["a.json: operators[0]: is bad", "a.json: is worse"]


def test_twenty_mistakes_are_shown_and_the_rest_counted() -> None:
    lines = str(InputError("a.json", [Defect(f"[{i}]", "is bad") for i in range(25)])).splitlines()
    assert len(lines) == 21
    assert lines[-1] == "a.json: and 5 more"


@pytest.mark.parametrize(
    "error", [InputError("a", [Defect("x", "y")]), InfeasibleError([REASON]), BackendError("cbc", "crashed", "log", ["f"])]
)
def test_errors_survive_pickling_and_copying(error: CosmaError) -> None:
    """A worker process hands its error back by pickling it."""
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert str(copy.copy(error)) == str(error)


def test_a_backend_error_shows_the_end_of_the_log_and_what_was_kept() -> None:
    text = str(BackendError("cbc", "crashed", "\n".join(f"line {i}" for i in range(30)), ["/tmp/model.mps"]))
    assert text.splitlines()[0] == "cbc: crashed"
    assert "line 29" in text
    assert "line 5\n" not in text
    assert "kept for a report: /tmp/model.mps" in text


def test_values_are_quoted_short_and_on_one_line() -> None:
    assert shown("a\nb") == '"a\\nb"'
    assert shown("it's") == '"it\'s"'
    assert len(shown("x" * 1000)) < 80
    assert len(shown(list(range(1000)))) < 80


def test_only_a_near_name_is_suggested() -> None:
    assert suggestion("densenet12", ["densenet121", "resnet50"]) == '; did you mean "densenet121"?'
    assert suggestion("zzz", ["densenet121", "resnet50"]) == ""
