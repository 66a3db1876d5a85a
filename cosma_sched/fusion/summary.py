"""What a fusion result says beside its costs, recomputed for the checker: what the scratchpad holds, words moved, each layer's share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from cosma_sched.fusion.answer import FusedGroup, FusionResult, GroupStep
from cosma_sched.fusion.replay import Replay
from cosma_sched.fusion.structure import Broken, label
from cosma_sched.fusion.topology import Member
from cosma_sched.mapping.layer import Layer
from cosma_sched.mapping.scoring import Words


def words_rules(group: FusedGroup) -> Iterator[Broken]:
    """Yield where the words of a group are not those of its steps."""
    total = sum(_total(step.words) * step.multiplicity for step in group.steps)
    if group.dram_words != total:
        yield "dram_words", f"is {group.dram_words}, its steps move {total}", label(group.layers)


def held_rules(group: FusedGroup, replay: Replay | None, working: Mapping[tuple[str, tuple[int, int, int]], int]) -> Iterator[Broken]:
    """Yield what the scratchpad cannot hold at a step of any tile.

    Parameters
    ----------
    group
        Whose steps have been checked.
    replay
        Its tiles; None for a member by itself.
    working
        For each member and its extents, the most bytes of working tiles.
    """
    names, title = [entry.layer for entry in group.held], label(group.layers)
    if names != [name for name in group.layers if name in set(names)]:
        yield "held", f"names {', '.join(names)}, which is not the order of the members", title
        return
    for entry in group.held:
        if entry.weights_bytes != (replay.resident_bytes if replay is not None else 0):
            yield (
                "held",
                f"weights take {entry.weights_bytes} bytes, recomputed {replay.resident_bytes if replay is not None else 0}",
                entry.layer,
            )
        tiles = {(0, tiles) for (name, _), tiles in working.items() if name == entry.layer}
        if replay is not None:
            tiles = {(maps, working[entry.layer, extents]) for extents, maps in replay.contents(entry.layer)}
        if (entry.maps_bytes, entry.working_bytes) not in tiles:
            yield "held", f"maps of {entry.maps_bytes} and tiles of {entry.working_bytes} bytes stand together in no tile", entry.layer
    most = max((entry.maps_bytes + entry.weights_bytes + entry.working_bytes for entry in group.held), default=0)
    if most != group.peak_bytes:
        yield "held", f"at most {most} bytes, the peak is {group.peak_bytes}", title


def layer_rules(result: FusionResult, members: Mapping[str, Member]) -> Iterator[Broken]:
    """Yield where layers are not the sums of their steps."""
    steps: dict[str, list[GroupStep]] = defaultdict(list)
    for group in result.groups:
        for step in group.steps:
            steps[step.layer].append(step)
    layers = {name: member.layer for name, member in members.items() if member.layer is not None}
    if sorted(entry.name for entry in result.layers) != sorted(layers):
        yield "layers", f"holds {len(result.layers)} entries, the network has {len(layers)} layers, each once", None
        return
    for entry in result.layers:
        for name, right in _expected(layers[entry.name], steps[entry.name]).items():
            if getattr(entry, name) != right:
                yield "layers", f"{name} is {getattr(entry, name)}, recomputed {right}", entry.name
        if entry.mapping not in {step.mapping for step in steps[entry.name]}:
            yield "layers", "its mapping is that of none of its steps", entry.name


def _expected(layer: Layer, steps: Sequence[GroupStep]) -> dict[str, object]:
    """Return what a layer's entry says: costs are those of one of its instances."""

    def share(values: Iterator[int]) -> int:
        return sum(values) // layer.count

    return {
        "count": layer.count,
        "dims": layer.dims,
        "stride": (layer.stride_p, layer.stride_q),
        "repeat": layer.repeat,
        "energy_pj": share(step.energy_pj * step.multiplicity for step in steps),
        "latency_cycles": share(step.latency_cycles * step.multiplicity for step in steps),
        "words": Words(*(share(getattr(step.words, name) * step.multiplicity for step in steps) for name in ("w", "i", "o", "psum"))),
    }


def _total(words: Words) -> int:
    return words.w + words.i + words.o + words.psum
