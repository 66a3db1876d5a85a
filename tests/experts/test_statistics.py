"""P, R and C: counting, and checking against each other."""

from __future__ import annotations

import numpy as np
import pytest

from cosma_sched.errors import InputError
from cosma_sched.experts import statistics
from cosma_sched.experts.profile import Scenario, build_profile
from cosma_sched.experts.statistics import check_tokens, count_coactivation, count_loads, count_transitions, whole_counts
from tests.experts.oracle import draw_tokens


def test_counts_are_those_of_the_definition() -> None:
    tokens = draw_tokens(3, num=30, layers=3, experts=5)
    loads, pairs, moves = count_loads(tokens, 5), count_coactivation(tokens, 5), count_transitions(tokens, 5)
    for layer in range(3):
        for a in range(5):
            assert loads[layer, a] == sum(a in token[layer] for token in tokens.tolist())
            for b in range(5):
                assert pairs[layer, a, b] == sum(a in token[layer] and b in token[layer] for token in tokens.tolist())
                if layer < 2:
                    assert moves[layer, a, b] == sum(a in token[layer] and b in token[layer + 1] for token in tokens.tolist())


def test_chunks_do_not_change_the_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = draw_tokens(4, num=100)
    whole = count_transitions(tokens, 6)
    monkeypatch.setattr(statistics, "CHUNK", 7)
    assert np.array_equal(count_transitions(tokens, 6), whole)


def good() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    tokens = draw_tokens(5)
    return count_loads(tokens, 6), count_transitions(tokens, 6), count_coactivation(tokens, 6)


def test_matrices_that_agree_give_k() -> None:
    loads, moves, pairs = good()
    assert build_profile([Scenario("s", loads, moves, pairs)], path="x").top_k == 2


@pytest.mark.parametrize(
    ("which", "message"), [("R", r"R layer 1 expert \d: sum over the next layer is"), ("C", r"C layer 1 .*(sum|diagonal|symmetric)")]
)
def test_a_contradiction_names_matrix_layer_expert_and_values(which: str, message: str) -> None:
    loads, moves, pairs = good()
    matrix = moves if which == "R" else pairs
    matrix[1, 2, 3] += 1
    with pytest.raises(InputError, match=message):
        build_profile([Scenario("s", loads, moves, pairs)], path="x")


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf])
def test_a_count_that_is_none_names_its_place(value: float) -> None:
    loads = np.ones((2, 4))
    loads[1, 3] = value
    with pytest.raises(InputError, match=r"x: P\[1\]\[3\]: must be a finite count >= 0"):
        whole_counts(loads, "x", "P")


def test_an_expert_out_of_range_names_token_layer_and_expert() -> None:
    with pytest.raises(InputError, match="token 0 layer 1: expert 9 is out of range, the model has experts 0 to 7"):
        check_tokens(np.asarray([[[0, 1], [9, 2]]]), "x", 8)


def test_an_expert_twice_in_one_token_is_refused() -> None:
    with pytest.raises(InputError, match="token 0 layer 0: expert 3 stands twice"):
        check_tokens(np.asarray([[[3, 3]]]), "x")


def test_dense_layers_are_dropped_and_remembered() -> None:
    profile = build_profile([Scenario("s", np.asarray([[0, 0], [1, 2], [0, 0], [3, 1]]))], path="x")
    assert profile.layers == (1, 3)
    assert profile.dense_layers == (0, 2)


def test_a_layer_that_is_empty_in_one_scenario_only_is_refused() -> None:
    some, none = np.asarray([[1, 2], [3, 4]]), np.asarray([[1, 2], [0, 0]])
    with pytest.raises(InputError, match="scenario b layer 1: has no routed tokens here"):
        build_profile([Scenario("a", some), Scenario("b", none)], path="x")


def test_scenarios_of_different_shape_are_refused() -> None:
    with pytest.raises(InputError, match="scenario b: has layers and experts"):
        build_profile([Scenario("a", np.ones((2, 3))), Scenario("b", np.ones((2, 4)))], path="x")


def test_transitions_across_a_dense_layer_are_not_guessed() -> None:
    loads, moves, _ = good()
    loads = np.insert(loads, 1, 0, axis=0)
    moves = np.concatenate([moves[:1], moves[:1], moves[1:]])
    with pytest.raises(InputError, match="layer 1: has no routed tokens, and transitions across it"):
        build_profile([Scenario("s", loads, moves)], path="x")
