"""Fixtures of the expert tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cosma_sched.experts.formats.reading import read_profile
from cosma_sched.experts.profile import Profile


@pytest.fixture(scope="session")
def moe(shared_data: Path) -> Path:
    """The folder of published routing statistics."""
    path = shared_data / "moe"
    if not path.is_dir():
        pytest.skip("no routing statistics: the shared data has no folder moe")
    return path


@pytest.fixture(scope="session")
def mixtral(moe: Path) -> Profile:
    """577 tokens of Mixtral: 32 layers of 8 experts, top-2; P, R and C."""
    return read_profile(str(moe / "mixtral_8x7b_vllm" / "mixtral_counts.npz"))


@pytest.fixture(scope="session")
def gpt_oss(moe: Path) -> np.ndarray:
    """Token ids of GPT-OSS: 20 000 tokens, 24 layers, top-4 of 32."""
    with np.load(moe / "gpt_oss_20b" / "tokens_sample20k.npz", allow_pickle=False) as data:
        return data["T"]


@pytest.fixture(scope="session")
def deepseek(moe: Path) -> Any:
    """A function that reads one file of DeepSeek counts by its name."""
    return lambda name: read_profile(str(moe / "deepseek_v3_r1_sglang" / f"{name}.json"))


@pytest.fixture(scope="session")
def eplb_example() -> dict[str, Any]:
    """The example in the README of deepseek-ai/EPLB (MIT)."""
    return {
        "weight": np.asarray(
            [
                [90, 132, 40, 61, 104, 165, 39, 4, 73, 56, 183, 86],
                [20, 107, 104, 64, 19, 197, 187, 157, 172, 86, 16, 27],
            ]
        ),
        "phy2log": [
            [5, 6, 5, 7, 8, 4, 3, 4, 10, 9, 10, 2, 0, 1, 11, 1],
            [7, 10, 6, 8, 6, 11, 8, 9, 2, 4, 5, 1, 5, 0, 3, 1],
        ],
    }


@pytest.fixture
def write_json(tmp_path: Path) -> Any:
    """A function that writes a JSON file and returns its path."""

    def write(name: str, document: Any) -> str:
        path = tmp_path / name
        path.write_text(json.dumps(document), encoding="utf-8")
        return str(path)

    return write
