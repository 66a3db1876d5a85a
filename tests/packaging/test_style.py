"""House rules that a reader feels and no linter checks."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
SOURCES = sorted((CHECKOUT / "cosma_sched").rglob("*.py"))
MAX_LINES = 500
MAX_FUNCTION_LINES = 60


def identity(path: Path) -> str:
    return str(path.relative_to(CHECKOUT))


@pytest.mark.parametrize("path", SOURCES, ids=identity)
def test_a_module_is_short_and_says_what_it_is(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= MAX_LINES
    assert ast.get_docstring(ast.parse(text)), "has no docstring"


@pytest.mark.parametrize("path", SOURCES, ids=identity)
def test_the_library_neither_prints_nor_asserts_nor_hides_failures(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        assert not isinstance(node, ast.Assert), f"line {node.lineno}: assert"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id != "print", f"line {node.lineno}: print"
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"line {node.lineno}: bare except"
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            work = node.body[1 if ast.get_docstring(node) is not None else 0 :]  # options and their documentation may be long
            length = (work[-1].end_lineno or 0) - work[0].lineno + 1 if work else 0
            assert length <= MAX_FUNCTION_LINES, f"line {node.lineno}: the body of {node.name} has {length} lines"


def test_most_modules_are_near_150_lines() -> None:
    lengths = sorted(path.read_text(encoding="utf-8").count("\n") for path in SOURCES)
    assert lengths[len(lengths) // 2] <= 200


def test_no_module_has_the_name_of_a_package_beside_it() -> None:
    for path in SOURCES:
        assert not path.with_suffix("").is_dir(), f"{identity(path)} and the folder beside it have one name"


@pytest.mark.parametrize("folder", ["benchmarks", "examples", "models", "tests"])
def test_no_script_has_the_name_of_a_module_of_the_standard_library(folder: str) -> None:
    """Run as a script, it would stand in front of that module."""
    import sys

    for path in (CHECKOUT / folder).glob("*.py"):
        assert path.stem not in sys.stdlib_module_names or path.stem.startswith("__"), identity(path)
