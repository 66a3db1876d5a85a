"""Synthetic traces against the figures they were fitted to; the step-time model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cosma_sched.errors import InputError, UsageError
from cosma_sched.experts.steptime import StepConstants, balance_ceiling, read_constants, step_seconds, worth
from cosma_sched.experts.synthetic import PRESETS, synthetic_profile


def mutual_information(matrices: np.ndarray) -> float:
    """Return the mean mutual information in bits."""
    found = []
    for matrix in matrices:
        joint = matrix / matrix.sum()
        product = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
        some = joint > 0
        found.append(float((joint[some] * np.log2(joint[some] / product[some])).sum()))
    return float(np.mean(found))


@pytest.mark.parametrize(
    ("name", "information", "pairs", "gini", "peak"),
    [
        ("mixtral-like", 0.100, 0.441, 0.122, 1.34),
        ("gpt-oss-like", 0.403, 0.616, 0.381, 2.62),
        pytest.param("deepseek-v3-like", 0.387, None, 0.433, 7.63, marks=pytest.mark.slow),
    ],
)
def test_a_preset_has_the_figures_it_was_fitted_to(name: str, information: float, pairs: float | None, gini: float, peak: float) -> None:
    profile = synthetic_profile(f"synthetic:{name}")
    scenario = profile.scenarios[0]
    assert profile.synthetic
    assert mutual_information(scenario.transitions) == pytest.approx(information, rel=0.1)
    if pairs is not None:
        off = scenario.coactivation * (1 - np.eye(profile.num_experts, dtype=np.int64))
        assert mutual_information(off) == pytest.approx(pairs, rel=0.1)
    shares = np.sort(profile.shares()[0], axis=1)
    experts = profile.num_experts
    assert ((2 * np.arange(1, experts + 1) - experts - 1) * shares).sum(axis=1).mean() / experts == pytest.approx(gini, rel=0.1)
    assert shares[:, -1].mean() * experts == pytest.approx(peak, rel=0.1)


def test_the_seed_is_of_the_model_and_the_token_seed_of_the_text() -> None:
    first, again, other, text = (
        synthetic_profile(f"synthetic:mixtral-like,tokens=50{more}").scenarios[0].tokens for more in ("", "", ",seed=1", ",token_seed=3")
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first, text)


@pytest.mark.parametrize("name", ["synthetic:mixtral", "synthetic:"])
def test_an_unknown_preset_names_the_known_ones(name: str) -> None:
    with pytest.raises(InputError, match="known ones are mixtral-like"):
        synthetic_profile(name)


@pytest.mark.parametrize("more", ["tokens=0", "tokens=x", "size=3", "seed=-1", "tokens"])
def test_a_malformed_parameter_is_named(more: str) -> None:
    with pytest.raises(UsageError, match=r"tokens|seed"):
        synthetic_profile(f"synthetic:mixtral-like,{more}")


def test_presets_have_the_shape_of_their_models() -> None:
    assert {name: (p.layers, p.experts, p.top_k) for name, p in PRESETS.items()} == {
        "mixtral-like": (32, 8, 2),
        "gpt-oss-like": (24, 32, 4),
        "deepseek-v3-like": (58, 256, 8),
    }


def test_the_ceiling_of_balance_is_that_of_the_formula() -> None:
    assert balance_ceiling(2.0, 1.0, 0.4, 1.0) == pytest.approx(0.2 / 0.8)
    assert balance_ceiling(2.0, 1.0, 0.4, 2.5) == 0


def test_a_step_takes_the_busiest_gpu_and_the_exchange() -> None:
    constants = StepConstants(
        tokens=100, seconds_per_token=1e-3, seconds_other=0.01, hidden=10, dispatch_bytes=1, combine_bytes=2, bytes_per_second=1000.0
    )
    seconds = step_seconds(constants, layers=2, gpus=4, top_k=2, max_over_mean=1.5, active_experts=1, copies_at_port=0.5)
    assert seconds == pytest.approx(2 * (0.01 + 1e-3 * 75 + 100 * 0.5 * 10 * 3 / 1000))


def test_without_constants_there_are_no_times() -> None:
    assert step_seconds(StepConstants(), layers=1, gpus=1, top_k=1, max_over_mean=1, active_experts=1, copies_at_port=None) is None
    assert worth(StepConstants(), {"max_over_mean": 2}, {"max_over_mean": 1}) == {}


def test_constants_are_read_and_mistakes_named(write_json: Any) -> None:
    assert read_constants(write_json("c.json", {"balance_share": 0.3})).balance_share == 0.3
    with pytest.raises(InputError, match="share: unknown constant; known ones are balance_floor"):
        read_constants(write_json("c.json", {"share": 0.3}))
    with pytest.raises(InputError, match="balance_share must be below 1"):
        read_constants(write_json("c.json", {"balance_share": 1.3}))
