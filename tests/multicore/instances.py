"""Schedule problems for the tests: attention heads on the two-core toy, and small random ones with every feature."""

from __future__ import annotations

import random

from cosma_sched.multicore.platform import OFFCHIP, Memory, Platform, PlatformCore, Route
from cosma_sched.multicore.problem import Node, Objective, ScheduleProblem, Semantics, Tile, TileKind

KIB = 1024


def duo(capacities: tuple[int | None, int | None] = (None, None)) -> Platform:
    """Two cores, one bus of 32 B/cycle between them, one read-write port of 16 B/cycle."""
    routes = {(a, b): (Route(a, b, ("bus",), 256, 0.0, "bus"),) for a, b in (("0", "1"), ("1", "0"))}
    routes |= {(OFFCHIP, core): (Route(OFFCHIP, core, ("port",), 128, 1.0),) for core in "01"}
    routes |= {(core, OFFCHIP): (Route(core, OFFCHIP, ("port",), 128, 1.0),) for core in "01"}
    cores = {core: PlatformCore(core, f"core {core}", f"m{core}") for core in "01"}
    memories = {f"m{core}": Memory(f"m{core}", capacity) for core, capacity in zip("01", capacities, strict=True)}
    return Platform("duo", cores, memories, ("bus", "port"), routes, forwarding=False)


