"""From accelerators to platforms: memories, capacities, routes."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from cosma_sched.accelerator import Accelerator, load_accelerator
from cosma_sched.errors import InputError
from cosma_sched.multicore.platform import OFFCHIP, Platform, Route
from cosma_sched.multicore.platforms import default_capacity_rule, platform_of


def core(name: int | str, size: int = 1000, holds: tuple[str, ...] = ("W", "I", "O"), **facts: Any) -> dict[str, Any]:
    level = {"name": "top", "holds": list(holds), "size_bytes": size, "pj_per_word": 1.0}
    return {"id": name, "array": {"unroll": {"P": 4, "K": 4}, "mac_pj": 1.0}, "levels": [level], **facts}


def dram(*ports: tuple[str, int]) -> dict[str, Any]:
    return {"id": "dram", "offchip": {"ports": [{"direction": way, "bits_per_cycle": rate} for way, rate in ports], "pj_per_word": 80}}


def link(one: int | str, other: int | str, rate: int | None = 32, energy: float = 0.0) -> dict[str, Any]:
    found = {"kind": "link", "cores": [one, other], "pj_per_bit": energy}
    return found if rate is None else {**found, "bits_per_cycle": rate}


def bus(*cores: int | str, rate: int = 128) -> dict[str, Any]:
    return {"kind": "bus", "cores": list(cores), "bits_per_cycle": rate}


def accelerator(cores: list[dict[str, Any]], links: list[dict[str, Any]], shared: list[list[Any]] | None = None) -> Accelerator:
    document = {"schema": "cosma-sched/accelerator/1", "name": "made", "cores": cores, "links": links, "shared_memory": shared or []}
    return Accelerator.from_json(document)


def ways(platform: Platform, source: str, target: str) -> list[tuple[str, ...]]:
    return [route.resources for route in platform.routes.get((source, target), ())]


def test_links_have_a_resource_for_each_direction() -> None:
    platform = platform_of(accelerator([core(0), core(1)], [link(0, 1)]))
    assert (ways(platform, "0", "1"), ways(platform, "1", "0")) == ([("link0:0>1",)], [("link0:1>0",)])


def test_a_bus_and_a_link_between_the_same_cores_are_two_candidates_the_faster_first() -> None:
    platform = platform_of(accelerator([core(0), core(1), core(2)], [link(0, 1), bus(0, 1, 2)]))
    assert platform.routes["0", "1"] == (Route("0", "1", ("bus1",), 128, 0.0, "bus1"), Route("0", "1", ("link0:0>1",), 32))


def test_all_shortest_paths_are_candidates_and_longer_ones_are_not() -> None:
    square = [link(0, 1), link(1, 3), link(0, 2), link(2, 3)]
    platform = platform_of(accelerator([core(i) for i in range(4)], square))
    assert sorted(ways(platform, "0", "3")) == [("link0:0>1", "link1:1>3"), ("link2:0>2", "link3:2>3")]
    assert ways(platform, "0", "1") == [("link0:0>1",)]


def test_at_most_four_candidates_and_every_bus_is_among_them() -> None:
    platform = platform_of(accelerator([core(0), core(1)], [*(link(0, 1, 64 + i) for i in range(5)), bus(0, 1, rate=8)]))
    assert len(platform.routes["0", "1"]) == 4
    assert ("bus5",) in ways(platform, "0", "1")
    assert platform.routes["0", "1"][0].bits_per_cycle == 68


def test_the_slowest_part_of_a_path_sets_its_rate_and_energies_add() -> None:
    platform = platform_of(accelerator([core(0), core(1), core(2)], [link(0, 1, 32, 1.0), link(1, 2, 16, 2.0)]))
    assert platform.routes["0", "2"] == (Route("0", "2", ("link0:0>1", "link1:1>2"), 16, 3.0),)


def test_an_unlimited_link_takes_no_time_and_is_never_busy() -> None:
    route = platform_of(accelerator([core(0), core(1)], [link(0, 1, None)])).routes["0", "1"][0]
    assert (route.resources, route.cycles(10**6)) == ((), 0)


def test_nothing_between_cores_passes_through_the_off_chip_core() -> None:
    platform = platform_of(accelerator([core(0), core(1), dram(("readwrite", 64))], [link(0, "dram"), link(1, "dram")]))
    assert ("0", "1") not in platform.routes
    assert ways(platform, OFFCHIP, "1") == [("link1:dram>1", "port0")]


def test_ports_are_resources_with_their_rate_and_energy() -> None:
    platform = platform_of(accelerator([core(0), dram(("read", 64), ("write", 16))], [bus(0, "dram")]))
    assert platform.routes[OFFCHIP, "0"] == (Route(OFFCHIP, "0", ("bus0", "port0"), 64, 10.0, "bus0"),)
    assert platform.routes["0", OFFCHIP] == (Route("0", OFFCHIP, ("bus0", "port1"), 16, 10.0, "bus0"),)


def test_stream_timing_leaves_ports_out() -> None:
    platform = platform_of(accelerator([core(0), dram(("readwrite", 64))], [bus(0, "dram")]), timing="stream")
    assert platform.routes[OFFCHIP, "0"] == (Route(OFFCHIP, "0", ("bus0",), 128, 10.0, "bus0"),)
    assert platform.resources == ("bus0",)


def test_cores_that_share_memory_are_one_place_with_all_their_links() -> None:
    shared = accelerator([core(0), core(1), dram(("readwrite", 999))], [link(0, "dram"), link(1, "dram")], [[0, 1]])
    platform = platform_of(shared)
    assert platform.shares_memory("0", "1")
    assert len(platform.memories) == 1
    assert ("0", "1") not in platform.routes
    assert ways(platform, OFFCHIP, "0") == ways(platform, OFFCHIP, "1") == [("link0:dram>0", "port0"), ("link1:dram>1", "port0")]


def test_a_core_without_levels_lives_in_the_memory_that_it_shares() -> None:
    vector = {"id": "v", "lanes": 8}
    platform = platform_of(accelerator([vector, core(0)], [], [["v", 0]]))
    assert (platform.capacity("v"), platform.cores["v"].memory) == (1000, "0.top")


def test_the_split_rule_gives_weights_their_own_memory() -> None:
    two = core(0)
    two["levels"] = [
        {"name": "w", "holds": ["W"], "size_bytes": 64, "pj_per_word": 1.0},
        {"name": "io", "holds": ["I", "O"], "size_bytes": 256, "pj_per_word": 1.0},
    ]
    made = accelerator([two], [])
    assert default_capacity_rule(made) == "split"
    apart = platform_of(made)
    assert (apart.cores["0"].weight_memory, apart.memories["0.w"].capacity_bytes, apart.capacity("0")) == ("0.w", 64, 256)
    assert platform_of(made, capacity_rule="unified").cores["0"].weight_memory is None


def test_capacities_may_be_given_for_all_for_one_core_or_for_a_memory() -> None:
    made = accelerator([core(0), core(1), core(2)], [])
    platform = platform_of(made, capacities={"*": 5, "1": 7, "2.top": 9})
    assert [platform.capacity(name) for name in "012"] == [5, 7, 9]


def test_capacities_that_mean_nothing_are_refused_together() -> None:
    with pytest.raises(InputError) as caught:
        platform_of(accelerator([core(0)], []), capacities={"7": 5, "0": -1})
    assert "capacity of 7: no core has this id; ids are 0" in str(caught.value)
    assert "capacity of 0: must be > 0, got -1" in str(caught.value)


def test_a_file_of_one_core_reaches_its_own_dram() -> None:
    platform = platform_of(load_accelerator("gemmini"))
    assert platform.capacity("0") == 256 * 1024
    assert platform.routes[OFFCHIP, "0"] == (Route(OFFCHIP, "0", ("port:0",), 64, 12.5),)


def test_a_mesh_offers_paths_that_share_little() -> None:
    links = [link(4 * r + c, 4 * r + c + 1) for r in range(4) for c in range(3)]
    links += [link(4 * r + c, 4 * r + c + 4) for r in range(3) for c in range(4)]
    found = ways(platform_of(accelerator([core(i) for i in range(16)], links)), "0", "15")
    assert len(found) == 4
    assert not set(found[0]) & set(found[1])


def test_a_platform_can_be_sent_to_another_process() -> None:
    platform = platform_of(load_accelerator("bigquad-b-k"))
    assert pickle.loads(pickle.dumps(platform)) == platform
