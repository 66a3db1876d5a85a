from __future__ import annotations

import json

import pytest

from cosma_sched.result import Bound, Lever, Provenance, Reason, Status, Termination, reason_from_json, reason_to_json, relative_gap


def test_statuses_and_terminations_are_their_words() -> None:
    assert [*Status] == ["optimal", "feasible", "infeasible", "unknown"]
    assert {"proved", "gap_reached", "time_limit", "interrupted"} <= {*Termination}


@pytest.mark.parametrize(
    ("value", "bound", "gap"), [(10, 10, 0), (10, 5, 0.5), (0, 0, 0), (10, 0, 1), (None, 5, None), (10, None, None), (None, None, None)]
)
def test_the_gap_is_relative_to_the_value_and_unknown_without_a_bound(value: int | None, bound: int | None, gap: float | None) -> None:
    assert relative_gap(value, bound) == gap


def test_the_stronger_bound_wins_and_the_first_on_a_tie() -> None:
    weak, strong, none = Bound(3, ("covering",)), Bound(5, ("search",)), Bound(None)
    assert weak.best(strong) == strong.best(weak) == strong
    assert none.best(weak) == weak.best(none) == weak
    assert Bound(5, ("covering",)).best(strong).proved_by == ("covering",)


def test_provenance_reads_back() -> None:
    block = Provenance("0.1.0", "densenet121", "ab", "cbc", "fast", 7, 2, {"fold": "none"}, ("covering",), {"pulp": "3.3.2"})
    assert Provenance.from_json(json.loads(json.dumps(block.to_json()))) == block
    assert Provenance.from_json({**block.to_json(), "from_the_future": 1}) == block


def test_a_reason_reads_back() -> None:
    reason = Reason(
        "operator-fits", "step 3", "does not fit", 13, 12, 1, terms=(("a", 6), ("b", 7)), levers=(Lever("--scratchpad", 13, "M_R"),)
    )
    assert reason_from_json(json.loads(json.dumps(reason_to_json(reason)))) == reason
