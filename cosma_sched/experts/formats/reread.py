"""Reads every output format again, from the engines' rules alone: shares no code with the writers.

`compare` checks a file against a placement; `parse` returns the rows of any such file, for ``--current``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cosma_sched.errors import InputError, shown
from cosma_sched.files import decode_json, decode_text

if TYPE_CHECKING:
    from cosma_sched.experts.placement import Placement

_NAME = "exported file"


@dataclass(frozen=True, slots=True)
class Content:
    """What a file says.

    Parameters
    ----------
    rows
        Experts by slot, for each layer number in the file.
    counts_moe_layers
        Whether layer numbers count MoE layers from 0 instead of all layers.
    has_dense_layers
        Whether there are rows for dense layers too.
    stated
        Other numbers in the file, by name.
    """

    rows: Mapping[int, tuple[int, ...]]
    counts_moe_layers: bool
    has_dense_layers: bool
    stated: Mapping[str, int]


def compare(placement: Placement, name: str, content: bytes) -> list[str]:
    """Return what a file of a format says otherwise than the placement; an empty list means that it is the placement."""
    try:
        found = PARSERS[name](content)
    except (InputError, ValueError) as error:
        return [f"{name}: {error}"]
    total = placement.gpus * placement.slots_per_gpu
    numbers = range(len(placement.layers)) if found.counts_moe_layers else placement.layers
    wanted = dict(zip(numbers, placement.slots or (), strict=True))
    if found.has_dense_layers:
        last = max((*placement.layers, *placement.dense_layers))
        wanted |= {layer: tuple(s % placement.experts for s in range(total)) for layer in range(last + 1) if layer not in wanted}
    differing = sorted(set(wanted) ^ set(found.rows))
    problems = [f"{name}: layer {layer} is {'missing' if layer in wanted else 'too much'}" for layer in differing]
    for layer in sorted(set(wanted) & set(found.rows)):
        if len(found.rows[layer]) != len(wanted[layer]):
            problems.append(f"{name}: layer {layer} has {len(found.rows[layer])} slots, must have {len(wanted[layer])}")
            continue
        for slot, (mine, theirs) in enumerate(zip(wanted[layer], found.rows[layer], strict=True)):
            if mine != theirs:
                problems.append(f"{name}: layer {layer} slot {slot} holds expert {theirs}, must hold {mine}")
    expected = {"slots": total, "redundant": total - placement.experts, "gpus": placement.gpus, "layers": len(placement.layers)}
    for what, value in found.stated.items():
        if value != expected[what]:
            problems.append(f"{name}: states {value} {what}, must state {expected[what]}")
    return problems


def _ids(values: Any, where: str) -> tuple[int, ...]:
    if not isinstance(values, list) or not all(type(value) is int and value >= 0 for value in values):
        raise ValueError(f"{where} must be a list of expert ids, got {shown(values)}")
    return tuple(values)


def _keys(document: Any, wanted: set[str], where: str) -> dict[str, Any]:
    if not isinstance(document, dict) or set(document) != wanted:
        found = sorted(document) if isinstance(document, dict) else document
        raise ValueError(f"{where} must have exactly the keys {', '.join(sorted(wanted))}, got {shown(found)}")
    return document


def _number(value: Any, where: str) -> int:
    if type(value) is not int:
        raise ValueError(f"{where} must be a whole number, got {shown(value)}")
    return value


def parse_sglang(content: bytes) -> Content:
    """Read ``{"physical_to_logical_map": [[...], ...]}``, one row per decoder layer, and nothing else in it."""
    rows = _keys(decode_json(_NAME, content), {"physical_to_logical_map"}, "the file")["physical_to_logical_map"]
    if not isinstance(rows, list):
        raise ValueError("physical_to_logical_map must be a list of rows")
    return Content({layer: _ids(row, f"row {layer}") for layer, row in enumerate(rows)}, False, True, {})


def parse_trtllm(content: bytes) -> Content:
    """Read YAML with ``initial_global_assignments`` by absolute layer, ``num_slots`` and ``layer_updates_per_iter: 0``."""
    document = _keys(_yaml(content), {"initial_global_assignments", "num_slots", "layer_updates_per_iter"}, "the file")
    if _number(document["layer_updates_per_iter"], "layer_updates_per_iter") != 0:
        raise ValueError(f"layer_updates_per_iter must be 0, got {document['layer_updates_per_iter']}")
    assignments = document["initial_global_assignments"]
    if not isinstance(assignments, dict) or not all(type(layer) is int for layer in assignments):
        raise ValueError("initial_global_assignments must map layer numbers to lists")
    rows = {layer: _ids(row, f"layer {layer}") for layer, row in assignments.items()}
    return Content(rows, False, False, {"slots": _number(document["num_slots"], "num_slots")})


def _yaml(content: bytes) -> Any:
    import yaml

    text = decode_text(_NAME, content)
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        for node in (root, *(value for _, value in getattr(root, "value", []) if isinstance(value, yaml.MappingNode))):
            names = [key.value for key, _ in node.value] if isinstance(node, yaml.MappingNode) else []
            if len(set(names)) != len(names):
                raise ValueError("a key stands twice")
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"is not YAML: {' '.join(str(error).split())}") from error


def parse_vllm(content: bytes) -> Content:
    """Read one JSON line of type ``eplb_initial_mapping`` with keys "0", "1", ... for the MoE layers."""
    text = decode_text(_NAME, content)
    if len(text.splitlines()) != 1:
        raise ValueError(f"must be one line, got {len(text.splitlines())}")
    names = {"record_type", "version", "num_redundant_experts", "num_slots", "initial_global_assignments"}
    record = _keys(decode_json(_NAME, content), names, "the record")
    if record["record_type"] != "eplb_initial_mapping" or _number(record["version"], "version") != 1:
        raise ValueError(f"must be eplb_initial_mapping version 1, got {shown(record['record_type'])} version {record['version']}")
    rows = record["initial_global_assignments"]
    if not isinstance(rows, dict) or list(rows) != [str(i) for i in range(len(rows))]:
        raise ValueError('initial_global_assignments must have the keys "0", "1", ... in order')
    stated = {
        "slots": _number(record["num_slots"], "num_slots"),
        "redundant": _number(record["num_redundant_experts"], "num_redundant_experts"),
    }
    return Content({int(layer): _ids(row, f"layer {layer}") for layer, row in rows.items()}, True, False, stated)


def parse_vllm_ascend(content: bytes) -> Content:
    """Read ``layer_list`` with a ``device_list`` each; all lists equally long, no expert twice on a device."""
    document = _keys(decode_json(_NAME, content), {"moe_layer_count", "layer_list"}, "the file")
    rows: dict[int, tuple[int, ...]] = {}
    devices = set()
    for i, layer in enumerate(document["layer_list"] if isinstance(document["layer_list"], list) else []):
        entry = _keys(layer, {"layer_id", "device_count", "device_list"}, f"layer {i}")
        if _number(entry["layer_id"], "layer_id") != i or not isinstance(entry["device_list"], list):
            raise ValueError(f"layer_list[{i}] must have layer_id {i} and a device_list")
        if _number(entry["device_count"], "device_count") != len(entry["device_list"]):
            raise ValueError(f"layer {i}: device_count is {entry['device_count']}, there are {len(entry['device_list'])} devices")
        lists = [_device(device, g, i) for g, device in enumerate(entry["device_list"])]
        if len({len(experts) for experts in lists}) != 1:
            raise ValueError(f"layer {i}: devices hold different numbers of experts")
        devices.add(len(lists))
        rows[i] = tuple(expert for experts in lists for expert in experts)
    if len(devices) != 1:
        raise ValueError("layers have different numbers of devices")
    return Content(rows, True, False, {"layers": _number(document["moe_layer_count"], "moe_layer_count"), "gpus": devices.pop()})


def _device(device: Any, number: int, layer: int) -> tuple[int, ...]:
    entry = _keys(device, {"device_id", "device_expert"}, f"layer {layer} device {number}")
    experts = _ids(entry["device_expert"], f"layer {layer} device {number}")
    if _number(entry["device_id"], "device_id") != number:
        raise ValueError(f"layer {layer}: device {number} has the id {entry['device_id']}")
    if len(set(experts)) != len(experts):
        raise ValueError(f"layer {layer} device {number} holds an expert twice")
    return experts


def parse_csv(content: bytes) -> Content:
    """Read ``layer,slot,gpu,expert`` with consecutive slots; GPUs hold equally many of them."""
    lines = decode_text(_NAME, content).split("\n")
    if lines[0].strip() != "layer,slot,gpu,expert" or lines[-1] != "":
        raise ValueError("must begin with the header layer,slot,gpu,expert and end with a newline")
    rows: dict[int, list[int]] = {}
    owners: dict[int, list[int]] = {}
    for number, line in enumerate(lines[1:-1], start=2):
        cells = line.strip("\r").split(",")
        if len(cells) != 4 or not all(cell.isascii() and cell.isdigit() for cell in cells):
            raise ValueError(f"line {number}: must be four whole numbers, got {shown(line)}")
        layer, slot, gpu, expert = map(int, cells)
        if slot != len(rows.setdefault(layer, [])):
            raise ValueError(f"line {number}: slot {slot} of layer {layer} is out of order")
        rows[layer].append(expert)
        owners.setdefault(layer, []).append(gpu)
    gpus = {max(owner) + 1 for owner in owners.values()}
    for layer, owner in owners.items():
        count = max(owner) + 1
        if len(owner) % count or owner != [slot // (len(owner) // count) for slot in range(len(owner))]:
            raise ValueError(f"layer {layer}: slots do not belong to GPUs in equal blocks")
    if len(gpus) != 1:
        raise ValueError("layers have different numbers of GPUs")
    return Content({layer: tuple(row) for layer, row in rows.items()}, False, False, {"gpus": gpus.pop()})


PARSERS: dict[str, Callable[[bytes], Content]] = {
    "sglang": parse_sglang,
    "trtllm": parse_trtllm,
    "vllm": parse_vllm,
    "vllm-ascend": parse_vllm_ascend,
    "csv": parse_csv,
}
