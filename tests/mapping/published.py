"""Figures and readers that tests share with the benchmarks, which own them."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

from tests.conftest import CHECKOUT


def benchmark_module(name: str) -> ModuleType:
    """Return a module of the folder of benchmarks, which is no package."""
    if name not in sys.modules:
        specification = importlib.util.spec_from_file_location(name, CHECKOUT / "benchmarks" / f"{name}.py")
        assert specification is not None
        assert specification.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(sys.modules[name])
    return sys.modules[name]


_rows = benchmark_module("timeloop_rows")
RTL_FILE, TIMELOOP_FILE = _rows.RTL_FILE, _rows.TIMELOOP_FILE
read_rtl, read_timeloop, spearman = _rows.read_rtl, _rows.read_timeloop, _rows.spearman
