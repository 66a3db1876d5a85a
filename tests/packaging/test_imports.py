"""Who may import whom, read from the sources; and what the first import costs, asked of a fresh interpreter."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "cosma_sched"
MODULES = {".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path for path in PACKAGE.rglob("*.py")}

# From the ground up, as in CONTRIBUTING.md. A module imports from earlier entries and from its own package; in SHARED entries, modules
# import from each other too.
LAYERS = (
    ("errors", "units", "files", "extras", "data"),
    (
        *("graph", "_graph_document", "_buffer", "_yaml", "accelerator", "_accelerator_document", "_accelerator_cores"),
        *(f"frontends.{name}" for name in ("stream_hardware", "_stream_core", "_stream_values")),  # read no graphs, only accelerators
        *("result", "_result_document", "progress"),
    ),
    ("frontends",),
    ("backends",),
    tuple(f"memory.{name}" for name in ("problem", "plan", "_documents", "verify")),
    ("memory", "mapping"),
    ("fusion",),
    ("tiling",),
    ("multicore",),
    ("experts",),
    ("api",),
    ("integrations", "sweep", "report"),
    ("cli",),
    ("__main__",),
)
SHARED = {0, 1, 4}
PLANNERS = ("memory", "mapping", "fusion", "tiling", "multicore", "experts")
LIGHT = {"problem", "plan", "schedule", "placement", "answer", "verify", "_documents"}
"""What every planner asks, answers and checks with: numpy and networkx, no solver."""
HEAVY = {
    "onnx",
    "ortools",
    "pulp",
    "pandas",
    "scipy",
    "torch",
    "numba",
    "matplotlib",
    "google",
    "highspy",
    "jax",
    "pymoo",
    "optuna",
    "executorch",
}
ONLY_IN_BACKENDS = {"ortools.math_opt"}


def layer(module: str) -> int:
    """Return the layer of a module; the longest name that fits decides."""
    fits = [(len(name), index) for index, names in enumerate(LAYERS) for name in names if module == name or module.startswith(f"{name}.")]
    if not fits:
        pytest.fail(f"cosma_sched.{module} stands in no layer; add it to LAYERS where it belongs")
    return max(fits)[1]


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Yield every imported name with whether the import runs when the module is loaded; what only type checkers see is left out."""

    def walk(node: ast.AST, at_load: bool) -> Iterator[tuple[str, bool]]:
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for child in node.orelse:
                yield from walk(child, at_load)
            return
        if isinstance(node, ast.Import):
            yield from ((name.name, at_load) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}:{node.lineno} imports relatively; write the full name"
            yield from ((f"{node.module}.{name.name}", at_load) for name in node.names)
        inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            yield from walk(child, at_load and not inside)

    yield from walk(ast.parse(path.read_text(encoding="utf-8")), True)


def own_module(name: str) -> str | None:
    """Return the module of ours that an imported name lies in, without the leading package, or None for foreign names."""
    if not name.startswith("cosma_sched."):
        return None
    parts = name.split(".")[1:]
    while parts and ".".join(parts) not in MODULES:
        parts.pop()
    return ".".join(parts)


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"__init__", ""}))
def test_a_module_imports_only_from_its_layer_or_below(module: str) -> None:
    for name, _ in imports(MODULES[module]):
        target = own_module(name)
        if target:
            same = target.split(".")[0] == module.split(".", maxsplit=1)[0] or layer(module) in SHARED
            assert layer(target) < layer(module) or (same and layer(target) == layer(module)), f"{module} imports {name}"


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"__init__", ""}))
def test_foreign_packages_are_imported_where_they_belong(module: str) -> None:
    for name, at_load in imports(MODULES[module]):
        top = name.split(".")[0]
        if module.rsplit(".", maxsplit=1)[-1] in LIGHT and module.startswith(PLANNERS):
            assert top not in HEAVY, f"{module} must get by on numpy and networkx, imports {name}"
        if at_load and not module.startswith(("backends", *PLANNERS)):
            assert top not in HEAVY, f"{module} loads {name} when it is imported; import it inside the function that needs it"
        if any(name.startswith(other) for other in ONLY_IN_BACKENDS):
            assert module.startswith("backends"), f"{module} imports {name}"
        if top in {"typer", "rich"}:
            assert module.startswith(("cli", "report")), f"{module} imports {name}"


def test_planners_use_no_solver_class() -> None:
    for module, path in MODULES.items():
        if module.startswith("backends"):
            continue
        text = path.read_text(encoding="utf-8")
        for word in ("PULP_CBC_CMD", "COIN_CMD", "pulp.HiGHS", "LpSolver"):
            assert word not in text, f"{module} names {word}; only back ends know solver classes"


def loaded_by(code: str) -> set[str]:
    """Return the top-level packages that a fresh interpreter has loaded after some code."""
    tail = "\nimport sys; sys.stderr.write(' '.join(sorted({name.split('.')[0] for name in sys.modules})))"
    found = subprocess.run([sys.executable, "-c", code + tail], capture_output=True, text=True, check=True)
    return set(found.stderr.split())


def foreign(names: set[str]) -> set[str]:
    """Keep what is neither the standard library nor what an interpreter starts with in this environment."""
    return names - set(sys.stdlib_module_names) - loaded_by("") - {"cosma_sched"}


def test_importing_the_package_loads_nothing_foreign() -> None:
    assert foreign(loaded_by("import cosma_sched")) == set()


def test_the_graph_loads_networkx_but_no_solver_and_no_reader() -> None:
    assert not foreign(loaded_by("import cosma_sched as cs; cs.Graph")) & (HEAVY | {"pydantic", "typer", "rich"})


def test_every_public_name_is_found_and_listed() -> None:
    code = "import cosma_sched as cs\nfor name in cs.__all__: getattr(cs, name)\nassert set(cs.__all__) <= set(dir(cs))"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    import cosma_sched

    with pytest.raises(AttributeError, match="no attribute 'plan_memroy'"):
        _ = cosma_sched.plan_memroy  # type: ignore[attr-defined]
