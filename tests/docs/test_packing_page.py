"""The Python of the page on packing runs, and ends with its claims checked."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]


def test_the_python_of_the_page_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (CHECKOUT / "docs" / "packing.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(CHECKOUT)
    exec(compile(code, "packing.md", "exec"), {})
