"""What every test may ask for: the options of the test run, the small graphs, the shared data."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest

from cosma_sched.graph import Graph, Operator, Tensor

CHECKOUT = Path(__file__).resolve().parent.parent
SOLVERS = ("cpsat", "cbc", "highs")

# Derandomised: the default run says the same thing twice. The thorough profile looks for what it has not seen yet.
hypothesis.settings.register_profile("default", deadline=None, derandomize=True, max_examples=60, print_blob=False)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=1000)
hypothesis.settings.load_profile("default")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests marked slow too")
    parser.addoption("--solvers", default=",".join(SOLVERS), help="back ends the fixture `solver` runs over, separated by commas")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is marked slow unless the run asks for it."""
    if config.getoption("--slow") or "slow" in config.option.markexpr:
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if not item.get_closest_marker("slow")]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "solver" in metafunc.fixturenames:
        metafunc.parametrize("solver", metafunc.config.getoption("--solvers").split(","))


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The folder that holds the tests, the examples and the documents."""
    return CHECKOUT


@pytest.fixture
def small() -> Graph:
    """Three operators, everything by hand: x (4) -> a (2) -> b (3); a, b -> y (1); M_R = M_P = 6."""
    return Graph(
        [Tensor("x", 4, "input"), Tensor("a", 2), Tensor("b", 3), Tensor("y", 1, "output")],
        [
            Operator("first", "Conv", ("x",), ("a",)),
            Operator("second", "Relu", ("a",), ("b",)),
            Operator("last", "Add", ("a", "b"), ("y",)),
        ],
        name="small",
    )


@pytest.fixture(params=["pinch", "stuck", "crossroads"])
def toy(request: pytest.FixtureRequest) -> Graph:
    """Each of the three toys of the specification, read from ``examples/``."""
    return read_toy(request.param)


def read_toy(name: str) -> Graph:
    """Read one toy from ``examples/``."""
    path = CHECKOUT / "examples" / f"{name}.json"
    return Graph.from_json(path.read_bytes(), str(path))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of third-party data: the variable COSMA_SCHED_DATA, else ``../shared/data`` beside the checkout."""
    path = Path(os.environ.get("COSMA_SCHED_DATA") or CHECKOUT.parent / "shared" / "data")
    if not path.is_dir():
        pytest.skip("no shared data: the variable COSMA_SCHED_DATA names no folder and ../shared/data is absent")
    return path
