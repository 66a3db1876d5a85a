"""The same ExecuTorch program in a smaller arena: export a model, plan its memory, run it, compare.

python examples/executorch_planner.py resnet50
python examples/executorch_planner.py mobilenet_v3_large --size 64 -o mobile.pte

Needs `pip install "cosma-sched[executorch]"`. The weights are random: nothing is downloaded. The runtime's portable kernels are slow, an
image through ResNet-50 takes half a minute; `--plan-only` leaves the runs out.
"""

# %% What is exported

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cosma_sched.errors import CosmaError, InputError
from cosma_sched.extras import need
from cosma_sched.integrations.executorch import ArenaReport, cosma_planner

SIZES = {"inception_v3": 299}
"""Height and width of the input image where they are not 224."""
WITHOUT_SLOW_START = {"googlenet", "inception_v3"}
"""Models whose own way to draw weights takes a minute, and which have a second output that inference does not use."""
TOLERANCE = 1e-3
LIBRARIES: list[Any] = []
"""Definitions of operators live as long as the library object that made them."""


def torchvision_models() -> Any:
    """Import torchvision's models, also where its compiled operators do not fit the PyTorch that is installed; no model needs them."""
    torch = need("torch", extra="executorch")
    try:
        return need("torchvision.models", extra="executorch")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    LIBRARIES.append(library)
    return need("torchvision.models", extra="executorch")


def build(name: str, size: int | None = None) -> tuple[Any, Any]:
    """Return a torchvision model with random weights and an input for it."""
    import torch

    builder = getattr(torchvision_models(), name, None)
    if builder is None:
        raise InputError(name, "no such model in torchvision.models")
    torch.manual_seed(0)
    options = {"aux_logits": False, "init_weights": False} if name in WITHOUT_SLOW_START else {}
    model = builder(weights=None, **options).eval()
    size = size or SIZES.get(name, 224)
    with torch.no_grad():
        awaken(model, torch.randn(2, 3, size, size))
    return model, torch.randn(1, 3, size, size)


def awaken(model: Any, batch: Any) -> None:
    """Let the outputs of an untrained model be neither 0 nor astronomical, or comparing them would say nothing.

    Layers that start at 0 get random weights, and each BatchNorm takes its mean and variance from a batch.
    """
    import torch

    for parameter in model.parameters():
        if parameter.ndim > 1 and not parameter.any():
            parameter.normal_(std=parameter.shape[-1] ** -0.5)
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # the statistics become those of the one batch
        norm.reset_running_stats()
        norm.train()
    model(batch)
    for norm in norms:
        norm.eval()


# %% From the model to a program; the planner goes into the memory planning pass


def lower(model: Any, image: Any, planner: Any = None) -> Any:
    """Return the ExecuTorch program, its memory planned by an algorithm, by ExecuTorch's default without one."""
    import torch
    from executorch.exir import ExecutorchBackendConfig, to_edge
    from executorch.exir.memory_planning import MemoryPlanningAlgorithmSuite
    from executorch.exir.passes import MemoryPlanningPass

    suite = MemoryPlanningAlgorithmSuite() if planner is None else MemoryPlanningAlgorithmSuite([planner])
    memory = MemoryPlanningPass(memory_planning_algo=suite)
    edge = to_edge(torch.export.export(model, (image,)))
    return edge.to_executorch(ExecutorchBackendConfig(memory_planning_pass=memory))


def arena_bytes(program: Any) -> int:
    """Return the bytes of all arenas that a program asks its host for."""
    return sum(program.exported_program().graph_module.meta["non_const_buffer_sizes"])


def check(program: Any) -> None:
    """Let ExecuTorch's own verifier look for tensors that share bytes; it raises where it finds some."""
    from executorch.exir.memory_planning import Verifier

    exported = program.exported_program()
    Verifier(exported.graph_module, True, True, True, exported.graph_signature).verify_storage_reuse()


def save(program: Any, path: Path) -> None:
    """Write a program as a ``.pte`` file."""
    with path.open("wb") as file:
        program.write_to_file(file)


# %% From the program to outputs


def run(path: Path, image: Any) -> Any:
    """Load a program with the ExecuTorch runtime and run it once."""
    from executorch.runtime import Runtime

    method = Runtime.get().load_program(path).load_method("forward")
    return method.execute([image])[0].clone()


def difference(outputs: Any, expected: Any) -> float:
    """Return the largest difference, relative to the largest expected value."""
    return float((outputs - expected).abs().max() / expected.abs().max())


# %% All of it


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", nargs="?", default="resnet50", metavar="MODEL", help="a classifier of torchvision.models")
    parser.add_argument("-o", "--output", metavar="FILE", help="where the program goes (default: MODEL.pte in the current folder)")
    parser.add_argument("--size", type=int, metavar="PIXELS", help="height and width of the image (default: 224, inception_v3 299)")
    parser.add_argument("--time-limit", type=float, default=10.0, metavar="SECONDS", help="for planning (default: 10)")
    parser.add_argument("--plan-only", action="store_true", help="do not run the programs")
    options = parser.parse_args(arguments)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("cosma_sched").setLevel(logging.INFO)
    try:
        return example(options)
    except CosmaError as error:
        print(error, file=sys.stderr)
        return error.exit_code


def example(options: argparse.Namespace) -> int:
    """Plan a model both ways, save the better program, run both, compare."""
    reports: list[ArenaReport] = []
    planner = cosma_planner(time_limit=options.time_limit, observers=[reports.append])
    model, image = build(options.model, options.size)
    default, ours = lower(model, image), lower(model, image, planner)
    check(ours)
    report = reports[-1]
    print(f"default plan  {arena_bytes(default):>12,} bytes  {arena_bytes(default) / 2**20:6.2f} MiB")
    proof = "proven optimal" if report.is_optimal else f"no plan needs less than {report.bound_bytes:,}"
    print(f"our plan      {arena_bytes(ours):>12,} bytes  {arena_bytes(ours) / 2**20:6.2f} MiB  {proof}")
    output = Path(options.output or f"{options.model}.pte")
    save(ours, output)
    print(f"saved         {output}")
    return 0 if options.plan_only else compare(model, image, default, output)


def compare(model: Any, image: Any, default: Any, output: Path) -> int:
    """Run the default program and the saved one; return 1 where their outputs differ, or differ from the model's own."""
    import torch

    with tempfile.TemporaryDirectory() as place:
        other = Path(place) / "default.pte"
        save(default, other)
        expected, ours = run(other, image), run(output, image)
    with torch.no_grad():
        off = difference(ours, model(image))
    is_equal = torch.equal(ours, expected)
    print(f"outputs       {'bit-equal to' if is_equal else 'DIFFERENT from'} the default plan's, {off:.1e} relative from eager")
    return 0 if is_equal and off <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