def duo_head(m: int, n: int, blocks: int, capacities: tuple[int | None, int | None] = (None, None), **options: object) -> ScheduleProblem:
    """Return an attention head in row blocks on `duo`, softmax in place."""
    b = m // blocks
    tiles = [Tile(f"W{x}", n * n, TileKind.PARAMETER, tensor=f"W{x}") for x in "QKV"]
    tiles += [Tile(f"I[{i}]", b * n, TileKind.INPUT, tensor="I") for i in range(blocks)]
    nodes: list[Node] = []
    tile_of: dict[str, list[int]] = {}
    node_of: dict[str, list[int]] = {}

    def add(layer: str, i: int, macs: int, size: int, reads: list[int], needs: list[int], output: bool = False) -> None:
        tiles.append(Tile(f"{layer}[{i}]", size, TileKind.ACTIVATION, output, layer))
        cycles = {"0": -(-macs // 4096), "1": -(-macs // 1024)}
        nodes.append(Node(f"{layer}.{i}", layer, cycles, {"0": macs, "1": macs}, tuple(reads), tuple(needs), len(tiles) - 1))
        tile_of.setdefault(layer, []).append(len(tiles) - 1)
        node_of.setdefault(layer, []).append(len(nodes) - 1)

    for k, layer in enumerate("QKV"):
        for i in range(blocks):
            add(layer, i, b * n * n, b * n, [k, 3 + i], [])
    for i in range(blocks):
        add("S", i, b * m * n, b * m, [tile_of["Q"][i], *tile_of["K"]], [node_of["Q"][i], *node_of["K"]])
    for i in range(blocks):
        add("A", i, b * m * n, b * n, [tile_of["S"][i], *tile_of["V"]], [node_of["S"][i], *node_of["V"]], True)
    return ScheduleProblem(f"head {m}x{n}/{blocks}", tuple(nodes), tuple(tiles), duo(capacities), **options)  # type: ignore[arg-type]


def random_platform(rng: random.Random, num_cores: int, memories: list[int | None]) -> Platform:
    """Return cores joined by links or a bus, and a port that is on the bus, shared, or two ports."""
    ids = [str(k) for k in range(num_cores)]
    cores = {c: PlatformCore(c, c, f"m{c}") for c in ids}
    routes: dict[tuple[str, str], tuple[Route, ...]] = {}
    on_bus = rng.random() < 0.5
    rate = rng.choice([4, 8, 8, 16])
    port_rate = rng.choice([4, 8, 8, 16])
    dual = rng.random() < 0.3
    resources = ["bus"] if on_bus else []
    read, write = ("read", "write") if dual else ("port", "port")
    resources += sorted({read, write})
    for a in ids:
        for b in ids:
            if a != b:
                if on_bus:
                    routes[a, b] = (Route(a, b, ("bus",), rate, 0.1, "bus"),)
                else:
                    resources.append(f"{a}>{b}")
                    routes[a, b] = (Route(a, b, (f"{a}>{b}",), rate, 0.1),)
        shared = on_bus and rng.random() < 0.5
        extra = ("bus",) if shared else ()
        slow = min(rate, port_rate) if shared else port_rate
        routes[OFFCHIP, a] = (Route(OFFCHIP, a, (*extra, read), slow, 2.0, "bus" if shared else None),)
        routes[a, OFFCHIP] = (Route(a, OFFCHIP, (*extra, write), slow, 2.0),)
    pool = {f"m{c}": Memory(f"m{c}", size) for c, size in zip(ids, memories, strict=True)}
    return Platform("random", cores, pool, tuple(resources), routes)


def random_problem(
    seed: int, *, max_nodes: int = 5, max_cycles: int = 4, semantics: Semantics | None = None, objective: Objective = Objective.LATENCY
) -> ScheduleProblem:
    """Return a random problem of a few nodes on 2-3 unequal cores with tight memory; a schedule exists wherever every node fits a core."""
    rng = random.Random(seed)
    num_cores, num_nodes = rng.choice([2, 2, 3]), rng.randint(2, max_nodes)
    tiles = [Tile(f"w{k}", rng.randint(1, 3), TileKind.PARAMETER) for k in range(rng.randint(0, 2))]
    tiles += [Tile(f"i{k}", rng.randint(1, 3), TileKind.INPUT) for k in range(rng.randint(1, 2))]
    outside = len(tiles)
    nodes: list[Node] = []
    ids = [str(k) for k in range(num_cores)]
    writer: dict[int, list[int]] = {}
    read_so_far: set[int] = set()
    for k in range(num_nodes):
        made = list(range(outside, len(tiles)))
        reads = set(rng.sample(made, min(len(made), rng.choice([0, 1, 1, 2]))))
        if rng.random() < 0.7 or not reads:
            reads.add(rng.randrange(outside))
        needs = {node for tile in reads for node in writer.get(tile, ())}
        if made and k and rng.random() < 0.15 and made[-1] not in reads and made[-1] not in read_so_far:
            target = made[-1]
            needs |= set(writer[target])
            allowed = sorted(nodes[writer[target][0]].cycles)
        else:
            target = len(tiles)
            tiles.append(Tile(f"t{k}", rng.randint(1, 3), TileKind.ACTIVATION))
            allowed = sorted(rng.sample(ids, rng.randint(1, num_cores))) if rng.random() < 0.25 else ids
        read_so_far |= reads
        if made and rng.random() < 0.15:
            needs.add(rng.randrange(k))
        cycles = {c: rng.randint(1, max_cycles) for c in allowed}
        energy = {c: rng.randint(1, 9) for c in allowed}
        writer.setdefault(target, []).append(k)
        nodes.append(Node(f"n{k}", "layer", cycles, energy, tuple(sorted(reads)), tuple(sorted(needs)), target))
    tiles = [
        Tile(t.name, t.size_bytes, t.kind, t.kind is TileKind.ACTIVATION and (p not in read_so_far or rng.random() < 0.1))
        for p, t in enumerate(tiles)
    ]
    footprint = {c: [sum(tiles[t].size_bytes for t in {*n.reads, n.writes}) for n in nodes if c in n.cycles] for c in ids}
    sizes: list[int | None] = [max(footprint[c], default=1) + rng.choice([0, 0, 1, 2, 4]) for c in ids]
    return ScheduleProblem(
        f"random {seed}", tuple(nodes), tuple(tiles), random_platform(rng, num_cores, sizes), semantics or Semantics(), objective
    )


def spilling_problem(seed: int) -> ScheduleProblem:
    """Return a random problem of up to five nodes whose best schedule often spills: old tiles are read late, memory has no slack.

    Most nodes run on core 0 only, so that going elsewhere is no way out.
    """
    rng = random.Random(f"spill {seed}")
    num_cores, num_nodes = rng.choice([2, 2, 3]), rng.randint(4, 5)
    ids = [str(k) for k in range(num_cores)]
    tiles = [Tile("w", rng.randint(1, 2), TileKind.PARAMETER), Tile("i", rng.randint(1, 2), TileKind.INPUT)]
    nodes: list[Node] = []
    last_reader: dict[int, int] = {}
    for k in range(num_nodes):
        made = list(range(2, len(tiles)))
        reads = {rng.randrange(2)} if k < 2 or rng.random() < 0.4 else set()
        if k >= 2:
            reads.add(made[-1] if k < num_nodes - 1 else made[0])
        if k == num_nodes - 1 and rng.random() < 0.3:
            reads.add(made[-1])
        size = rng.randint(1, 2) if k in (0, num_nodes - 1) else rng.randint(3, 5)
        tiles.append(Tile(f"t{k}", size, TileKind.ACTIVATION))
        allowed = ids if rng.random() < 0.1 else ["0"]
        cycles = {c: rng.randint(1, 4) for c in allowed}
        needs = tuple(sorted(t - 2 for t in reads if t >= 2))
        last_reader |= dict.fromkeys(reads, k)
        nodes.append(Node(f"n{k}", "layer", cycles, dict.fromkeys(allowed, 1), tuple(sorted(reads)), needs, len(tiles) - 1))
    tiles = [Tile(t.name, t.size_bytes, t.kind, t.kind is TileKind.ACTIVATION and p not in last_reader) for p, t in enumerate(tiles)]
    footprint = {c: [sum(tiles[t].size_bytes for t in {*n.reads, n.writes}) for n in nodes if c in n.cycles] for c in ids}
    sizes: list[int | None] = [max(footprint[c], default=1) for c in ids]
    return ScheduleProblem(f"spilling {seed}", tuple(nodes), tuple(tiles), random_platform(rng, num_cores, sizes))
