"""Make the files of the zoo: export networks as ONNX without their weights, and fill in the cards.

    python models/export.py [NAME ...]           export, and write zoo.toml and README.md anew
    python models/export.py [NAME ...] --check   export to a temporary folder and compare with the files that are there

``zoo.toml`` says what to export: a new network is a new entry there. Needs the extra ``torch`` (bert_base also ``transformers``, nasnet_a
and pnasnet5 also ``timm``).
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import importlib.metadata
import inspect
import json
import math
import re
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import onnx

FOLDER = Path(__file__).resolve().parent
INDEX = FOLDER / "zoo.toml"
README = FOLDER / "README.md"
MAX_KEPT_ELEMENTS = 64
WEIGHTS_FILE = "weights-not-shipped.bin"
FIELDS = ("definition", "options", "inputs", "opset", "remark", "version", "operators", "m_r_bytes", "m_p_bytes", "sha256")
"""Keys of an entry of the index in the order in which they are written; the last five are measured."""

Entry = dict[str, Any]


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="networks of the index; all by default")
    parser.add_argument("--check", action="store_true", help="compare with the files that are there; exit 1 on a difference")
    parser.add_argument("--cards", action="store_true", help="measure the files that are there and write the cards anew; no export")
    options = parser.parse_args(arguments)
    index: dict[str, Entry] = tomllib.loads(INDEX.read_text(encoding="utf-8"))
    names = options.names or list(index)
    if unknown := [name for name in names if name not in index]:
        parser.error(f"no entry in {INDEX.name} for {', '.join(unknown)}; known names are {', '.join(index)}")
    if options.check:
        return check(index, names)
    if not options.cards:
        for name in names:
            model = export(name, index[name])
            (FOLDER / f"{name}.onnx").write_bytes(model.SerializeToString(deterministic=True))
            index[name]["version"] = versions(index[name])
    INDEX.write_text(format_index(index), encoding="utf-8")  # the names must be known before they can be measured
    for name in names:
        index[name] |= measured(name)
        print(f"{name}: {index[name]['operators']} operators, M_R {index[name]['m_r_bytes']:,}, M_P {index[name]['m_p_bytes']:,}")
    INDEX.write_text(format_index(index), encoding="utf-8")
    README.write_text(format_readme(README.read_text(encoding="utf-8"), index), encoding="utf-8")
    return 0


# Exporting


def export(name: str, entry: Entry) -> onnx.ModelProto:
    """Return a network as ONNX without its weights."""
    import torch

    torch.manual_seed(0)
    network = build(entry).eval()
    inputs = {block["name"]: torch.zeros(block["shape"], dtype=getattr(torch, block["dtype"])) for block in entry["inputs"]}
    with torch.no_grad():
        program = torch.export.export(network, tuple(inputs.values()), strict=False)
        exported = torch.onnx.export(
            program,
            dynamo=True,
            optimize=False,  # optimising would fold batch normalisations away
            opset_version=entry["opset"],
            input_names=list(inputs),
            verbose=False,
        )
    return slim(exported.model_proto, name)


def build(entry: Entry) -> Any:
    """Return the network that an entry defines, with random weights; a new source of networks is a new line in BUILDERS."""
    package = entry["definition"].partition(".")[0]
    return BUILDERS[package](entry["definition"], dict(entry.get("options", {})))


def from_torchvision(definition: str, options: dict[str, Any]) -> Any:
    """Build a torchvision model by its function's name."""
    function = import_torchvision().models.get_model_builder(definition.rpartition(".")[2])
    if "weights_backbone" in inspect.signature(function).parameters:
        options["weights_backbone"] = None  # its default downloads them
    return function(weights=None, **options)


def import_torchvision() -> Any:
    """Import torchvision; where it is built for another torch, define the two operators whose absence stops the import."""
    import torch

    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    library = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    KEPT_LIBRARIES.append(library)
    for module in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[module]
    return importlib.import_module("torchvision")


KEPT_LIBRARIES: list[Any] = []
"""Operators live as long as the library object that defines them."""


def from_torch(definition: str, options: dict[str, Any]) -> Any:
    """Build a module of torch itself by its class name."""
    module, _, name = definition.rpartition(".")
    return getattr(importlib.import_module(module), name)(**options)


