"""The planner inside ExecuTorch itself: programs are exported, planned, checked by ExecuTorch's verifier and run."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path
from typing import Any

import pytest

from cosma_sched.errors import InputError
from cosma_sched.integrations.executorch import ArenaReport, cosma_planner

pytest.importorskip("executorch")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch = pytest.importorskip("torch")
    from executorch.exir import ExecutorchBackendConfig, to_edge
    from executorch.exir.memory_planning import MemoryPlanningAlgorithmSuite, Verifier, greedy
    from executorch.exir.passes import MemoryPlanningPass
    from executorch.runtime import Runtime

pytestmark = pytest.mark.filterwarnings("ignore")  # what ExecuTorch and PyTorch deprecate in each other is not ours


class Branches(torch.nn.Module):
    """Sizes that rise and fall while several tensors live: greedy objects do not fit into each other."""

    def forward(self, x: Any) -> Any:
        wide = torch.cat([x, x.relu(), x.sigmoid()])
        narrow = wide[:4].tanh()
        return torch.cat([narrow, wide * wide.sum(), narrow]).cumsum(0)


class Choice(torch.nn.Module):
    """Control flow: the submodules' tensors lie at the bottom of the arena."""

    def forward(self, flag: Any, x: Any) -> Any:
        y = x * 2
        return torch.cond(flag.sum() > 0, lambda a: (a + 1) * a, lambda a: (a - 1).relu() * 3, [y]) + y


class Rows(torch.nn.Module):
    """A loop over rows: the submodule's inputs are planned too."""

    def forward(self, x: Any) -> Any:
        from torch._higher_order_ops.map import map as for_each

        return for_each(lambda row: (row + 1) * 2, x) + 1


class Chain(torch.nn.Module):
    """Element by element, so that each result may lie where the one before lay."""

    def forward(self, x: Any) -> Any:
        return ((x + 1).sigmoid().tanh() * 3).exp()


IMAGE = torch.arange(64.0).reshape(8, 8) / 64
PROGRAMS = {
    "branches": (Branches(), (IMAGE,)),
    "choice": (Choice(), (torch.ones(1), IMAGE)),
    "rows": (Rows(), (IMAGE,)),
    "chain": (Chain(), (IMAGE,)),
}


def lower(name: str, algorithms: list[Any] | None, shared: tuple[str, ...] = (), **options: Any) -> Any:
    """Return a program planned by some algorithms, with results of the named operators placed in their first operand."""
    model, inputs = PROGRAMS[name]
    edge = to_edge(torch.export.export(model, inputs))
    for node in edge.exported_program().graph.nodes:
        if node.name.startswith(shared) and shared:
            node.meta["_share_alloc_with_arg_idx"] = 0
    suite = MemoryPlanningAlgorithmSuite(algorithms)
    return edge.to_executorch(ExecutorchBackendConfig(memory_planning_pass=MemoryPlanningPass(suite, **options)))


def arenas(program: Any, is_given_outside: bool = False) -> list[int]:
    exported = program.exported_program()
    Verifier(exported.graph_module, not is_given_outside, not is_given_outside, True, exported.graph_signature).verify_storage_reuse()
    return list(exported.graph_module.meta["non_const_buffer_sizes"])


def outputs(program: Any, name: str) -> Any:
    loaded = Runtime.get().load_program(program.buffer)
    return loaded.load_method("forward").execute(list(PROGRAMS[name][1]))[0].clone()


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("fallback", ["greedy", None])
def test_a_planned_program_computes_the_same(name: str, fallback: str | None) -> None:
    default, ours = lower(name, None), lower(name, [cosma_planner(fallback=fallback)])
    assert len(arenas(ours)) == len(arenas(default))
    assert sum(arenas(ours)) <= sum(arenas(default))
    assert torch.equal(outputs(ours, name), outputs(default, name))
    model, inputs = PROGRAMS[name]
    torch.testing.assert_close(outputs(ours, name), model(*inputs))


@pytest.mark.parametrize("alignment", [16, 64, 4096])
def test_the_alignment_of_the_pass_is_kept(alignment: int) -> None:
    program = lower("branches", [cosma_planner()], alignment=alignment)
    assert arenas(program)[1] % alignment == 0
    assert torch.equal(outputs(program, "branches"), outputs(lower("branches", None), "branches"))


def test_inputs_and_outputs_may_stay_outside() -> None:
    options = {"alloc_graph_input": False, "alloc_graph_output": False}
    default, ours = (lower("choice", algorithms, **options) for algorithms in (None, [cosma_planner()]))
    assert arenas(ours, True) <= arenas(default, True)


def test_results_that_share_their_operands_bytes_stay_where_they_belong() -> None:
    reports: list[ArenaReport] = []
    shared = ("aten_sigmoid", "aten_tanh")
    ours = lower("chain", [cosma_planner(observers=[reports.append])], shared)
    assert arenas(ours) <= arenas(lower("chain", None, shared))
    specs = {node.name: node.meta["spec"] for node in ours.exported_program().graph.nodes if node.name.startswith("aten_")}
    backed = [spec for spec in specs.values() if spec.storage_base is not None]
    assert len(backed) == 2
    assert all(spec.mem_offset == spec.storage_base.mem_offset for spec in backed)
    assert torch.equal(outputs(ours, "chain"), outputs(lower("chain", None), "chain"))


def test_tensors_in_pools_of_their_own_are_packed_apart() -> None:
    def apart(alignment: int, specs: Any, *rest: Any) -> Any:
        specs = list(specs)
        for index, spec in enumerate(specs):
            spec.mem_id = 1 + index % 3
        return planner(alignment, specs, *rest)

    planner = cosma_planner()
    program = lower("branches", [apart])
    sizes = arenas(program)
    assert len(sizes) == 4
    assert all(sizes[1:])
    assert torch.equal(outputs(program, "branches"), outputs(lower("branches", None), "branches"))


def test_beside_greedy_in_one_suite_the_smaller_plan_wins() -> None:
    assert arenas(lower("branches", [greedy, cosma_planner(fallback=None)])) <= arenas(lower("branches", None))


def test_a_tensor_without_a_lifetime_is_named() -> None:
    def lifeless(alignment: int, specs: Any, *rest: Any) -> Any:
        specs = list(specs)
        specs[-1].lifetime = [None, None]
        return cosma_planner()(alignment, specs, *rest)

    with pytest.raises(InputError, match='tensor "aten_cumsum_default": has no lifetime'):
        lower("branches", [lifeless])


def test_the_example_runs(tmp_path: Path, checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("PIL")
    place = importlib.util.spec_from_file_location("executorch_planner", checkout / "examples" / "executorch_planner.py")
    assert place is not None
    assert place.loader is not None
    example = importlib.util.module_from_spec(place)
    place.loader.exec_module(example)
    program = tmp_path / "model.pte"
    assert example.main(["mobilenet_v3_large", "--size", "64", "-o", str(program)]) == 0
    printed = capsys.readouterr().out
    assert "proven optimal" in printed
    assert "bit-equal to the default plan's" in printed
    assert program.stat().st_size > 1_000_000
