from __future__ import annotations

import importlib

import pytest

from cosma_sched.backends import libraries
from cosma_sched.errors import MissingError


def test_ctrl_c_while_a_library_loads_is_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    """It used to be reported as a broken installation: compiled modules answer with an ImportError."""

    def interrupted(_: str) -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            raise ImportError("initialization failed") from error

    monkeypatch.setattr(importlib, "import_module", interrupted)
    with pytest.raises(KeyboardInterrupt):
        libraries._load("ortools.sat.python.cp_model", "ortools")


def test_a_library_that_cannot_be_loaded_is_missing_with_the_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: str) -> None:
        raise ImportError("libstdc++.so.6: cannot open shared object file")

    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(MissingError, match=r"ortools is installed but cannot be loaded: libstdc\+\+"):
        libraries._load("ortools.sat.python.cp_model", "ortools")