def from_transformers(definition: str, options: dict[str, Any]) -> Any:
    """Build a model of transformers in its default configuration."""
    model = getattr(importlib.import_module("transformers"), definition.rpartition(".")[2])
    return model(model.config_class(), **options)


def from_here(definition: str, options: dict[str, Any]) -> Any:
    """Build a network defined in a module beside this file."""
    module, _, name = definition.rpartition(".")
    return getattr(importlib.import_module(module), name)(**options)


def from_timm(definition: str, options: dict[str, Any]) -> Any:
    """Build a timm model by its registered name; timm needs torchvision."""
    import_torchvision()
    return importlib.import_module("timm").create_model(definition.rpartition(".")[2], pretrained=False, **options)


BUILDERS: dict[str, Callable[[str, dict[str, Any]], Any]] = {
    "networks": from_here,
    "nas": from_here,
    "timm": from_timm,
    "torchvision": from_torchvision,
    "torch": from_torch,
    "transformers": from_transformers,
}


def versions(entry: Entry) -> str:
    """Return the packages that made a file, with their versions."""
    packages = dict.fromkeys([entry["definition"].partition(".")[0], "torch", "onnxscript"])
    for ours in ("networks", "nas"):
        packages.pop(ours, None)
    return ", ".join(f"{package} {importlib.metadata.version(package).partition('+')[0]}" for package in packages)


def slim(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """Take the weights out of a model, complete its shapes, and drop what says where it was made."""
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) > MAX_KEPT_ELEMENTS:
            make_external(tensor)
    model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    model.graph.name = name
    graph = model.graph
    parts = [model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output, *graph.value_info, *model.functions]
    for part in parts:
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    return model


def make_external(tensor: onnx.TensorProto) -> None:
    """Turn a tensor into a reference to a file that is not shipped; dimensions and type stay."""
    kept = onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims, data_location=onnx.TensorProto.EXTERNAL)
    kept.external_data.add(key="location", value=WEIGHTS_FILE)
    tensor.CopyFrom(kept)


# Comparing


def check(index: Mapping[str, Entry], names: Iterable[str]) -> int:
    """Export again and compare; print the first difference of each network and return 1 if there is any."""
    different = 0
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            fresh = Path(folder) / f"{name}.onnx"
            fresh.write_bytes(export(name, index[name]).SerializeToString(deterministic=True))
            difference = first_difference(load(FOLDER / fresh.name), load(fresh))
            print(f"{name}: {difference or 'the same'}")
            different += difference is not None
    return 1 if different else 0


def load(path: Path) -> onnx.ModelProto:
    """Load a model without its external data."""
    return onnx.load(path, load_external_data=False)


def first_difference(old: onnx.ModelProto, new: onnx.ModelProto) -> str | None:
    """Return the first line in which two models differ after normalisation, or None where they are the same."""
    lines = list(canonical(old)), list(canonical(new))
    for position, (before, after) in enumerate(zip(*lines, strict=False)):
        if before != after:
            return f"line {position}: was {before}, is {after}"
    if len(lines[0]) != len(lines[1]):
        return f"had {len(lines[0])} lines, has {len(lines[1])}"
    return None


def canonical(model: onnx.ModelProto) -> Iterator[str]:
    """Yield a model as lines in which names do not matter: values are numbered in the order in which they appear."""
    graph = model.graph
    yield f"opsets {sorted((entry.domain, entry.version) for entry in model.opset_import)}"
    numbers: dict[str, str] = {"": "-"}

    def number(name: str) -> str:
        return numbers.setdefault(name, f"%{len(numbers)}")

    stored = {tensor.name: tensor for tensor in graph.initializer}
    types = {value.name: value.type for value in (*graph.input, *graph.output, *graph.value_info)}
    seen: set[str] = set()
    for value in graph.input:
        yield f"input {number(value.name)} {type_line(value.type)}"
    for node in graph.node:
        for name in node.input:
            if name in stored and name not in seen:
                seen.add(name)
                yield f"initializer {number(name)} {tensor_line(stored[name])}"
        attributes = sorted(attribute_line(attribute) for attribute in node.attribute)
        yield f"node {node.domain}:{node.op_type} {[number(name) for name in node.input]} {attributes}"
        for name in node.output:
            yield f"output {number(name)} {type_line(types[name]) if name in types else ''}"
    yield f"outputs {[number(value.name) for value in graph.output]}"


