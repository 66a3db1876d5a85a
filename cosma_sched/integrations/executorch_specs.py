"""What ExecuTorch asks for, as blocks to be packed: pools, chains of storage, start offsets (memory-planning design, section 13).

Nothing here imports ExecuTorch: a spec is whatever has the attributes of `Spec`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from cosma_sched.errors import Defect, InputError

DEFAULT_POOL = 1
"""Where a spec without a pool lies; pool 0 holds the constants and is not planned."""


class Spec(Protocol):
    """What is read of an ExecuTorch ``TensorSpec``.

    ``lifetime`` holds the first and the last node that touch the tensor, both included. ``mem_id`` is its pool. With a ``storage_base`` it
    lies inside that tensor's bytes, ``storage_base_offset`` from their start. ``allocated_memory`` follows the last ``realign``.
    """

    lifetime: Sequence[int | None]
    mem_id: int | None
    storage_base: Spec | None
    storage_base_offset: int

    @property
    def allocated_memory(self) -> int:
        """Bytes, a multiple of the alignment."""

    def realign(self, new_alignment: int) -> int:
        """Set the alignment; return the bytes."""


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """A spec inside a block: its name, and the distance of its first byte from the block's."""

    spec: Spec
    name: str
    distance: int
    chain: frozenset[int] = field(default_factory=frozenset)
    """Identities of the spec and of all it is backed by."""


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Bytes that are placed as one: a spec that stands on its own, with all specs that lie inside it.

    Parameters
    ----------
    size_bytes
        Bytes of the block's own spec, which hold all others.
    first, last
        Nodes at which any of them lives, both included.
    members
        The block's own spec first.
    """

    size_bytes: int
    first: int
    last: int
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """One arena.

    Parameters
    ----------
    number
        Its ``mem_id``.
    alignment
        Of every offset.
    start_bytes
        Bytes at the bottom that belong to the submodules of control flow, rounded up to the alignment.
    padding_bytes
        Bytes that the arena has above its highest tensor.
    blocks
        What is placed in it.
    """

    number: int
    alignment: int
    start_bytes: int
    padding_bytes: int
    blocks: tuple[Block, ...]


def read_pools(alignment: int, specs: Iterable[Spec], graph_module: Any, extra_padding: int) -> tuple[Pool, ...]:
    """Return the pools that have tensors, in the order of their numbers; every spec is realigned first.

    Raises
    ------
    InputError
        With every defect at once: a tensor without a lifetime, in pool 0, or backed by one that is missing, too small, off the alignment or
        backed by the tensor itself; two tensors that hold the same bytes of a common base at one time.
    """
    own = distinct(specs)
    for spec in own:
        spec.realign(alignment)
    names = _names(own, graph_module)
    chains = {id(spec): _chain(spec) for spec in own}
    defects = [Defect(names[id(spec)], problem) for spec in own for problem in _defects(spec, chains, names, alignment)]
    if defects:
        raise InputError("executorch program", defects)
    families: dict[int, list[Spec]] = {}
    for spec in own:
        families.setdefault(id(chains[id(spec)][-1]), []).append(spec)
    blocks: dict[int, list[Block]] = {}
    for family in families.values():
        number = pool_of(chains[id(family[0])][-1])
        blocks.setdefault(number, []).append(_block(family, chains, names))
    defects = [defect for some in blocks.values() for block in some for defect in _clashes(block)]
    if defects:
        raise InputError("executorch program", defects)
    starts = start_offsets(graph_module)
    return tuple(
        Pool(number, alignment, -(-starts.get(number, 0) // alignment) * alignment, extra_padding, tuple(blocks[number]))
        for number in sorted(blocks)
    )


def distinct(specs: Iterable[Spec]) -> list[Spec]:
    """Return every spec once, by identity: equal fields do not make two tensors one."""
    return list({id(spec): spec for spec in specs}.values())


def pool_of(spec: Spec) -> int:
    """Return the number of the pool that a spec which stands on its own asks for."""
    return DEFAULT_POOL if spec.mem_id is None else spec.mem_id


def start_offsets(graph_module: Any) -> dict[int, int]:
    """Return the bytes at the bottom of each pool that belong to submodules, where there are any."""
    sizes = getattr(graph_module, "input_mem_buffer_sizes", None) or []
    return {number: size for number, size in enumerate(sizes) if size}


def _names(specs: Sequence[Spec], graph_module: Any) -> dict[int, str]:
    """Return a name for each spec by its identity: the first node that carries it, else its place in the list."""
    names: dict[int, str] = {}
    graph = getattr(graph_module, "graph", None)
    # The operator that writes a tensor says more than the allocation before it.
    for node in sorted(getattr(graph, "nodes", ()), key=lambda node: str(node.name).startswith("alloc")):
        carried = node.meta.get("spec")
        for spec in carried if isinstance(carried, list | tuple) else [carried]:
            names.setdefault(id(spec), f'tensor "{node.name}"')
    return {id(spec): names.get(id(spec), f"specs[{index}]") for index, spec in enumerate(specs)}


def _chain(spec: Spec) -> list[Spec]:
    """Return the spec, what backs it, what backs that, and so on; where it comes back to a spec, that one stands at the end twice."""
    chain = [spec]
    while (base := chain[-1].storage_base) is not None:
        chain.append(base)
        if any(base is other for other in chain[:-1]):
            break
    return chain


def _defects(spec: Spec, chains: Mapping[int, Sequence[Spec]], names: Mapping[int, str], alignment: int) -> Iterator[str]:
    """Yield what makes a spec impossible to place."""
    first, last = spec.lifetime
    if first is None or last is None:
        yield "has no lifetime; plan after update_all_tensors_lifetime"
    elif last < first:
        yield f"lifetime must not end before it starts, got [{first}, {last}]"
    base = spec.storage_base
    if base is None:
        if pool_of(spec) < DEFAULT_POOL:
            yield f"mem_id must be >= {DEFAULT_POOL}, got {spec.mem_id}"
        return
    chain = chains[id(spec)]
    if chain[-1].storage_base is not None:
        yield "is backed by itself"
    elif id(base) not in names:
        yield "is backed by a tensor that is not planned here"
    if spec.storage_base_offset < 0 or spec.storage_base_offset % alignment:
        yield f"storage_base_offset must be a multiple of the alignment {alignment} and >= 0, got {spec.storage_base_offset}"
    if spec.storage_base_offset + spec.allocated_memory > base.allocated_memory:
        yield f"{spec.allocated_memory} bytes at {spec.storage_base_offset} leave the {base.allocated_memory} bytes of what backs it"


def _block(family: Sequence[Spec], chains: Mapping[int, Sequence[Spec]], names: Mapping[int, str]) -> Block:
    root = chains[id(family[0])][-1]
    members = []
    for spec in sorted(family, key=lambda spec: len(chains[id(spec)])):
        chain = chains[id(spec)]
        distance = sum(part.storage_base_offset for part in chain[:-1])
        members.append(Member(spec, names[id(spec)], distance, frozenset(map(id, chain))))
    lifetimes = [node for spec in family for node in spec.lifetime if node is not None]
    return Block(root.allocated_memory, min(lifetimes), max(lifetimes), tuple(members))


def _clashes(block: Block) -> Iterator[Defect]:
    """Yield pairs that hold the same bytes of the block at one time although neither backs the other; no placement can part them."""
    for index, one in enumerate(block.members):
        for other in block.members[index + 1 :]:
            if id(one.spec) in other.chain or id(other.spec) in one.chain:
                continue
            in_space = (
                one.distance < other.distance + other.spec.allocated_memory and other.distance < one.distance + one.spec.allocated_memory
            )
            if in_space and _share_time(one.spec, other.spec):
                yield Defect(other.name, f"holds bytes of {block.members[0].name} at the same time as {one.name}")


def _share_time(one: Spec, other: Spec) -> bool:
    """Return whether two specs live at one node; lifetimes include both ends."""
    (first, last), (other_first, other_last) = one.lifetime, other.lifetime
    if first is None or last is None or other_first is None or other_last is None:
        return True
    return first <= other_last and other_first <= last
