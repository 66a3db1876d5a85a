"""The reader of published rows, which the benchmarks own."""

from __future__ import annotations

import importlib.util
import sys

from tests.conftest import CHECKOUT

_specification = importlib.util.spec_from_file_location("timeloop_rows", CHECKOUT / "benchmarks" / "timeloop_rows.py")
assert _specification is not None
assert _specification.loader is not None
_module = importlib.util.module_from_spec(_specification)
sys.modules["timeloop_rows"] = _module
_specification.loader.exec_module(_module)

RTL_FILE, TIMELOOP_FILE = _module.RTL_FILE, _module.TIMELOOP_FILE
read_rtl, read_timeloop, spearman = _module.read_rtl, _module.read_timeloop, _module.spearman