def type_line(proto: onnx.TypeProto) -> str:
    """Return a type in one line; symbolic dimensions count as unknown."""
    tensor = proto.tensor_type
    dims = [dim.dim_value if dim.HasField("dim_value") else "?" for dim in tensor.shape.dim]
    return f"{proto.WhichOneof('value')} {tensor.elem_type} {dims}"


def tensor_line(tensor: onnx.TensorProto) -> str:
    """Return a tensor in one line: type, dimensions, and the values where the file has them."""
    has_values = tensor.data_location != onnx.TensorProto.EXTERNAL
    values = onnx.numpy_helper.to_array(tensor).tolist() if has_values else "external"
    return f"{tensor.data_type} {list(tensor.dims)} {values}"


def attribute_line(attribute: onnx.AttributeProto) -> str:
    """Return an attribute in one line."""
    value = onnx.helper.get_attribute_value(attribute)
    return f"{attribute.name}={tensor_line(value) if isinstance(value, onnx.TensorProto) else value}"


# Cards


def measured(name: str) -> Entry:
    """Return what the card says about the file: its digest, and the network as it loads by name."""
    sys.path.insert(0, str(FOLDER.parent))
    import cosma_sched

    graph = cosma_sched.load(name)
    bounds = cosma_sched.memory_bounds(graph)
    if bounds.m_p_status != "optimal":
        raise SystemExit(f"{name}: M_P is not proven, and a card states no guess")
    digest = hashlib.sha256((FOLDER / f"{name}.onnx").read_bytes()).hexdigest()
    return {"operators": len(graph), "m_r_bytes": bounds.m_r_bytes, "m_p_bytes": bounds.m_p_bytes, "sha256": digest}


def format_index(index: Mapping[str, Entry]) -> str:
    """Return the index as TOML."""
    blocks = ["# The index of the zoo. Written by hand: definition, options, inputs, opset, remark; models/export.py fills in the rest.\n"]
    for name, entry in index.items():
        lines = [f"{key} = {toml(entry[key])}" for key in FIELDS if key in entry]
        blocks.append("\n".join([f"[{name}]", *lines]) + "\n")
    return "\n".join(blocks)


def toml(value: Any) -> str:
    """Return a value in TOML's notation."""
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{key} = {toml(item)}' for key, item in value.items())} }}"
    if isinstance(value, list):
        return f"[{', '.join(toml(item) for item in value)}]"
    return json.dumps(value, ensure_ascii=False)


def format_readme(text: str, index: Mapping[str, Entry]) -> str:
    """Return the README with the cards between its two markers written anew."""
    rows = ["| name | operators | M_R | M_P | input |", "|---|---:|---:|---:|---|"]
    cards = []
    for name, entry in index.items():
        shapes = ", ".join(f"{block['name']} {'x'.join(map(str, block['shape']))} {block['dtype']}" for block in entry["inputs"])
        numbers = f"{entry['operators']} | {entry['m_r_bytes']:,} | {entry['m_p_bytes']:,}"
        rows.append(f"| [{name}](#{name}) | {numbers} | {shapes} |")
        options = ", ".join(f"{key}={value}" for key, value in entry.get("options", {}).items())
        cards += [
            f"### {name}\n",
            *([entry["remark"] + "\n"] if "remark" in entry else []),
            f"- source: `{entry['definition']}({options})`, random weights, evaluation mode",
            f"- version: {entry['version']}",
            f"- input: {shapes}; opset {entry['opset']}",
            f"- exporter: `python models/export.py {name}`",
            f"- operators {entry['operators']}, M_R {entry['m_r_bytes']:,} bytes, M_P {entry['m_p_bytes']:,} bytes",
            f"- sha256: `{entry['sha256']}`\n",
        ]
    block = "\n".join(["<!-- cards -->\n", *rows, "", *cards, "<!-- end of cards -->"])
    return re.sub(r"<!-- cards -->.*<!-- end of cards -->", lambda _: block, text, flags=re.DOTALL)


if __name__ == "__main__":
    sys.exit(main())
