"""The examples beside the page on several cores run and keep what they claim."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.mark.parametrize("name", ["schedule_attention", "schedule_swiglu"])
def test_an_example_keeps_what_it_claims(name: str) -> None:
    assert runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"]() == 0
